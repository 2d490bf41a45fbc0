"""The command line: what it prints where, what it leaves behind, and its exit codes."""

import importlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_faces
import torch
from PIL import Image
from report_example import example_result
from safetensors.torch import load_file, save_file
from tiny_faces import DROPOUT_STAND_IN, STAND_IN
from torchvision.models import squeezenet1_0
from typer.testing import CliRunner

from repairkit import __version__
from repairkit.cli import app
from repairkit.cli.console import show_result, show_warning
from repairkit.errors import DataWarning, ModelWarning
from repairkit.models import zoo
from repairkit.report.result import Result

command = importlib.import_module("repairkit.cli.fairness")  # the package's attribute of that name is the function
training_command = importlib.import_module("repairkit.cli.train")
README = Path(__file__).parent.parent / "README.md"
QUICK = ["--size", "48", "--budget", "700", "--top", "4", "--max-filters", "2", "--max-clean-drop", "1", "--threads", "1"]


def call(*arguments):
    """Exit code, stdout and stderr of a command; anything but a clean exit is a failure of the test."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def fairness(folder, *more, model=None):
    model = model or tiny_faces.spoilt_weights()
    data = ["--data", folder / "target.csv", "--source-data", folder / "source.csv"]
    return call("fairness", "--model", model, "--dropout-model", "none", *data, *QUICK, *more)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Two manifests of drawn faces, not to be changed."""
    folder = tmp_path_factory.mktemp("faces")
    for name, images in (("target", tiny_faces.target()), ("source", tiny_faces.source())):
        tiny_faces.write_manifest(folder, images, name)
    return folder


