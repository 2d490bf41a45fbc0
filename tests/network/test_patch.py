from __future__ import annotations

import copy
import json

import pytest
import torch
from networks import CASES, inputs

from repairkit.errors import BakeError, DataError, ModelError
from repairkit.network.filters import FilterId
from repairkit.network.freezing import Freeze
from repairkit.network.patch import FrozenFilter, Patch
from repairkit.network.weights import hash_state

CULPRITS = [
    FrozenFilter(layer="conv2", channel=3, constant=0.25, value=-0.0625, half_width=0.5, screen=-0.1),
    FrozenFilter(layer="conv1", channel=0, constant=1.5, value=-0.03125),
]


def patch_for(network, culprits=CULPRITS) -> Patch:
    return Patch(
        architecture="toy", weights_sha256=hash_state(network.state_dict()), freeze_at="post", objective="accuracy", culprits=culprits
    )


def test_a_patch_survives_its_file(tmp_path):
    patch = patch_for(CASES[0].networks()[0])
    patch.write(tmp_path / "run" / "patch.json")
    again = Patch.read(tmp_path / "run" / "patch.json")
    assert again == patch
    assert [culprit.filter for culprit in again.culprits] == [FilterId("conv2", 3), FilterId("conv1", 0)]
    written = json.loads((tmp_path / "run" / "patch.json").read_text())
    assert written["culprits"][1] == CULPRITS[1].model_dump()


def test_applying_it_equals_freezing_and_leaves_the_network_alone():
    network, _ = CASES[0].networks()
    before = copy.deepcopy(network.state_dict())
    patch = patch_for(network)
    repaired = patch.apply(network)
    with Freeze(network, {FilterId("conv2", 3): 0.25, FilterId("conv1", 0): 1.5}):
        frozen = network(inputs(4))
    handle = patch.freeze(network)
    by_patch = network(inputs(4))
    handle.undo()
    torch.testing.assert_close(repaired(inputs(4)), frozen, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_patch, frozen, rtol=0, atol=0)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert type(repaired) is type(network)


def test_other_weights_are_refused_unless_asked_for():
    patch = patch_for(CASES[0].networks()[0])
    other, _ = CASES[0].networks(seed=1)
    with pytest.raises(ModelError, match=r"the patch was made for weights with SHA-256 .* --force"):
        patch.apply(other)
    assert float(patch.apply(other, check=False).conv1.bias[0].detach()) == 1.5


def test_what_does_not_fit_the_network_is_refused():
    network, _ = CASES[0].networks()
    with pytest.raises(ModelError, match="no filter conv9:0"):
        patch_for(network, [FrozenFilter(layer="conv9", channel=0, constant=0.0, value=-0.1)]).apply(network)
    with pytest.raises(BakeError, match="conv1:0"):
        patch_for(network, [FrozenFilter(layer="conv1", channel=0, constant=-1.0, value=-0.1)]).apply(network)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "could not read it"),
        ("{", "is not a patch"),
        ({"weights_sha256": None}, "is not a patch: weights_sha256"),
        ({"typo": 1}, "is not a patch: typo"),
        ({"freeze_at": "after"}, "is not a patch: freeze_at"),
        ({"culprits": [{"layer": "a", "channel": -1, "constant": 0, "value": 0}]}, "is not a patch: culprits.0.channel"),
    ],
)
def test_a_file_that_is_no_patch_is_refused(tmp_path, change, message):
    path = tmp_path / "patch.json"
    if isinstance(change, dict):
        path.write_text(
            json.dumps({"architecture": "t", "weights_sha256": "", "freeze_at": "post", "objective": "", "culprits": []} | change)
        )
    elif change:
        path.write_text(change)
    with pytest.raises(DataError, match=message) as error:
        Patch.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
