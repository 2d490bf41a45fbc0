"""`repairkit fairness`: what it prints where, what it leaves behind, and its exit codes."""

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

import pytest
import tiny_faces
import torch
from command_line import QUICK, call, fairness, one_error
from report_example import example_result
from results import changed
from safetensors.torch import load_file, save_file
from tiny_faces import STAND_IN
from torchvision.models import squeezenet1_0

from repairkit.cli.processes import set_threads
from repairkit.errors import ModelWarning
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.models import zoo
from repairkit.network.weights import read_weights

command = importlib.import_module("repairkit.experiments.fairness.experiment")


# ---- a run that ends well


def test_json_is_alone_on_stdout(finished):
    code, stdout, stderr, out = finished
    result = FairnessResult.read(out / "result.json")
    assert FairnessResult.model_validate_json(stdout) == result
    assert json.loads(stdout) == json.loads((out / "result.json").read_text())
    assert code == (0 if result.verdict.outcome in ("repaired", "no better than the threshold") else 1)
    assert result.extra.target == f"target, {len(tiny_faces.target())} images"
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
    torch.save(read_weights(STAND_IN)[0], tmp_path / "state.pt")
    handed = []

    def ended(task, *_, notices, **__):
        handed.append((notices, task.model.classifier.mean.flatten().tolist()))
        return example_result()

    monkeypatch.setattr(command, "repair", lambda *_, **__: None)
    monkeypatch.setattr(command, "summarise", ended)
    monkeypatch.setattr("repairkit.experiments.results.write_runs", lambda out, *_: out.mkdir())
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


def test_a_rival_of_another_training_is_not_compared_with(faces):
    def rival(**changes):
        loaded = zoo.load("squeezenet_celeba")
        return command.comparison_model(replace(loaded, **changes), "squeezenet_celeba", None, classes=("female", "male"), device="cpu")

    assert rival().stand_in
    with pytest.warns(ModelWarning, match="so none is compared with"):
        assert rival(stand_in=False) is None


def test_a_run_is_a_whole_directory(finished):
    out = finished[-1]
    assert [entry.name for entry in out.parent.iterdir()] == ["run"]
    for name in ("run.json", "report.html", "report.md", "patch.json", "repaired.safetensors", "attribution.parquet"):
        assert (out / name).stat().st_size > 0
    network = squeezenet1_0(num_classes=2)
    network.load_state_dict(load_file(out / "repaired.safetensors"), strict=True)


def test_what_one_would_do_instead_is_in_the_report_where_it_is_asked_for(faces, finished, tmp_path):
    code, stdout, _ = fairness(faces, "--alternatives", "--dry-run", "--json")
    planned = json.loads(stdout)["passes"]["alternatives"]
    code, stdout, stderr = fairness(faces, "--alternatives", "--out", tmp_path / "run")
    result = FairnessResult.read(tmp_path / "run" / "result.json")
    tried = ["group_thresholds", "last_layer", "whole_network"]
    assert [each.column for each in result.alternatives] == ["original", "repaired", "threshold", *tried]
    assert 0 < next(cost.passes for cost in result.costs if cost.part == "alternatives") <= planned
    plain = FairnessResult.read(finished[-1] / "result.json")
    assert plain.alternatives == []
    assert [share for share in result.shares if share.column not in tried] == plain.shares
    assert result.frozen == plain.frozen
    assert "## Alternatives" in (tmp_path / "run" / "report.md").read_text()
    assert "## Alternatives" not in (finished[-1] / "report.md").read_text()
    assert code == finished[0], stderr


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
    result = changed(result, {"verdict": result.verdict.model_copy(update={"outcome": outcome})})
    monkeypatch.setattr(command, "repair", lambda *_, **__: None)
    monkeypatch.setattr(command, "summarise", lambda *_, **__: result)
    monkeypatch.setattr("repairkit.experiments.results.write_runs", lambda out, *_: out.mkdir())
    code, stdout, _ = fairness(faces, "--out", tmp_path / "run")
    assert code == expected
    assert stdout.startswith(result.verdict.headline)


def test_default_place_is_reports(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "repair", lambda *_, **__: None)
    monkeypatch.setattr(command, "summarise", lambda *_, **__: example_result())
    monkeypatch.setattr("repairkit.experiments.results.write_runs", lambda out, *_: out.mkdir(parents=True))
    fairness(faces)
    (made,) = (tmp_path / "reports").iterdir()
    assert re.fullmatch(r"fairness-spoilt-\d{8}-\d{6}", made.name)


