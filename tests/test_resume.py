"""Long runs on the command line: interrupted, killed, taken up again, spread over processes; the result is that of a run left alone."""

import importlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import command_line
import pytest
import tiny_faces
import torch
from safetensors.torch import load_file

command = importlib.import_module("repairkit.experiments.fairness.experiment")
QUICK = shlex.split("--size 32 --budget 700 --top-k 4 --strategy top-k --max-filters 2 --max-accuracy-drop 1 --threads 1")
PARTS = ("evaluation", "calibration", "stability", "attribution", "choosing")


def arguments(folder, *more):
    data = ["--data", folder / "target.csv", "--source-data", folder / "source.csv"]
    given = ["fairness", "--model", tiny_faces.spoilt_weights(), "--compare-model", "none", *data, *QUICK, *more]
    return [str(each) for each in given]


@pytest.fixture
def call(monkeypatch):
    """Runs a command as `repairkit ARGUMENTS` would; with `stop`, `(part, what, count)`, Ctrl-C comes at that moment.

    Gives the exit code, stderr and what was told of the progress, as (part, what at work).
    """

    def run(given, stop=None):
        told = []

        class Reporter:
            @contextmanager
            def running(self):
                yield self

            def __call__(self, what, _made, _planned):
                what = what.removeprefix("repaired: ")
                part = what if what.split(": ")[-1] in PARTS else told[-1][0]
                told.append((part, what))
                if stop and told[-1] == stop[:2] and told.count(stop[:2]) == stop[2]:
                    raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("repairkit.cli.runner.Reporter", Reporter)
            patch.setattr(sys, "argv", ["repairkit", *given])
            code, _, stderr = command_line.call(*given)
        return code, stderr, told

    return run


def to_go_on(stderr):
    """The arguments of the command that the last line names."""
    found = re.fullmatch(r"what was done so far is kept; to go on: repairkit (.*)", stderr.splitlines()[-1])
    assert found, stderr
    return shlex.split(found[1])


def same(out, whole):
    """All that a run leaves behind is the same, but for times and the command."""
    files = [file.relative_to(whole) for kind in ("attribution.parquet", "patch.json") for file in whole.rglob(kind)]
    assert files
    for file in files:
        assert (out / file).read_bytes() == (whole / file).read_bytes(), file
    weights, expected = (load_file(folder / "repaired.safetensors") for folder in (out, whole))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    results = []
    for folder in (out, whole):
        result = json.loads((folder / "result.json").read_text())
        assert "--resume" not in result["reproduction"]["command"]
        del result["created"], result["reproduction"]["command"], result["reproduction"]["minutes"]
        for cost in result["costs"]:
            del cost["seconds"]
        results.append(result)
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory):
    """A run of one network that was left alone."""
    out = tmp_path_factory.mktemp("whole") / "run"
    code, _, stderr = command_line.call(*arguments(faces, "--out", out))
    assert code in (0, 1), stderr
    return out


RECIPE = """
command = "fairness"
title = "A recipe"
size = 32
model = "{model}"
dropout_model = "{rival}"
[target]
name = "{folder}/target.csv"
[source]
name = "{folder}/source.csv"
[options]
score = "hard"
budget = 800
top = 2
strategy = "prefix"
max_filters = 2
max_clean_drop = 1.0
curve = [1]
stability = true
"""


