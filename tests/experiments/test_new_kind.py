"""A new kind of experiment is one file and one line in the registry: it has a command, a run that goes on, a run directory and a report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

HELLO = '''
import os
import time
import numpy as np
from repairkit.experiments import registry
from repairkit.experiments.base import Experiment
from repairkit.experiments.records import make_reproduction
from repairkit.report.document import Section, Table, Cell, Text
from repairkit.result import Column, Cost, NoExtra, Result, Verdict
from repairkit.run.settings import RunSettings, option
from repairkit.run.store import ARRAYS


class HelloSettings(RunSettings):
    """Greet some people, one after the other."""

    examples = ("repairkit hello --people 3",)
    people: int = option(4, "How many people are greeted.", "Inputs", ge=1)


class Hello(Experiment):
    result_class = Result[NoExtra]
    success = ("measured",)

    def load(self, settings, loading):
        return [f"person {number}" for number in range(settings.people)]

    def cost(self, task, settings):
        return {"greeting": float(len(task))}

    def configuration(self, task, settings):
        return {"people": len(task), "seed": settings.seed}

    def run(self, task, run):
        return [run.cached(f"person-{number}", lambda: self.greet(number, run), ARRAYS)["loudness"] for number in range(len(task))]

    def greet(self, number, run):
        with open(os.environ["GREETED"], "a") as log:
            print(number, file=log)
        time.sleep(float(os.environ.get("PAUSE", 0)))
        with run.phase("greeting"):
            run.spend(1)
        return {"loudness": np.random.default_rng([run.settings.seed, number]).random(3)}

    def result(self, task, settings, findings, origin):
        mean = float(np.mean(findings))
        return Result[NoExtra](
            kind="hello", title=origin.title, created="2026-01-01", notices=origin.notices, model="none", objective="loudness",
            verdict=Verdict(outcome="measured", headline=f"{len(task)} people were greeted at {mean:.6f}.", sentences=[], worse=[]),
            columns=[Column(key="greeted", label="Greeted", explanation="Everybody.")], method=["A greeting each."], limits=["None."],
            costs=[Cost(part="greeting", passes=len(task), seconds=0)], extra=NoExtra(),
            reproduction=make_reproduction(settings, command=origin.command, minutes=origin.minutes, hashes={}, settings={}),
        )

    def sections(self, result, figures):
        rows = tuple((Cell(column.label, kind="text"), Cell("1")) for column in result.columns)
        return [Section("greetings", "Greetings", [Text("Hello <everybody>."), Table("all", "All", ("Who", "n"), ("text", "number"), (rows,))])]


registry.register("hello", registry.Entry("hello", "hello_kind:Hello", "hello_kind:HelloSettings", "Greet people."))
'''
MAIN = "import hello_kind, sys; from repairkit import cli; sys.exit(cli.call(sys.argv[1:]))"


@pytest.fixture
def repairkit(tmp_path):
    """Starts `repairkit ARGUMENTS` with the new kind, which lies in a temporary file."""
    (tmp_path / "hello_kind.py").write_text(HELLO)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}", "GREETED": str(tmp_path / "greeted.txt")}

    def start(*arguments, **variables):
        command = [sys.executable, "-c", MAIN, *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def done(process):
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def comparable(out):
    result = json.loads((out / "result.json").read_text())
    del result["reproduction"]["command"], result["reproduction"]["minutes"]
    return result


def test_a_kind_is_at_most_sixty_lines():
    assert len([line for line in HELLO.splitlines() if line.strip()]) <= 60


def test_it_has_a_command_with_its_options(repairkit):
    assert "Greet people." in done(repairkit("--help"))[1]
    code, stdout, _ = done(repairkit("hello", "--help"))
    assert code == 0
    assert "--people" in stdout
    code, stdout, _ = done(repairkit("hello", "--people", "5", "--dry-run", "--json"))
    assert json.loads(stdout)["passes"] == {"greeting": 5.0}
    assert done(repairkit("hello", "--people", "0"))[0] == 2


def test_killed_in_the_middle_it_goes_on_to_the_same_bits(repairkit, tmp_path):
    greeted = tmp_path / "greeted.txt"
    process = repairkit("hello", "--out", "killed", PAUSE="1")
    stored = tmp_path / "killed.unfinished" / "person-1.arrays.npz"
    until = time.monotonic() + 120
    while not stored.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    begun = greeted.read_text().split()
    assert begun[:2] == ["0", "1"]
    assert len(begun) <= 3
    assert done(repairkit("hello", "--out", "killed", "--resume"))[0] == 0
    assert greeted.read_text().split()[len(begun) :] == ["2", "3"]  # what was stored is not repeated
    assert done(repairkit("hello", "--out", "whole"))[0] == 0
    assert comparable(tmp_path / "killed") == comparable(tmp_path / "whole")
    assert not (tmp_path / "killed.unfinished").exists()


def test_its_run_directory_holds_a_report_that_is_rendered_again(repairkit, tmp_path):
    code, stdout, stderr = done(repairkit("hello", "--people", "2", "--out", "run"))
    assert code == 0, stderr
    assert stdout.startswith("2 people were greeted")
    out = tmp_path / "run"
    assert {"result.json", "run.json", "report.html", "report.md"} <= {file.name for file in out.iterdir()}
    assert json.loads((out / "run.json").read_text())["passes"] == {"greeting": 2.0}
    before = {name: (out / name).read_bytes() for name in ("report.html", "report.md")}
    page = BeautifulSoup(before["report.html"], "html.parser")
    assert page.find(id="greetings")
    assert "Hello <everybody>." in page.get_text()
    assert "## Greetings" in before["report.md"].decode()
    for name in before:
        (out / name).unlink()
    assert done(repairkit("report", "run"))[0] == 0
    assert {name: (out / name).read_bytes() for name in before} == before
