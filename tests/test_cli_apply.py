"""`repairkit apply`: a patch in weights."""

import json

import pytest
import tiny_faces
import torch
from command_line import call, one_error
from networks import randomised
from safetensors.torch import load_file
from tiny_faces import DROPOUT_STAND_IN, STAND_IN
from torchvision.models import squeezenet1_0

from repairkit.models import zoo
from repairkit.models.class_subset import restrict_classes
from repairkit.network.patch import FrozenFilter, Patch
from repairkit.network.weights import read_weights, write_weights


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
    write_weights(
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
    state, rival = load_file(tmp_path / "new.safetensors"), read_weights(DROPOUT_STAND_IN)[0]
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


def narrow_patch(folder, architecture="squeezenet1_1"):
    """A patch for the lemon and the zebra of weights that know more, and the weights."""
    known = ("goldfish", "zebra", "tench", "lemon")
    network = randomised(zoo.build(architecture, len(known)), 0)
    write_weights(network, folder / "whole.safetensors", architecture=architecture, classes=known, trained_on="mine", half=False)
    narrow = restrict_classes(zoo.load(folder / "whole.safetensors"), ("lemon", "zebra"))
    filters = [FrozenFilter(layer="features.0", channel=3, constant=0.5, value=-0.1)]
    patch = Patch(
        architecture=architecture,
        weights_sha256=narrow.sha256,
        freeze_at="post",
        objective="",
        classes=("lemon", "zebra"),
        culprits=filters,
    )
    (folder / "patch.json").write_text(patch.model_dump_json())
    return narrow


def test_a_patch_of_a_narrowed_network_goes_into_the_weights_that_it_was_narrowed_from(tmp_path):
    narrow = narrow_patch(tmp_path)
    out = tmp_path / "repaired.safetensors"
    assert call("apply", tmp_path / "patch.json", "--weights", tmp_path / "whole.safetensors", "--out", out)[0] == 0
    repaired = zoo.load(out)
    assert repaired.classifier.classes == ("lemon", "zebra")
    state, before = repaired.classifier.network.state_dict(), narrow.classifier.network.state_dict()
    assert state["features.0.bias"][3].item() == pytest.approx(0.5)
    assert torch.equal(state["classifier.1.weight"], before["classifier.1.weight"])
    forced = tmp_path / "forced.safetensors"
    assert call("apply", tmp_path / "patch.json", "--weights", tmp_path / "whole.safetensors", "--out", forced, "--force")[0] == 0
    assert len(zoo.load(forced).classifier.classes) == 4  # other weights keep the classes that they have


def test_a_patch_names_the_classes_of_weights_that_do_not(finished, tmp_path):
    narrow = narrow_patch(tmp_path)
    bare = tmp_path / "bare.pt"
    torch.save(narrow.classifier.network.state_dict(), bare)
    out = tmp_path / "repaired.safetensors"
    assert call("apply", tmp_path / "patch.json", "--weights", bare, "--out", out)[0] == 0
    assert zoo.load(out).classifier.classes == ("lemon", "zebra")
    assert json.loads((finished[-1] / "patch.json").read_text())["classes"] == ["female", "male"]
