"""`repairkit report`: write the views of a run again from its result.json."""

from __future__ import annotations

from repairkit.cli.console import show_result
from repairkit.cli.messages import log
from repairkit.cli.settings import ReportSettings
from repairkit.experiments import results as kinds


def report(settings: ReportSettings) -> None:
    """Write the views of a result and show it."""
    run = settings.run
    file = run if run.suffix == ".json" else run / "result.json"
    result = kinds.read(file)
    kinds.write_views(result, file.parent)
    if settings.as_json:
        print(result.model_dump_json(indent=1))  # noqa: T201
    else:
        show_result(result)
    log.info(f"report: {file.parent / 'report.html'}")
