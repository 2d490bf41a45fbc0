"""Options of an adversarial run that is over in seconds, and what its preset quick means then."""

import pytest

from repairkit.experiments import attack_task
from repairkit.experiments.attack_task import AttackBudget

QUICK = [
    "--size", "48", "--budget", "700", "--top-k", "2", "--threads", "1", "--candidates", "3", "--max-filters", "2", "--max-accuracy-drop", "1",
    "--attack-images", "18,18,12", "--eps", "48/255", "--steps", "5", "--step-size", "16/255", "--effort", "quick", "--max-curve-filters", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def little_effort():
    """The preset quick with fewer images, so that the tests are quick, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(attack_task.PRESETS, "quick", AttackBudget(adaptive=12, queries=5, restarts=1, checked=2, carried=12))
        yield