def test_interrupted_again_and_again_it_comes_to_the_same_end(faces, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = RECIPE.format(folder=faces, model=tiny_faces.spoilt_weights(), rival=tiny_faces.DROPOUT_STAND_IN)
    (tmp_path / "my tiny.toml").write_text(recipe)
    given = ["run", "my tiny.toml", "--threads", "1", "--seed", "2"]
    rival = "dropout repaired"
    stops = [
        (("stability", "flips", 2), {"half-1.npz"}),
        (("attribution", "screen", 1), {"half-1.npz", "half-2.npz", "attribution.npz"}),
        (("choosing", "choosing", 2), {"half-1.npz", "half-2.npz", "attribution.npz"}),
        (
            (f"{rival}: attribution", f"{rival}: flips", 1),
            {"half-1.npz", "half-2.npz", "attribution.npz", "choice.json", "choice.spent.json"},
        ),
    ]
    rest = given
    for stop, files in stops:
        code, stderr, told = call(rest, stop)
        assert code == 130, stderr
        assert stderr.splitlines()[-2] == "interrupted"
        rest = to_go_on(stderr)
        # the place that the first session chose by the clock is named, and stays
        (kept,) = Path("reports").iterdir()
        assert re.fullmatch(r"my tiny-\d{8}-\d{6}.unfinished", kept.name)
        assert rest == [*given, "--out", str(kept).removesuffix(".unfinished"), "--resume"]
        names = {file.name for file in (kept / "repaired-fold-1").iterdir()}
        steps = {name for name in names if name.startswith("choosing-")}
        assert (names - steps, bool(steps)) == (files, stop[0] in ("choosing", f"{rival}: attribution"))
    # what was finished is not made again
    assert not any(what in ("screen", "flips") for _, what in told)

    def full(out, *_, **__):
        raise OSError(28, "No space left on device", str(out))

    with monkeypatch.context() as patch:
        patch.setattr("repairkit.experiments.results.write_runs", full)
        code, stderr, _ = call(rest)
    assert (code, to_go_on(stderr)) == (3, rest)
    assert "error: [Errno 28] No space left on device" in stderr.splitlines()[-2]
    code, stderr, told = call(rest)
    assert code in (0, 1), stderr
    assert not any(what.endswith(("screen", "flips")) for _, what in told)
    assert call([*given, "--out", "whole"])[0] == code
    (out,) = Path("reports").iterdir()
    same(out, Path("whole"))
    # the time of all sessions counts
    seconds, alone = (
        {cost["part"]: cost["seconds"] for cost in json.loads((folder / "result.json").read_text())["costs"]}
        for folder in (out, Path("whole"))
    )
    for part in ("attribution", "stability"):
        assert seconds[part] > alone[part] / 4


def test_killed_without_warning(faces, whole, tmp_path, call):
    out, kept = tmp_path / "run", tmp_path / "run.unfinished"
    given = arguments(faces, "--out", out)
    with subprocess.Popen([sys.executable, "-m", "repairkit", *given], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not (kept / "repaired-fold-1" / "attribution.npz").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    assert call(given)[:2] == (
        2,
        f"error: {kept} holds the work of a run that did not finish; go on with it by --resume, or remove it to begin anew\n",
    )
    code, stderr, told = call([*given, "--resume"])
    assert code in (0, 1), stderr
    assert not any(what in ("screen", "flips") for _, what in told)
    same(out, whole)
    assert not kept.exists()


def test_two_workers_find_what_one_finds(faces, whole, tmp_path, call):
    code, stderr, told = call(arguments(faces, "--workers", "2", "--out", tmp_path / "run"))
    assert code in (0, 1), stderr
    assert ("attribution", "flips") in told
    same(tmp_path / "run", whole)


@pytest.fixture(scope="module")
def begun(faces, tmp_path_factory):
    """The unfinished work of a run that was interrupted, not to be changed."""
    out = tmp_path_factory.mktemp("begun") / "run"
    with pytest.MonkeyPatch.context() as patch:

        def interrupted(*_, **__):
            raise KeyboardInterrupt

        patch.setattr("repairkit.repair.choosing.choose", interrupted)
        assert command_line.call(*arguments(faces, "--out", out))[0] == 130
    return out


@pytest.mark.parametrize(("given", "expected"), [([], 3), (["--threads", "2"], 2)])
def test_a_run_goes_on_with_the_threads_it_began_with(faces, begun, tmp_path, call, monkeypatch, given, expected):
    """Whatever the machine's load is now; other threads give other last bits."""
    shutil.copytree(begun.with_name("run.unfinished"), tmp_path / "run.unfinished")
    record = tmp_path / "run.unfinished" / "run.json"
    record.write_text(record.read_text().replace('"threads": 1', '"threads": 3'))
    threads = [8]
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr("repairkit.cli.processes.free_cores", lambda: 1)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "repair", interrupted)
    asked = arguments(faces, "--out", tmp_path / "run", "--resume")
    asked[asked.index("--threads") : asked.index("--threads") + 2] = given
    code, stderr, _ = call(asked)
    assert threads == [8, expected]
    assert "cores free" not in stderr
    assert code == (130 if expected == 3 else 2), stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--seed", "1"], "seed 0, this run has seed 1;"),
        (["--budget", "701"], "budget 700.0, this run has budget 701.0;"),
        (["--min-live", "auto"], "t0 0.97, this run has t0 auto;"),
        (["--stability"], "stability False, this run has stability True;"),
        (["--threads", "2"], "threads 1, this run has threads 2;"),
        (["--model", tiny_faces.STAND_IN], "model [0-9a-f]{16}, this run has model [0-9a-f]{16};"),
        (["--compare-model", tiny_faces.DROPOUT_STAND_IN], "dropout model None, this run has dropout model [0-9a-f]{16};"),
        (["--size", "56"], "source images [0-9a-f]{16}, this run has source images [0-9a-f]{16};"),
    ],
)
def test_another_configuration_is_refused_by_the_key_that_differs(faces, begun, call, monkeypatch, changes, message):
    monkeypatch.setattr(command, "repair", lambda *_, **__: pytest.fail("work began"))
    if changes[0] == "--threads":  # other tests of this process keep their one thread
        monkeypatch.setattr("torch.get_num_threads", lambda: 2)
        changes = []
    before = {file: file.read_bytes() for file in begun.parent.rglob("*") if file.is_file()}
    code, stderr, _ = call([*arguments(faces, "--out", begun, "--resume"), *map(str, changes)])
    assert code == 2
    assert re.search(rf"error: .*run.unfinished was made with {message} go on with the same configuration, or remove it", stderr), stderr
    assert {file: file.read_bytes() for file in begun.parent.rglob("*") if file.is_file()} == before


