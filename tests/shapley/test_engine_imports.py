from __future__ import annotations

import subprocess
import sys

import pytest

import repairkit


def test_the_engine_needs_neither_torch_nor_images_nor_tables():
    script = "import sys, repairkit.shapley; print(*sorted({'torch', 'torchvision', 'PIL', 'pandas', 'pyarrow'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", repairkit.__all__)
def test_every_public_name_is_found_when_it_is_first_used(name):
    assert getattr(repairkit, name).__name__ == name
    assert name in dir(repairkit)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        repairkit.nothing_of_the_kind  # noqa: B018