def test_integer_labels_and_class_names_of_other_weights(own_faces, tmp_path):
    """A plain state dict says neither its architecture nor its classes: the command does."""
    for name in ("target.csv", "source.csv"):
        text = (own_faces / name).read_text()
        (own_faces / name).write_text(text.replace(",female,", ",woman,").replace(",male,", ",1,"))
    torch.save(read_weights(STAND_IN)[0], tmp_path / "state.pt")
    arguments = ["--weights", tmp_path / "state.pt", "--dry-run"]
    code, stdout, _ = fairness(own_faces, *arguments, "--classes", "woman,man", model="squeezenet1_0")
    assert (code, "squeezenet1_0, 1 fold(s)" in stdout) == (0, True)
    one_error(
        *fairness(own_faces, *arguments, model="squeezenet1_0"), expected=3, message=r"the label 'woman' in row \d is none of the 2 cl"
    )


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
    "undecodable": (undecodable, "cannot decode the image .*broken.png .*; replace it"),
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
    "pickle.pt": (lambda path: path.write_bytes(pickle.dumps(Anything())), "is a pickle, .* refused; convert"),
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
        ("--mean 0.5,0.5,0.5", 2, "expected mean and std together, got one of them"),
        ("--mean 0.5,0.5,0.5 --std 1,1,1", 2, "spoilt.safetensors says that its mean is .*; leave --mean and --std out"),
        ("--folds 30", 3, "target: part 1 of 30 has no image of subgroup"),
        ("--crop big", 2, "expected a crop as SHARE,HEIGHT such as 0.75,0.42, got 'big'"),
        ("--data faces", 2, "expected a data set, one of drawn, ppb, utkface, celeba or a .csv or .parquet manifest, got 'faces'"),
        ("--data ppb", 2, "the data set ppb needs its folder: give --data-root"),
        (
            "--data ppb --data-root nowhere",
            3,
            "ppb: expected a folder at nowhere holding .*, found nothing|PPB: expected a folder at nowhere",
        ),
        ("--model alexnet", 3, "alexnet comes without weights; give a file with --weights FILE"),
        ("--model mymodel", 3, "no model is called 'mymodel'; give squeezenet_celeba"),
        ("--compare-model mymodel", 3, "no model is called 'mymodel'"),
        ("--top-k 2976", 2, "top must be less than the 2976 filters of the network, got 2976"),
        ("--guarantee 0.05 --budget 400", 2, r"the budget of 400 image passes is too small: a guarantee needs at least [\d,]+ here"),
        (
            "--guarantee 0.05 --top-k 1500",
            2,
            "top_k must be at most half of the 2976 filters, since a guarantee speaks of both ends, got 1500",
        ),
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
    monkeypatch.setattr("repairkit.experiments.results.write_runs", full)
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
    arguments = ["fairness", "--compare-model", "none", "--data", faces / "target.csv", "--source-data", faces / "source.csv"]
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


def test_passes_carry_what_the_memory_holds_and_say_so(faces, tmp_path):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        code, *_ = fairness(faces, "--memory", "0.01", "--out", tmp_path / "run")
    assert code in (0, 1)
    (told,) = {str(each.message) for each in found if issubclass(each.category, ModelWarning)}
    carried = re.fullmatch(r"passes carry (\d) images and not 32, as many as 0.01 GiB of memory hold; --memory sets it", told)
    assert FairnessResult.read(tmp_path / "run" / "result.json").reproduction.settings["batch"] == carried[1]


@pytest.mark.parametrize(
    ("free", "asked", "workers", "expected"),
    [(8, None, 1, 8), (5, None, 1, 5), (5, None, 2, 2), (1, None, 4, 1), (8, None, 3, 2), (3, 6, 2, 6)],
)
def test_threads_are_the_cores_that_other_work_leaves_free(monkeypatch, caplog, free, asked, workers, expected):
    threads = []
    caplog.set_level("INFO", "repairkit")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr("repairkit.cli.processes.free_cores", lambda: free)
    set_threads(asked, workers=workers)
    assert threads == [expected]
    assert len(caplog.messages) == (1 if free < 8 and asked is None else 0)


def test_rounds_are_planned_and_reported(faces, tmp_path):
    code, stdout, _ = fairness(faces, "--rounds", "2", "--dry-run", "--json")
    twice = json.loads(stdout)["passes"]
    once = json.loads(fairness(faces, "--dry-run", "--json")[1])["passes"]
    assert (code, twice["attribution"], once["attribution"]) == (0, 1400, 700)
    out = tmp_path / "run"
    fairness(faces, "--rounds", "2", "--out", out)
    result = FairnessResult.read(out / "result.json")
    assert [entry.round for entry in result.extra.rounds] == [1, 2][: len(result.extra.rounds)]
    assert [name for entry in result.extra.rounds for name in entry.filters] == [
        f"{entry.layer}:{entry.channel}" for entry in result.frozen
    ]
    assert (out / "networks" / "repaired-fold-1-round-2" / "attribution.parquet").is_file() == (len(result.extra.rounds) == 2)
    assert call("attribution", out, "--round", str(len(result.extra.rounds)))[0] == 0