def test_a_run_that_was_killed_when_it_was_already_whole_is_called_finished(faces, whole, tmp_path, call):
    """Its unfinished work is then still there; to remove the result in order to go on would lose it."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (tmp_path / "run.unfinished").mkdir()
    code, stderr, told = call(arguments(faces, "--out", out, "--resume"))
    assert (code, told) == (2, [])
    assert re.search(r"the run at .*run is finished; read its report.html, and remove .*run.unfinished if that is", stderr), stderr


def test_other_labels_or_groups_are_other_images(faces, begun, tmp_path, call):
    for file in ("target.csv", "source.csv"):
        (tmp_path / file).write_text((faces / file).read_text().replace(f"{file[:-4]}/", f"{faces}/{file[:-4]}/"))
    lines = (tmp_path / "target.csv").read_text().splitlines()
    swapped = {"male": "female", "female": "male"}
    lines[1] = re.sub(r",((?:fe)?male),", lambda found: f",{swapped[found[1]]},", lines[1])
    (tmp_path / "target.csv").write_text("\n".join(lines))
    code, stderr, _ = call(arguments(tmp_path, "--out", begun, "--resume"))
    assert (code, "was made with target images" in stderr) == (2, True), stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--resume"], "--resume needs to know the run: give the --out that the unfinished run was to have"),
        (
            ["--resume", "--out", "nowhere"],
            "there is no unfinished run at .*nowhere.unfinished to go on with; check --out, or leave --resume out",
        ),
        (
            ["--workers", "2", "--engine", "tmab-paper"],
            "tmab-paper goes on from permutation to permutation and takes one process, got --wor",
        ),
        (["--workers", "0"], "--workers"),
    ],
)
def test_what_cannot_be_gone_on_with_or_spread(faces, tmp_path, monkeypatch, call, more, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.zoo, "load", lambda *_, **__: pytest.fail("work began"))
    code, stderr, _ = call(arguments(faces, *more))
    assert code == 2
    assert re.search(message, stderr), stderr
    assert list(tmp_path.iterdir()) == []


def test_unfinished_work_that_cannot_be_read(faces, begun, tmp_path, call):
    out = tmp_path / "run"
    (tmp_path / "run.unfinished").mkdir()
    for content in ("", "{}"):
        (tmp_path / "run.unfinished" / "run.json").write_text(content)
        code, stderr, _ = call(arguments(faces, "--out", out, "--resume"))
        assert code == 3
        assert re.search(r"error: expected .* of an unfinished run at .*run.json.*; remove .*run.unfinished to begin anew", stderr), stderr