@pytest.fixture(scope="module")
def finished(faces, tmp_path_factory):
    """A run that was made once: exit code, stdout, stderr, directory."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPAIRKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return *fairness(faces, "--json", "--out", out), out


@pytest.fixture
def own_faces(faces, tmp_path):
    """The same manifests, to be spoilt."""
    folder = tmp_path / "own"
    folder.mkdir()
    for file in ("target.csv", "source.csv"):
        text = (faces / file).read_text()
        (folder / file).write_text(text.replace("target/", f"{faces}/target/").replace("source/", f"{faces}/source/"))
    return folder


def one_error(code, stdout, stderr, *, expected, message):
    """Exactly one line of error that names the thing, and no data."""
    assert code == expected, stderr
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors[0]
    assert stderr.endswith(errors[0] + "\n")
    assert "Traceback" not in stderr
    assert stdout == ""


# ---- a run that ends well


def test_json_is_alone_on_stdout(finished):
    code, stdout, stderr, out = finished
    result = Result.read(out / "result.json")
    assert Result.model_validate_json(stdout) == result
    assert json.loads(stdout) == json.loads((out / "result.json").read_text())
    assert code == (0 if result.verdict.outcome in ("repaired", "no better than the threshold") else 1)
    assert result.target == f"target, {len(tiny_faces.target())} images"
    # talk is on stderr, and ends with where to look and what to do next
    assert f"report: {out / 'report.html'}" in stderr
    next_step = f"repairkit apply {out / 'patch.json'} --weights" if code == 0 else "no repair was worth making"
    assert next_step in stderr


def test_notices_come_before_anything_else(faces):
    code, stdout, stderr = fairness(faces, "--dry-run", model="squeezenet_celeba")
    assert code == 0
    assert "several classes" not in stderr
    assert re.match(r"note: Stand-in for squeezenet_celeba: .* trained on drawn faces and not on CelebA", stderr)
    assert "note" not in stdout


def test_a_normalisation_that_nobody_gave_is_told_of(faces, tmp_path, monkeypatch):
    torch.save(zoo.read_weights(STAND_IN)[0], tmp_path / "state.pt")
    handed = []

    def ended(task, *_, notices, **__):
        handed.append((notices, task.model.classifier.mean.flatten().tolist()))
        return example_result()

    monkeypatch.setattr(command, "repair", lambda *_, **__: None)
    monkeypatch.setattr(command, "summarise", ended)
    monkeypatch.setattr(command, "write_fairness_run", lambda out, *_: out.mkdir())
    arguments = ["--weights", tmp_path / "state.pt", "--out"]
    stderr = fairness(faces, *arguments, tmp_path / "a", model="squeezenet1_0")[-1]
    told = "state.pt does not say how images are normalised for its network, so ImageNet's mean and standard deviation were taken"
    assert f"note: {told}" in stderr
    assert handed[0][0][0].startswith(told)  # the report has it too
    stderr = fairness(faces, *arguments, tmp_path / "b", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", model="squeezenet1_0")[-1]
    assert "normalised" not in stderr
    assert handed[1] == ([], [0.5, 0.5, 0.5])


def test_groups_that_mix_classes_are_named(own_faces):
    target = own_faces / "target.csv"
    target.write_text(target.read_text().replace("darker women", "darker").replace("darker men", "darker"))
    code, _, stderr = fairness(own_faces, "--dry-run")
    assert code == 0
    assert "note: Of the groups of target, darker holds several classes, so its recall is its accuracy; a group column that names" in stderr


def test_a_rival_of_another_training_is_not_compared_with(faces, monkeypatch):
    def rival(**changes):
        loaded = zoo.load("squeezenet_celeba")
        return command.rival_of(replace(loaded, **changes), "squeezenet_celeba", None, classes=("female", "male"), device="cpu")

    told = []
    monkeypatch.setattr(command, "say", told.append)
    assert rival().stand_in
    assert told == []
    assert rival(stand_in=False) is None
    assert told == [
        "note: no dropout-trained network of the same training is at hand, so none is compared with; name one with --dropout-model"
    ]


def test_a_run_is_a_whole_directory(finished):
    out = finished[-1]
    assert [entry.name for entry in out.parent.iterdir()] == ["run"]
    for name in ("run.json", "report.html", "report.md", "patch.json", "repaired.safetensors", "attribution.parquet"):
        assert (out / name).stat().st_size > 0
    network = squeezenet1_0(num_classes=2)
    network.load_state_dict(load_file(out / "repaired.safetensors"), strict=True)


def test_dry_run_prints_the_plan_and_writes_nothing(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "repair", lambda *_, **__: pytest.fail("a dry run repairs nothing"))
    plan = json.loads(fairness(faces, "--dry-run", "--folds", "3", "--json")[1])
    assert plan["passes"]["attribution"] == 3 * 700
    assert plan["minutes"] == pytest.approx(sum(plan["passes"].values()) / plan["passes_a_second"] / 60)
    code, stdout, _ = fairness(faces, "--dry-run", "--folds", "3")
    assert code == 0
    passes = {
        match[1].strip(): float(match[2].replace(",", "")) for match in re.finditer(r"^([a-z ]+?) +([\d,]+) image passes", stdout, re.M)
    }
    assert set(passes) == {"calibration", "attribution", "choosing", "evaluation", "in all"}
    assert passes["attribution"] == 3 * 700
    assert passes["in all"] == pytest.approx(sum(passes.values()) - passes["in all"], abs=3)
    assert "3 fold(s)" in stdout
    assert re.search(r"about \d+ minutes at [\d,]+ passes a second", stdout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("outcome", "expected"), [("repaired", 0), ("no better than the threshold", 0), ("no claim", 1), ("no repair", 1)])
def test_exit_code_says_what_came_of_it(faces, tmp_path, monkeypatch, outcome, expected):
    result = example_result()
    result = result.model_copy(update={"verdict": result.verdict.model_copy(update={"outcome": outcome})})
    monkeypatch.setattr(command, "repair", lambda *_, **__: None)
    monkeypatch.setattr(command, "summarise", lambda *_, **__: result)
    monkeypatch.setattr(command, "write_fairness_run", lambda out, *_: out.mkdir())
    code, stdout, _ = fairness(faces, "--out", tmp_path / "run")
    assert code == expected
    assert stdout.startswith(result.verdict.headline)


def test_default_place_is_reports(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "repair", lambda *_, **__: None)
    monkeypatch.setattr(command, "summarise", lambda *_, **__: example_result())
    monkeypatch.setattr(command, "write_fairness_run", lambda out, *_: out.mkdir(parents=True))
    fairness(faces)
    (made,) = (tmp_path / "reports").iterdir()
    assert re.fullmatch(r"fairness-spoilt-\d{8}-\d{6}", made.name)


def test_integer_labels_and_class_names_of_other_weights(own_faces, tmp_path):
    """A plain state dict says neither its architecture nor its classes: the command does."""
    for name in ("target.csv", "source.csv"):
        text = (own_faces / name).read_text()
        (own_faces / name).write_text(text.replace(",female,", ",woman,").replace(",male,", ",1,"))
    torch.save(zoo.read_weights(STAND_IN)[0], tmp_path / "state.pt")
    arguments = ["--weights", tmp_path / "state.pt", "--dry-run"]
    code, stdout, _ = fairness(own_faces, *arguments, "--classes", "woman,man", model="squeezenet1_0")
    assert (code, "squeezenet1_0, 1 fold(s)" in stdout) == (0, True)
    one_error(
        *fairness(own_faces, *arguments, model="squeezenet1_0"), expected=3, message=r"the label 'woman' in row \d is none of the 2 cl"
    )


# ---- what the user sees


def test_table_shows_every_share_whole(capsys):
    result = example_result()
    tricky = {"lighter men": "[b]lighter[/b] men"}
    result = result.model_copy(
        update={
            "groups": [tricky.get(group, group) for group in result.groups],
            "shares": [share.model_copy(update={"group": tricky.get(share.group, share.group)}) for share in result.shares],
        }
    )
    show_result(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == result.verdict.headline
    for column in result.columns:
        assert any(column.label in line for line in lines)
    for group in result.groups:
        (line,) = [line for line in lines if line.strip().startswith(group)]
        for column in result.columns:
            share = result.share(column.key, "recall", group)
            assert f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]" in line


def test_warnings_are_one_line(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", show_warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show_warning
        warnings.warn("3 files were skipped", DataWarning, stacklevel=1)
    assert capsys.readouterr() == ("", "warning: 3 files were skipped\n")


def test_version_and_help():
    assert call("--version") == (0, f"{__version__}\n", "")
    code, stdout, _ = call("--help")
    assert code == 0
    for name in ("fairness", "apply", "train", "run", "report"):
        assert name in stdout
        assert call(name, "--help")[0] == 0


def test_options_that_the_readme_shows_exist(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    lines = README.read_text().replace("\\\n", " ")
    shown = re.findall(r"repairkit (fairness|apply|train|run|report)\b([^`|#\n]*)", lines)
    assert {name for name, _ in shown} >= {"fairness", "apply", "train", "report"}
    for name, arguments in shown:
        known = call(name, "--help")[1]
        for option in re.findall(r"--[a-z-]+", arguments):
            assert option in known, (name, option)


BEYOND_64_BITS = str(2**63)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["fairness", "--no-such-option"],
        ["fairness", "--budget", "much"],
        ["apply"],
        ["fairness", "--seed", BEYOND_64_BITS],
        ["train", "--out", "x.safetensors", "--seed", BEYOND_64_BITS],
        ["run", "x.toml", "--seed", BEYOND_64_BITS],
        ["run", "x.toml", "--training-seed", BEYOND_64_BITS],
    ],
)
def test_usage_is_exit_code_2(arguments):
    code, _, stderr = call(*arguments)
    assert code == 2
    assert "Traceback" not in stderr


# ---- bad input: one line, the right exit code, nothing half-written


def spoil_label(folder, label="alien"):
    lines = (folder / "target.csv").read_text().splitlines()
    lines[1] = re.sub(r",(fe)?male,", f",{label},", lines[1])
    (folder / "target.csv").write_text("\n".join(lines))


def add_row(folder, row):
    with (folder / "target.csv").open("a") as stream:
        stream.write(row + "\n")


def rare_group(folder):
    path = (folder / "target.csv").read_text().splitlines()[1].split(",")[0]
    add_row(folder, f"{path},male,rare")


def undecodable(folder):
    (folder / "broken.png").write_bytes(b"no image")
    add_row(folder, f"{folder}/broken.png,male,darker men")


DATA = {
    "label": (spoil_label, "the label 'alien' in row 1 is none of the 2 classes female, male .*; correct the label"),
    "integer label": (lambda folder: spoil_label(folder, "2"), "the label '2' in row 1 is none of the 2 classes"),
    "empty subgroup": (rare_group, r"target: the \w+ part has no image of subgroup 'rare' \(1 in all\); add images"),
    "no image": (lambda folder: add_row(folder, "gone.png,male,darker men"), "the image gone.png of row 65 is not in .*; correct the path"),
    "undecodable": (undecodable, "cannot decode the image .*broken.png .*; replace the file"),
    "no manifest": (lambda folder: (folder / "target.csv").unlink(), "expected a CSV or Parquet file at .*target.csv, found nothing"),
    "overlap": (lambda folder: (folder / "target.csv").write_text((folder / "source.csv").read_text()), "target and source share 60 image"),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_does_not_fit(own_faces, tmp_path, case):
    spoil, message = DATA[case]
    spoil(own_faces)
    one_error(*fairness(own_faces, "--out", tmp_path / "runs" / "run"), expected=3, message=message)
    assert not (tmp_path / "runs").exists()


def of_another_shape(path):
    state = load_file(STAND_IN)
    state["classifier.1.weight"] = state["classifier.1.weight"].repeat(2, 1, 1, 1)
    save_file(state, path)


def not_finite(path):
    state = load_file(STAND_IN)
    state["features.0.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, path)


def overflowing(path):
    state = {key: tensor.float() for key, tensor in load_file(STAND_IN).items()}
    state["features.0.weight"] *= 1e38
    save_file(state, path)


class Anything:
    pass


WEIGHTS = {
    "shape.safetensors": (of_another_shape, r"classifier.1.weight has shape \(4, 512, 1, 1\), expected \(2, 512, 1, 1\); check the arch"),
    "other.safetensors": (lambda path: save_file({"a": torch.zeros(1)}, path), "features.0.weight is missing; expected the weights of Squ"),
    "pickle.pt": (lambda path: path.write_bytes(pickle.dumps(Anything())), "is a pickle, which may run code .* refused; convert"),
    "text.safetensors": (lambda path: path.write_text("no weights"), "cannot be read as safetensors .*; fetch or write it again"),
    "nan.safetensors": (not_finite, "features.0.weight holds NaN or infinite weights; this checkpoint cannot be used"),
    "overflow.safetensors": (overflowing, "target.*: .* logits are NaN or infinite, expected finite numbers; check the weights"),
    "none.safetensors": (lambda path: None, "expected weights at .*none.safetensors, found no file; check the path"),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_weights_that_do_not_fit(faces, tmp_path, name, more):
    make, message = WEIGHTS[name]
    make(tmp_path / name)
    done = fairness(faces, "--weights", tmp_path / name, "--out", tmp_path / "run", *more, model="squeezenet_celeba")
    one_error(*done, expected=3, message=message)
    assert [entry.name for entry in tmp_path.iterdir()] in ([name], [])


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        ("--budget 10", 2, r"the budget of 10 image passes is too small: tmab needs at least [\d,]+ here; give a larger --budget"),
        ("--budget 500 --engine monte-carlo", 2, "does not pay one permutation of 2976 players .* larger --budget or use the engine tmab"),
        ("--budget inf", 2, "budget must be a positive number of image passes, got inf"),
        ("--mean grey --std 1,1,1", 2, "--mean must be three numbers by commas such as 0.5,0.5,0.5, got 'grey'"),
        ("--mean 0.5,0.5,0.5", 2, "expected mean and std together, got one of them"),
        ("--mean 0.5,0.5,0.5 --std 1,1,1", 2, "spoilt.safetensors says that its mean is .*; leave --mean and --std out"),
        ("--engine magic", 2, "engine must be 'tmab' or 'tmab-paper' or 'monte-carlo', got 'magic'"),
        ("--ranking best", 2, "ranking must be .*, got 'best'"),
        ("--score soft", 2, "score must be 'smooth' or 'hard', got 'soft'"),
        ("--strategy backward", 2, "strategy must be 'forward' or 'prefix', got 'backward'"),
        ("--freeze-at mid", 2, "freeze_at must be 'post' or 'pre', got 'mid'"),
        ("--device tpu", 2, "device must be cpu or cuda, got 'tpu'"),
        ("--folds 2", 2, "folds must be 1 or at least 3 .*, got 2"),
        ("--folds 30", 3, "target: part 1 of 30 has no image of subgroup"),
        ("--crop big", 2, "expected a crop as SHARE,HEIGHT such as 0.75,0.42, got 'big'"),
        ("--data faces", 2, "expected a data set, one of drawn, ppb, utkface, celeba or a .csv or .parquet manifest, got 'faces'"),
        ("--data ppb", 2, "the data set ppb needs its folder: give --data-root"),
        (
            "--data ppb --data-root nowhere",
            3,
            "ppb: expected a folder at nowhere holding .*, found nothing|PPB: expected a folder at nowhere",
        ),
        ("--model alexnet", 3, "alexnet comes without weights; give a file of them with --weights FILE"),
        ("--model mymodel", 3, "no model is called 'mymodel'; give one of squeezenet_celeba"),
        ("--dropout-model mymodel", 3, "no model is called 'mymodel'"),
        ("--truncation 0.5", 2, "tmab truncates by size, not by worth: give t0 in place of truncation"),
        ("--top 2976", 2, "top must be less than the 2976 filters of the network, got 2976"),
        ("--t0 often", 2, "t0 must be a number from 0 to 0.999, or auto, got 'often'"),
        ("--t0 1", 2, "t0 must lie between 0 and 0.999, got 1"),
        ("--t0 nan", 2, "t0 must lie between 0 and 0.999, got nan"),
        ("--guarantee 2", 2, "guarantee must lie between 0 and 1, got 2"),
        ("--guarantee 0.05 --budget 400", 2, r"the budget of 400 image passes is too small: a guarantee needs at least [\d,]+ here"),
        ("--guarantee 0.05 --tolerance 1", 2, r"tolerance must lie in \[0, 1\), got 1"),
        ("--tolerance 0.1", 2, "tolerance belongs to a guarantee, got 0.1 without one"),
        ("--guarantee 0.05 --engine monte-carlo", 2, "guarantee is for the engine tmab, got monte-carlo"),
        ("--guarantee 0.05 --top 1500", 2, "top must be at most half of the 2976 filters, since a guarantee speaks of both ends, got 1500"),
        ("--t0 auto --engine monte-carlo", 2, "monte-carlo has no live zone t0, got auto; give truncation"),
        ("--data drawn --size 64", 2, "drawn faces come in 96 pixels and whole, got size 64; leave out size and crop, or give other data"),
        ("--data drawn --size 96 --crop 0.8,0.5", 2, "drawn faces come in 96 pixels and whole, got crop 0.8,0.5"),
        ("--source-data drawn --size 64", 2, "drawn faces come in 96 pixels and whole, got size 64"),
        ("--stability", 2, "--stability attributes on each half of the images with half the budget: the budget of 350 image passes is too"),
    ],
)
def test_arguments_that_cannot_work(faces, tmp_path, arguments, expected, message):
    one_error(*fairness(faces, "--out", tmp_path / "run", *arguments.split()), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there(faces):
    one_error(*fairness(faces, "--device", "cuda"), expected=2, message="no CUDA device was found on this machine; use --device cpu")


def test_real_data_needs_source_data(faces):
    done = call("fairness", "--data", faces / "target.csv")
    one_error(*done, expected=2, message="give --source-data: images of what the network was made for")


@pytest.mark.parametrize("kind", ["full", "file", "beneath a file"])
def test_a_place_that_is_taken_is_refused_before_any_work(faces, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(zoo, "load", lambda *_, **__: pytest.fail("work began"))
    out = tmp_path / "run"
    if kind == "full":
        out.mkdir()
        (out / "old.txt").write_text("old")
    else:
        out.write_text("old")
    place = out / "deeper" if kind == "beneath a file" else out
    message = "run is no folder that can be written" if kind == "beneath a file" else "run already exists; give another --out or remove it"
    one_error(*fairness(faces, "--out", place), expected=2, message=message)
    assert (out / "old.txt" if kind == "full" else out).read_text() == "old"


def test_a_full_disk_is_one_line(faces, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path / "run"))

    monkeypatch.setattr(command, "repair", lambda *_, **__: None)
    monkeypatch.setattr(command, "summarise", lambda *_, **__: example_result())
    monkeypatch.setattr(command, "write_fairness_run", full)
    one_error(*fairness(faces, "--out", tmp_path / "run"), expected=3, message="No space left on device: '.*run'; check that the path")


def test_a_mistake_of_ours_is_not_taken_for_a_result(faces, tmp_path, monkeypatch):
    """Python's exit code for it, 1, would say that no repair was worth making."""

    def mistaken(*_, **__):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(command, "repair", mistaken)
    code, stdout, stderr = fairness(faces, "--out", tmp_path / "run")
    assert (code, stdout) == (70, "")
    *lines, last = stderr.splitlines()
    assert last == "error: ZeroDivisionError, a mistake in repairkit; please report it with the lines above"
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ZeroDivisionError: of ours")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_writes_nothing(faces, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "repair", interrupted)
    code, stdout, stderr = fairness(faces, "--out", tmp_path / "run")
    assert (code, stdout) == (130, "")
    assert stderr.splitlines()[-1] == "interrupted: nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_interrupting_the_process(faces, tmp_path):
    arguments = ["fairness", "--dropout-model", "none", "--data", faces / "target.csv", "--source-data", faces / "source.csv"]
    arguments += [*QUICK, "--budget", "1e7", "--out", tmp_path / "run"]
    with subprocess.Popen(
        [sys.executable, "-m", "repairkit", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - the test may run where it is ignored
    ) as process:
        try:
            for line in process.stderr:
                if "image passes" in line:
                    break
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert (stdout, stderr.splitlines()[-1]) == ("", "interrupted: nothing was written")
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


# ---- apply, report, train, run


def test_apply_gives_the_repaired_weights(finished, tmp_path):
    out = tmp_path / "repaired.safetensors"
    code, stdout, stderr = call("apply", finished[-1] / "patch.json", "--weights", tiny_faces.spoilt_weights(), "--out", out)
    assert (code, stdout) == (0, "")
    patch = json.loads((finished[-1] / "patch.json").read_text())
    assert f"froze {len(patch['culprits'])} filters; repaired weights: {out}" in stderr
    assert patch["culprits"]
    squeezenet1_0(num_classes=2).load_state_dict(load_file(out), strict=True)
    expected = load_file(finished[-1] / "repaired.safetensors")
    for key, tensor in load_file(out).items():
        assert torch.equal(tensor, expected[key])
    # applying it once more, in its own output, is not what the patch was made for
    again = call("apply", finished[-1] / "patch.json", "--weights", out, "--out", tmp_path / "again.safetensors")
    one_error(*again, expected=3, message="the patch was made for weights with SHA-256")


def test_apply_keeps_normalisation_and_classes(finished, tmp_path):
    network = zoo.load(tiny_faces.spoilt_weights()).classifier.network
    own = tmp_path / "own.safetensors"
    zoo.save(
        network, own, architecture="squeezenet1_0", classes=("f", "m"), trained_on="mine", mean=(0.5,) * 3, std=(0.25,) * 3, half=False
    )
    assert call("apply", finished[-1] / "patch.json", "--weights", own, "--out", tmp_path / "new.safetensors")[0] == 0
    model = zoo.load(tmp_path / "new.safetensors")
    assert model.classifier.classes == ("f", "m")
    assert (model.classifier.mean.flatten().tolist(), model.classifier.std.flatten().tolist()) == ([0.5] * 3, [0.25] * 3)
    assert model.trained_on.startswith("mine; repaired by freezing")


def test_apply_to_other_weights_needs_force(finished, tmp_path):
    arguments = ["apply", finished[-1] / "patch.json", "--weights", DROPOUT_STAND_IN, "--out", tmp_path / "new.safetensors"]
    one_error(*call(*arguments), expected=3, message="the patch was made for weights with SHA-256 .*--force to freeze the same filters")
    assert list(tmp_path.iterdir()) == []
    assert call(*arguments, "--force")[0] == 0
    patch = json.loads((finished[-1] / "patch.json").read_text())
    state, rival = load_file(tmp_path / "new.safetensors"), zoo.read_weights(DROPOUT_STAND_IN)[0]
    culprit = patch["culprits"][0]
    assert state[f"{culprit['layer']}.bias"][culprit["channel"]].item() == pytest.approx(culprit["constant"])
    assert not state[f"{culprit['layer']}.weight"][culprit["channel"]].any()
    assert torch.equal(state["classifier.1.weight"], rival["classifier.1.weight"])


def test_apply_that_cannot_work(finished, tmp_path):
    patch = finished[-1] / "patch.json"
    old = tmp_path / "old.safetensors"
    old.write_text("old")
    (tmp_path / "not.json").write_text("{}")
    spoilt = tiny_faces.spoilt_weights()
    cases = [
        ([patch, "--weights", spoilt, "--out", old], 2, "old.safetensors already exists; give another --out or remove it"),
        (
            [tmp_path / "no.json", "--weights", STAND_IN],
            3,
            "expected a patch at .*no.json, could not read it; give the patch.json of a run",
        ),
        ([tmp_path / "not.json", "--weights", STAND_IN], 3, "not.json is not a patch: architecture: Field required"),
        ([patch, "--weights", tmp_path / "no.safetensors"], 3, "expected weights at .*no.safetensors, found no"),
        ([patch, "--weights", spoilt, "--out", tmp_path / "x.pt"], 2, "expected an --out that ends in .safetensors, .*got .*x.pt"),
    ]
    for arguments, expected, message in cases:
        one_error(*call("apply", *arguments), expected=expected, message=message)
    assert old.read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["not.json", "old.safetensors"]


def test_report_writes_the_views_again(finished, tmp_path):
    run = finished[-1]
    (tmp_path / "result.json").write_bytes((run / "result.json").read_bytes())
    code, stdout, stderr = call("report", tmp_path)
    assert code == 0
    assert stdout.startswith(Result.read(run / "result.json").verdict.headline)
    assert f"report: {tmp_path / 'report.html'}" in stderr
    for name in ("report.html", "report.md"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()
    code, stdout, _ = call("report", tmp_path / "result.json", "--json")
    assert (code, json.loads(stdout)) == (0, json.loads((run / "result.json").read_text()))


def test_report_that_cannot_work(tmp_path):
    one_error(*call("report", tmp_path), expected=3, message="expected a result at .*result.json, found none; give the directory of a fin")
    (tmp_path / "result.json").write_text("{}")
    one_error(*call("report", tmp_path), expected=3, message="is not a result of this version: kind: Field required")
    (tmp_path / "text").write_text("")
    one_error(*call("report", tmp_path / "text"), expected=3, message="expected a result at .*, could not read it")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["result.json", "text"]


def train(faces, *more):
    arguments = ["train", "--data", faces / "source.csv", "--size", "48", "--init", STAND_IN, "--epochs", "1", "--threads", "1"]
    return call(*arguments, "--learning-rate", "1e-5", *more)


def test_train_writes_weights_and_how_they_came_about(faces, tmp_path):
    out = tmp_path / "models" / "own.safetensors"
    code, stdout, stderr = train(faces, "--out", out, "--seed", "4")
    assert (code, stdout) == (0, "")
    assert "epoch 1: loss" in stderr
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["own.safetensors", "own.train-images.txt", "own.train.json"]
    record = json.loads((out.parent / "own.train.json").read_text())
    assert record["stages"][0]["settings"] | {"images": 60, "seed": 4, "epochs": 1} == record["stages"][0]["settings"]
    model = zoo.load(out)
    assert model.classifier.classes == ("female", "male")
    assert not np.array_equal(load_file(out)["features.0.weight"], load_file(STAND_IN)["features.0.weight"])
    one_error(*train(faces, "--out", out), expected=2, message="own.safetensors already exists; give another --out or remove it")


def test_images_that_a_network_was_trained_on_are_refused_whatever_their_crop(faces, tmp_path):
    out, later = tmp_path / "own.safetensors", tmp_path / "later.safetensors"
    train(faces, "--out", out)
    record = (tmp_path / "own.train-images.txt").read_text().splitlines()[1:]
    assert len(record) == len(tiny_faces.source())
    message = r"60 of the 60 source images are among the 60 that own.safetensors was trained on .*; give source images that it was not"
    one_error(*fairness(faces, "--dry-run", model=out), expected=3, message=message)
    swapped = ["--data", faces / "source.csv", "--source-data", faces / "target.csv", "--crop", "0.9,0.5"]
    one_error(*fairness(faces, "--dry-run", *swapped, model=out), expected=3, message="60 of the 60 target images are among")
    # what the weights that it started from had seen is on record too
    train(faces, "--data", faces / "target.csv", "--init", out, "--out", later)
    assert set(record) < set((tmp_path / "later.train-images.txt").read_text().splitlines())
    (tmp_path / "own.train-images.txt").unlink()
    assert fairness(faces, "--dry-run", model=out)[0] == 0


def celeba_of(images, folder):
    """Drawn faces in CelebA's published layout, all of them in its training part."""
    (folder / "img_align_celeba").mkdir(parents=True)
    files = [f"{number:06d}.png" for number in range(len(images))]
    for file, pixels in zip(files, images.pixels, strict=True):
        Image.fromarray(pixels).resize((178, 218)).save(folder / "img_align_celeba" / file)
    rows = [f"{file} {2 * label - 1}" for file, label in zip(files, images.labels, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), "Male", *rows]))
    (folder / "list_eval_partition.txt").write_text("\n".join(f"{file} 0" for file in files))
    return folder


