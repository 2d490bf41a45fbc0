"""Every recipe of repairkit on what comes along: from one command to a result and its views."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import call

from repairkit.experiments import results as kinds
from repairkit.experiments.recipe import recipes_in

ROOT = Path(__file__).parent.parent
LONG = {"fig3a_fairness", "fig3b_adversarial", "fig4_dropout"}
"""One to four minutes each; the others take a minute at most once the network is fitted."""


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Networks are fitted once for all recipes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPAIRKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=pytest.mark.extended if file.stem in LONG else [], id=file.stem) for file in recipes_in(ROOT / "recipes")],
)
def test_a_recipe_runs_on_what_comes_with_repairkit(file, tmp_path):
    out = tmp_path / file.stem
    code, stdout, stderr = call("run", file, "--embedded", "--threads", "1", "--out", out)
    assert code in (0, 1), stderr  # 1: it ran, and no repair was worth making
    results = [kinds.read(found) for found in out.rglob("result.json")]
    assert results
    for result in results:
        assert result.verdict.headline in stdout
        assert result.reproduction.command.startswith("repairkit ")
    assert (out / "report.html").is_file()
    assert (out / "report.md").is_file()


def lasting(out):
    """What the results of a run say, but for times and the command."""
    found = {}
    for file in sorted(out.rglob("result.json")):
        result = json.loads(file.read_text())
        del result["created"], result["reproduction"]["command"], result["reproduction"]["minutes"]
        for cost in result["costs"]:
            del cost["seconds"], cost["taken"]
        found[file.relative_to(out)] = result
    return found


@pytest.mark.extended
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("file", recipes_in(ROOT / "recipes"), ids=lambda file: file.stem)
def test_killed_and_resumed_a_recipe_comes_to_the_same_result(file, tmp_path):
    def start(name, *more):
        arguments = ["run", str(file), "--embedded", "--threads", "1", "--out", str(tmp_path / name), *more]
        return subprocess.Popen([sys.executable, "-m", "repairkit", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)

    process = start("killed")
    begun = tmp_path / "killed.unfinished"
    while process.poll() is None and not [stored for stored in begun.rglob("*") if stored.is_file() and stored.name != "run.json"]:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start("killed", "--resume").wait() in (0, 1)
    assert start("whole").wait() in (0, 1)
    assert lasting(tmp_path / "killed") == lasting(tmp_path / "whole")
