"""What a run takes of a policy's plan: the ledger before the first check."""

from dataclasses import dataclass, replace

from ftcheck.records import Check, Stage
from ftcheck.runner.load import Loaded, Opened, bound
from ftcheck.runner.options import Options
from ftcheck.runner.select import Selection, last_failed, narrow


@dataclass(frozen=True, slots=True)
class Planned:
    """A policy with what this run takes of its plan."""

    loaded: Loaded
    taken: tuple[Check, ...]
    selection: Selection

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs this run looks at."""
        return self.selection.jobs or tuple(self.loaded.policy.jobs)


def plan(opened: Opened, options: Options) -> Planned:
    """The checks that `options` take of a policy. Raises what `bound` raises, `UsageError` for names."""
    stage = Stage(options.selection.stage) if options.selection.stage else None
    loaded, selection = bound(opened, stage), options.selection
    if stage == loaded.policy.stage:
        selection = replace(selection, stage=None)
    if options.only_last_failed:
        failed = last_failed(loaded.policy.path)
        selection = replace(selection, last_failed=failed or None)
    return Planned(loaded, narrow(loaded.checks, selection, tuple(loaded.policy.jobs)), selection)
