"""Runs of checks from Python: `ftcheck.check(...)` and `ftcheck.run(...)` return the report."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ftcheck.errors import UsageError
from ftcheck.estimate.gpus import card
from ftcheck.inputs.bounded import expanded
from ftcheck.paths import DATA_SUFFIXES, is_hub_data
from ftcheck.policy.made import Asked, Loss, Made, made
from ftcheck.report.notebook import NotebookReport
from ftcheck.runner import session
from ftcheck.runner.options import Options
from ftcheck.runner.select import Selection


def check(
    *data: str | Path,
    model: str | Path,
    eval: str | Path | None = None,
    max_length: int | None = None,
    gpu: str | None = None,
    loss: Loss | None = None,
    select: Sequence[str] = (),
    offline: bool = False,
) -> NotebookReport:
    """Check data files for a model with the recommended checks, as `ftcheck check` does; no policy is needed.

    Nothing is raised for what the checks find: the report says it. Raises `UsageError` for a file that is not
    there.
    """
    asked = Asked(
        data=tuple(map(str, data)),
        model=str(model),
        eval=None if eval is None else str(eval),
        max_length=max_length,
        gpu=gpu,
        loss=loss,
    )
    return _report(
        Options(policy=policy_for(asked), selection=Selection(select=tuple(select)), offline=offline)
    )


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


def policy_for(asked: Asked) -> Made:
    """The policy for some data; it computes in what the GPU can. Raises `UsageError` for files not there."""
    if not asked.data:
        raise UsageError("no data: name a file of training rows")
    for file in (*asked.data, *([asked.eval] if asked.eval is not None else [])):
        _refuse_unreadable(file)
    written_as_path = asked.model.startswith((".", "/", "~")) or asked.model.count("/") > 1
    if written_as_path and not os.path.isdir(expanded(asked.model)):
        raise UsageError(f"model {asked.model}: no such folder")
    return made(asked, half=_half(asked.gpu))


def _refuse_unreadable(file: str) -> None:
    """Say at once which file is not there, or is none of data, instead of one error a check."""
    path = expanded(file)
    if os.path.isdir(path):
        raise UsageError(f"{file} is a folder: name the files, or use {file.rstrip('/')}/*.jsonl")
    if not (glob.glob(path) or os.path.exists(path) or is_hub_data(file)):
        raise UsageError(f"{file}: no such file")
    if os.path.exists(path) and Path(path).suffix not in DATA_SUFFIXES:
        raise UsageError(f"{file}: unsupported; ftcheck reads {', '.join(DATA_SUFFIXES)}")


def _half(gpu: str | None) -> Literal["bfloat16", "float16"]:
    """The 16-bit type that a GPU computes in."""
    known = card(gpu) if gpu is not None else None
    return "bfloat16" if known is None or known.bf16 else "float16"


def _report(options: Options) -> NotebookReport:
    return NotebookReport.of(session.run(options, lambda planned: ()).report)
