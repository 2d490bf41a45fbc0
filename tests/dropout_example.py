"""A toy network beside a rival that has one filter in reserve, and the report on both."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import three_colours
import torch
from results import changed

from repairkit.baselines.compare import suited
from repairkit.experiments.dropout.result import summarise
from repairkit.experiments.dropout.run import DropoutTask, find
from repairkit.network.weights import hash_state
from repairkit.run.context import Run
from repairkit.run.options import Options

SMALL = Options(budget=4000, top=3, contested=6, ranking="recall", t0=0.5, seed=1)
COMPARED = replace(SMALL, budget=1200, compare=suited(fairness=False))


def of_network(change):
    """The three colours' network with its weights changed by a function, as a model of its own."""
    model = three_colours.model()
    with torch.no_grad():
        change(model.classifier.network)
    return replace(model, sha256=hash_state(model.classifier.network.state_dict()))


def redundant():
    """Green hangs on two filters, of which either suffices: what the idle one does in the original, filter 4 does here."""

    def twice(network):
        network[0].weight[4] = network[0].weight[1]
        network[4].weight[1, 4] = network[4].weight[1, 1]

    return of_network(twice)


@cache
def found(options=SMALL):
    task = DropoutTask(three_colours.model(), redundant(), three_colours.images())
    findings = find(task, Run.start(options))
    return (
        task,
        findings,
        summarise(task, options, findings, title="By hand", command="repairkit dropout", minutes=0.1, notices=["by hand"]),
    )


def dropout_cases():
    """Results of every shape."""
    result = found()[2]
    nothing = changed(
        result,
        {
            "curves": [point for point in result.extra.curves if not point.filters],
            "differences": result.differences[:1],
            "shares": [share for share in result.shares if share.metric == "accuracy"],
            "groups": [],
            "spreads": [],
            "extremes": {},
            "method": [],
            "costs": [],
            "limits": [],
            "notices": [],
        },
    )
    bare = changed(nothing, {"curves": [], "differences": [], "shares": [], "columns": []})
    empty = [
        entry.model_copy(update={"counts": {column: [0] * len(counts) for column, counts in entry.counts.items()}})
        for entry in result.extra.spreads
    ]
    many = [
        entry.model_copy(update={"counts": {column: [100 * n for n in counts] for column, counts in entry.counts.items()}})
        for entry in result.extra.spreads
    ]
    return {
        "dropout": result,
        "dropout, compared": found(COMPARED)[2],
        "dropout, nothing frozen": nothing,
        "dropout, bare": bare,
        "dropout, empty histograms": changed(result, {"spreads": empty}),
        "dropout, many filters": changed(result, {"spreads": many}),
    }
