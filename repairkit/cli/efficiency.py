"""Sample efficiency, run from a recipe: the bandit against plain Monte Carlo."""

from __future__ import annotations

from functools import partial

from repairkit.cli.carrying import Running
from repairkit.cli.console import say
from repairkit.cli.options import model_notices, show_passes
from repairkit.efficiency import EfficiencyOptions, EfficiencyTask, configuration, measure, plan
from repairkit.efficiency_summary import summarise
from repairkit.options import Options
from repairkit.rundir import write_measured_run


def carry_out(task: EfficiencyTask, options: Options, efficiency: EfficiencyOptions, running: Running, *, title: str) -> int:
    """Plan or run the comparison and write its run directory; returns the exit code: 0, or 1 where the algorithms did not stop."""
    options = running.with_batch(options, task.model.classifier, task.images)
    notices = model_notices(task.model)
    for notice in notices:
        say(f"note: {notice}")
    passes = plan(task, options, efficiency)
    if running.dry_run:
        heading = f"images: {task.images.name}, {len(task.images):,}; network: {task.model.architecture}; compared by {efficiency.method}"
        show_passes(task.model.classifier, task.images, passes, options, heading=heading, as_json=running.as_json)
        return 0
    result, place = running.carry_out(
        configuration(task, options, efficiency),
        find=lambda reporter, unfinished: measure(
            task, options, efficiency, progress=reporter, workers=running.workers, unfinished=unfinished
        ),
        summarise=partial(summarise, task, options, efficiency, title=title, notices=notices),
        write=lambda place, findings, result: write_measured_run(place, result, findings.passes),
    )
    running.tell(result, place, weights=task.model.weights, repaired=False, otherwise="no weights were changed: this compares algorithms")
    return 0 if result.verdict.outcome == "measured" else 1
