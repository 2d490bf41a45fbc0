"""What `repairkit run` does with a recipe of the correlation of attack success and accuracy."""

from __future__ import annotations

from functools import partial

from repairkit.adversarial import AdversarialTask, AttackOptions
from repairkit.cli.carrying import Running
from repairkit.cli.console import say
from repairkit.cli.options import model_notices, show_passes
from repairkit.correlation import configuration, find, plan
from repairkit.correlation_summary import summarise
from repairkit.options import Options
from repairkit.rundir import write_correlation_run


def carry_out(task: AdversarialTask, options: Options, attacks: AttackOptions, running: Running, *, title: str) -> int:
    """Plan or run it and write its run directory; returns the exit code, 0 if it was measured."""
    options = running.with_batch(options, task.model.classifier, task.images)
    passes = plan(task, options, attacks)
    notices = model_notices(task.model)
    for notice in notices:
        say(f"note: {notice}")
    if running.dry_run:
        heading = f"images: {task.images.name}, {len(task.images):,}; network: {task.model.architecture}; attack: {attacks.method}"
        show_passes(task.model.classifier, task.images, passes, options, heading=heading, as_json=running.as_json)
        return 0
    result, place = running.carry_out(
        configuration(task, options, attacks),
        find=lambda reporter, unfinished: find(task, options, attacks, progress=reporter, unfinished=unfinished),
        summarise=partial(summarise, task, options, attacks, title=title, notices=notices),
        write=write_correlation_run,
    )
    running.tell(result, place, weights=task.model.weights, repaired=False, otherwise=f"values of every filter: {place / 'values.parquet'}")
    return 0 if result.verdict.outcome == "measured" else 1