def test_trained_under_our_own_name_is_found_by_it(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path))
    assert zoo.load("squeezenet_celeba").stand_in
    root = celeba_of(tiny_faces.source(), tmp_path / "data" / "celeba")
    assert train(faces, "--data", "celeba", "--data-root", root, "--out", "squeezenet_celeba")[0] == 0
    model = zoo.load("squeezenet_celeba")
    assert not model.stand_in
    assert model.weights == tmp_path / "models" / "squeezenet_celeba.safetensors"
    assert model.trained_on == "CelebA, 60 images"


def test_stand_ins_take_no_settings(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(training_command, "train_stand_ins", lambda *_, **settings: trained.append(settings["threads"]) or {})
    for more, option in (
        (["--epochs", "2"], "--epochs"),
        (["--data", "drawn"], "--data"),
        (["--filter-dropout", "0.5"], "--filter-dropout"),
    ):
        message = f"--stand-ins trains with settings of its own and takes only --threads beside it, got {option}; leave it out"
        one_error(*call("train", "--stand-ins", tmp_path, *more), expected=2, message=message)
    assert trained == []
    assert call("train", "--stand-ins", tmp_path, "--threads", "2")[0] == 0
    assert trained == [2]


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        ("", 2, "give --out: a .safetensors file, or squeezenet_celeba to keep the weights"),
        ("--out own", 2, "expected an --out that ends in .safetensors, or one of squeezenet_celeba, .*got own"),
        (
            "--out squeezenet_celeba",
            2,
            r"squeezenet_celeba names a squeezenet1_0 trained on CelebA, got --arch squeezenet1_0 --data .*source.csv",
        ),
        (
            "--out squeezenet_celeba_dropout --data drawn",
            2,
            "squeezenet_celeba_dropout names a squeezenet1_0 trained on CelebA, got .* drawn;",
        ),
        ("--out squeezenet_celeba --data celeba --arch resnet18", 2, "got --arch resnet18 --data celeba; give"),
        (
            "--out squeezenet_celeba_dropout --data celeba",
            2,
            "squeezenet_celeba_dropout names weights trained with filter dropout .*, got --out squeezenet_celeba_dropout --filter-dropout 0;",
        ),
        ("--out squeezenet_celeba --data celeba --filter-dropout 0.2", 2, "got --out squeezenet_celeba --filter-dropout 0.2; change one"),
        ("--out own.safetensors --data faces", 2, "expected a data set"),
        ("--out own.safetensors --data ppb", 2, "the data set ppb needs its folder"),
        ("--out own.safetensors --data celeba --data-root nowhere", 3, "expected a folder at nowhere"),
        ("--out own.safetensors --arch magicnet", 3, "magicnet"),
        ("--out own.safetensors --init none.safetensors", 3, "expected weights at none.safetensors, found no file"),
        ("--out own.safetensors --learning-rate 0", 2, "learning rate > 0"),
        ("--out own.safetensors --device tpu", 2, "device must be cpu or cuda"),
        ("--out own.safetensors --size 16", 3, r"the network cannot take images of 16 pixels \(.*\); give a larger --size"),
        ("--out own.safetensors --data drawn", 2, "drawn faces come in 96 pixels and whole, got size 48; leave out size"),
    ],
)
def test_train_that_cannot_work(faces, tmp_path, monkeypatch, arguments, expected, message):
    monkeypatch.chdir(tmp_path)
    one_error(*train(faces, *arguments.split()), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []


RECIPE = """
command = "fairness"
title = "A recipe of {folder}"
size = 48
model = "squeezenet_celeba"
[target]
name = "{folder}/target.csv"
[source]
name = "{folder}/source.csv"
[options]
max_clean_drop = 1
budget = 700
top = 4
candidates = 6
max_filters = 2
curve = [1]
"""


def test_run_a_recipe(faces, tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(folder=faces))
    code, stdout, _ = call("run", recipe, "--threads", "1", "--dry-run")
    assert (code, "1 fold(s)" in stdout) == (0, True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.toml"]
    code, stdout, _ = call("run", recipe, "--threads", "1", "--seed", "2", "--out", tmp_path / "run", "--json")
    result = Result.model_validate_json(stdout)
    assert code in (0, 1)
    assert (result.title, result.reproduction.seed) == (f"A recipe of {faces}", 2)
    assert result.reproduction.settings["candidates"] == "6"
    assert (tmp_path / "run" / "report.html").exists()
    again = call("run", recipe, "--out", tmp_path / "run")
    one_error(*again, expected=2, message="run already exists; give another --out or remove it")


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        (("budget = 700", "bugdet = 700"), 2, "recipe.toml: options.bugdet is no option"),
        (("budget = 700", "budget = 7"), 2, "the budget of 7 image passes is too small"),
        (('model = "squeezenet_celeba"', ""), 2, r"recipe.toml: give either a \[training\] section or a model"),
        (("target.csv", "none.csv"), 3, "expected a CSV or Parquet file at .*none.csv, found nothing"),
        (('model = "squeezenet_celeba"', 'model = "none.safetensors"'), 3, "expected weights at none.safetensors, found no file"),
    ],
)
def test_recipes_that_cannot_work(faces, tmp_path, change, expected, message):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=faces).replace(*change))
    one_error(*call("run", recipe, "--threads", "1", "--out", tmp_path / "run"), expected=expected, message=message)
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.toml"]


def test_passes_carry_what_the_memory_holds_and_say_so(faces, tmp_path):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        code, *_ = fairness(faces, "--memory", "0.01", "--out", tmp_path / "run")
    assert code in (0, 1)
    (told,) = {str(each.message) for each in found if issubclass(each.category, ModelWarning)}
    carried = re.fullmatch(r"passes carry (\d) images and not 32, as many as 0.01 GiB of memory hold; --memory sets it", told)
    assert Result.read(tmp_path / "run" / "result.json").reproduction.settings["batch"] == carried[1]


@pytest.mark.parametrize(("load", "told"), [(0.3, False), (7.0, True)])
def test_a_busy_machine_is_better_off_with_one_thread(monkeypatch, capsys, load, told):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    command.set_threads(None)
    assert ("other work keeps this machine busy (load 7.0, 2 threads): --threads 1" in capsys.readouterr().err) is told
