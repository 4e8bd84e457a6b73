"""Runs of checks from Python: `ftcheck.check(...)` and `ftcheck.run(...)` return the report."""

from collections.abc import Sequence
from pathlib import Path

from ftcheck.policy.made import Asked, Loss
from ftcheck.report.notebook import NotebookReport
from ftcheck.runner import session
from ftcheck.runner.options import Options
from ftcheck.runner.select import Selection
from ftcheck.runner.sources import policy_for


def check(
    *data: str | Path,
    model: str | Path | None = None,
    eval: str | Path | None = None,
    max_length: int | None = None,
    gpu: str | None = None,
    loss: Loss | None = None,
    select: Sequence[str] = (),
    offline: bool = False,
) -> NotebookReport:
    """Check data files for a model with the recommended checks, as `ftcheck check` does; no policy is needed.

    In their place may stand another framework's configuration (`check("qlora.yml")`), which the other
    arguments override, or a policy. Nothing is raised for what the checks find: the report says it. Raises
    `UsageError` for a file that is not there, `PolicyError` for a configuration that cannot be read.
    """
    asked = Asked(
        data=tuple(map(str, data)),
        model=None if model is None else str(model),
        eval=None if eval is None else str(eval),
        max_length=max_length,
        gpu=gpu,
        loss=loss,
    )
    with policy_for(asked) as policy:
        return _report(Options(policy=policy, selection=Selection(select=tuple(select)), offline=offline))


def run(
    policy: str | Path,
    *,
    jobs: Sequence[str] = (),
    select: Sequence[str] = (),
    overrides: Sequence[str] = (),
    rules_dirs: Sequence[str | Path] = (),
    offline: bool = False,
) -> NotebookReport:
    """Run a policy's checks, as `ftcheck run` does. `overrides` are as `--set` takes them.

    Nothing is raised for what is wrong with the policy or the checks: the report says it in its `problems`
    and `results`.
    """
    return _report(
        Options(
            policy=str(policy),
            overrides=tuple(overrides),
            selection=Selection(jobs=tuple(jobs), select=tuple(select)),
            rules_dirs=tuple(map(Path, rules_dirs)),
            offline=offline,
        )
    )


def _report(options: Options) -> NotebookReport:
    return NotebookReport.of(session.run(options, lambda planned: ()).report)
