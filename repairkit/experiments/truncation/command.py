"""Truncation, run from a recipe: how few random filters networks bear to lose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from repairkit.cli.options import model_notices, speed_of
from repairkit.cli.runner import Running
from repairkit.experiments.fairness.command import DRAWN_NOTICE
from repairkit.experiments.options import Options
from repairkit.experiments.truncation.run import Subject, TruncationOptions, configuration, measure_each, plan
from repairkit.experiments.truncation.summary import summarise
from repairkit.run.directory import write_measured_run


def carry_out(subjects: Sequence[Subject], options: Options, truncation: TruncationOptions, running: Running, *, title: str) -> int:
    """Plan or run the removal of random filters and write the run directory; returns the exit code, 0."""
    options = replace(options, batch=min(running.with_batch(options, each.model.classifier, each.images).batch for each in subjects))
    drawn = [DRAWN_NOTICE] if any(each.subgroups and each.images.drawn for each in subjects) else []
    return running.carry_out(
        notices=[*drawn, *model_notices(*(each.model for each in subjects))],
        show_plan=partial(show_plan, subjects, options, truncation, as_json=running.as_json),
        configuration=partial(configuration, subjects, options, truncation),
        find=lambda run: measure_each(subjects, run, truncation),
        settings=options,
        summarise=partial(summarise, subjects, options, truncation, title=title),
        write=lambda place, _findings, result: write_measured_run(place, result, {cost.part: cost.passes for cost in result.costs}),
        tell=lambda result, place: running.tell(
            result,
            place,
            weights=subjects[0].model.weights,
            otherwise="no weights were changed: this measures the networks as they are",
        ),
    )


def show_plan(subjects: Sequence[Subject], options: Options, truncation: TruncationOptions, *, as_json: bool) -> None:
    """The passes of each network and what they mean on this machine, on stdout."""
    plans = {subject.name: plan(subject, options, truncation) for subject in subjects}
    speeds = {subject.name: speed_of(subject.model.classifier, subject.images, options) for subject in subjects}
    minutes = {name: sum(passes.values()) / speeds[name] / 60 for name, passes in plans.items()}
    if as_json:
        flat = {f"{name}: {part}": number for name, passes in plans.items() for part, number in passes.items()}
        print(json.dumps({"passes": flat, "passes_a_second": speeds, "minutes": sum(minutes.values())}))  # noqa: T201
        return
    print(f"{truncation.trajectories} orders of removal, each measured at {len(truncation.shares)} shares of the filters")  # noqa: T201
    for subject in subjects:
        print(f"{subject.name}: {subject.model.architecture} on {subject.images.name}, {len(subject.images):,} images")  # noqa: T201
        for part, number in plans[subject.name].items():
            print(f"  {part:12s} {number:12,.0f} image passes")  # noqa: T201
        print(f"  about {minutes[subject.name]:.0f} minutes at {speeds[subject.name]:,.0f} passes a second")  # noqa: T201
