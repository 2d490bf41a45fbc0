"""What `repairkit run` does with a recipe of the correlation of attack success and accuracy."""

from __future__ import annotations

from functools import partial

from repairkit.cli.options import model_notices, show_passes
from repairkit.cli.runner import Running
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.experiments.correlation.run import configuration, find, plan
from repairkit.experiments.correlation.summary import summarise
from repairkit.experiments.options import Options
from repairkit.run.directory import write_correlation_run


def carry_out(task: AdversarialTask, options: Options, attacks: AttackOptions, running: Running, *, title: str) -> int:
    """Plan or run it and write its run directory; returns the exit code, 0 if it was measured."""
    options = running.with_batch(options, task.model.classifier, task.images)
    passes = plan(task, options, attacks)
    heading = f"images: {task.images.name}, {len(task.images):,}; network: {task.model.architecture}; attack: {attacks.method.in_words}"
    return running.carry_out(
        notices=model_notices(task.model),
        show_plan=partial(show_passes, task.model.classifier, task.images, passes, options, heading=heading, as_json=running.as_json),
        configuration=partial(configuration, task, options, attacks),
        find=lambda run: find(task, run, attacks),
        settings=options,
        summarise=partial(summarise, task, options, attacks, title=title),
        write=write_correlation_run,
        tell=lambda result, place: running.tell(
            result,
            place,
            weights=task.model.weights,
            otherwise=f"values of every filter: {place / 'values.parquet'}",
            success=result.verdict.outcome == "measured",
        ),
    )
