"""Sample efficiency, run from a recipe: the bandit against plain Monte Carlo."""

from __future__ import annotations

from functools import partial

from repairkit.cli.options import model_notices, show_passes
from repairkit.cli.runner import Running
from repairkit.experiments.options import Options
from repairkit.experiments.sample_efficiency.run import EfficiencyOptions, EfficiencyTask, configuration, measure, plan
from repairkit.experiments.sample_efficiency.summary import summarise
from repairkit.run.directory import write_measured_run


def carry_out(task: EfficiencyTask, options: Options, efficiency: EfficiencyOptions, running: Running, *, title: str) -> int:
    """Plan or run the comparison and write its run directory; returns the exit code: 0, or 1 where the algorithms did not stop."""
    options = running.with_batch(options, task.model.classifier, task.images)
    passes = plan(task, options, efficiency)
    heading = f"images: {task.images.name}, {len(task.images):,}; network: {task.model.architecture}; compared by {efficiency.method}"
    return running.carry_out(
        notices=model_notices(task.model),
        show_plan=partial(show_passes, task.model.classifier, task.images, passes, options, heading=heading, as_json=running.as_json),
        configuration=partial(configuration, task, options, efficiency),
        find=lambda run: measure(task, run, efficiency),
        settings=options,
        summarise=partial(summarise, task, options, efficiency, title=title),
        write=lambda place, findings, result: write_measured_run(place, result, findings.passes),
        tell=lambda result, place: running.tell(
            result,
            place,
            weights=task.model.weights,
            otherwise="no weights were changed: this compares algorithms",
            success=result.verdict.outcome == "measured",
        ),
    )
