"""The hooks of ftcheck: six offers and four events. Deciding, skipping and changing findings are none.

Life of a run:

    load plugins -> offers (rules, loaders, reporters, trainers, exporters)
    plan checks  -> ftcheck_run_started(checks)
    run checks   -> ftcheck_progress(progress) ... ftcheck_check_finished(result) ...
    write report -> ftcheck_run_finished(report)
"""

from collections.abc import Iterable

import pluggy

from ftcheck.extension.exporters import Exporter, IdsExporter
from ftcheck.extension.reporters import Reporter
from ftcheck.extension.rules import Rule
from ftcheck.extension.trainers import Trainer
from ftcheck.inputs.loader import Loader
from ftcheck.records import Check, Progress, Result
from ftcheck.report.record import Report

hookspec = pluggy.HookspecMarker("ftcheck")
hookimpl = pluggy.HookimplMarker("ftcheck")


@hookspec
def ftcheck_rules() -> Iterable[Rule]:  # type: ignore[empty-body]
    """Offer rules. Called once, when plugins are loaded; a name that is taken is a `PluginError`."""


@hookspec
def ftcheck_loaders() -> Iterable[Loader]:  # type: ignore[empty-body]
    """Offer loaders: what opens the inputs that rules ask for by argument name."""


@hookspec
def ftcheck_reporters() -> Iterable[Reporter]:  # type: ignore[empty-body]
    """Offer report formats for `-o NAME[=PATH]`."""


@hookspec
def ftcheck_trainers() -> Iterable[Trainer]:  # type: ignore[empty-body]
    """Offer trainers for `trainer: {use: NAME}`."""


@hookspec
def ftcheck_exporters() -> Iterable[Exporter]:  # type: ignore[empty-body]
    """Offer configurations for other programs: `ftcheck export NAME`."""


@hookspec
def ftcheck_ids_exporters() -> Iterable[IdsExporter]:  # type: ignore[empty-body]
    """Offer folders of ids for other trainers: `ftcheck export ids --to NAME`."""


@hookspec
def ftcheck_run_started(checks: tuple[Check, ...]) -> None:
    """The ledger is fixed; nothing has run yet."""


@hookspec
def ftcheck_progress(progress: Progress) -> None:
    """Long work has come a step further."""


@hookspec
def ftcheck_check_finished(result: Result) -> None:
    """One check has its outcome."""


@hookspec
def ftcheck_run_finished(report: Report) -> None:
    """The report is complete; it has not been written yet."""
