"""Reads what an earlier run's morning after measured, from its JSON report."""

from pathlib import Path

from ftcheck.digest import of_file
from ftcheck.errors import InputError, Problem
from ftcheck.inputs import bounded
from ftcheck.inputs.baseline import Baseline
from ftcheck.inputs.loader import loader
from ftcheck.paths import near
from ftcheck.records import Outcome
from ftcheck.report.record import Report
from ftcheck.report.shape import checked
from ftcheck.settings import Job

MEASURED = (Outcome.PASSED, Outcome.FAILED, Outcome.WAIVED)


@loader("baseline")
def baseline(job: Job) -> Baseline | None:
    """The earlier report's accuracy of this job; None where the policy names no `baseline`.

    Raises `InputError` for a file that is not there, or is no finished report.
    """
    if job.baseline is None:
        return None
    report = _read(job, Path(job.baseline))
    numbers = {
        one.name: one.value
        for result in report.results
        if result.check.rule == "accuracy" and result.check.job == job.name and result.outcome in MEASURED
        for one in result.measurements
    }
    value, rows = numbers.get("accuracy"), numbers.get("n")
    asked = report.inputs.get(f"{job.name}.gold")
    now = of_file(Path(job.data.gold.path)) if job.data.gold is not None else None
    return Baseline(
        path=near(job.baseline),
        accuracy=float(value) if isinstance(value, int | float) else None,
        rows=rows if isinstance(rows, int) else None,
        same_gold=asked is not None and asked.digest is not None and asked.digest == now,
    )


def _read(job: Job, path: Path) -> Report:
    try:
        report = checked(bounded.read_json(path))
    except OSError as error:
        raise _failure(job, f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise _failure(job, f"{path}: not a report of `ftcheck run -o json=…`") from error
    if report.status == "started":
        raise _failure(job, f"{path}: that run has not finished, or was killed")
    return report


def _failure(job: Job, why: str) -> InputError:
    place = job.at("baseline")
    message = f"baseline of job {job.name}: {why}"
    return InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])
