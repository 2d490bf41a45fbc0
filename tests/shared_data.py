"""Published data sets and weights for tests that need them; such tests are skipped on machines without them."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("REPAIRKIT_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def needs(name: str) -> pytest.MarkDecorator:
    """Skip the test where this folder is missing."""
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"{name} is not on this machine")
