"""Before a trainer starts: the gate for scripts, the host's checks on this machine, the run folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ftcheck.errors import UsageError
from ftcheck.gate.stored import Asked, check_stored
from ftcheck.gate.ticket import Refusal, Refused, Ticket
from ftcheck.records import Result, Stage
from ftcheck.runner.execute import execute
from ftcheck.runner.load import Loaded, load
from ftcheck.runner.options import Options
from ftcheck.runner.workplace import Workplace
from ftcheck.training.own_script import OwnScript


def run_folder(loaded: Loaded, job: str) -> Path:
    """Where a job's run lies: its `training.output_dir`."""
    folder = loaded.policy.jobs[job].training.output_dir
    if folder is None:
        raise UsageError(f"jobs.{job}.training.output_dir is not set")
    return Path(folder)


def host_checks(loaded: Loaded, options: Options, job: str) -> tuple[Result, ...]:
    """The host's checks, run on this machine for one job; without report."""
    checks = tuple(check for check in loaded.checks if check.job is None)
    with Workplace(offline=options.offline, workers=options.workers) as place:
        executed = execute(place, options, loaded, checks, (job,))
    if executed.interrupted:
        raise KeyboardInterrupt
    return executed.results


def require(
    report: str | Path,
    *,
    policy: str | Path,
    job: str,
    overrides: Sequence[str] = (),
    rules_dirs: Sequence[str | Path] = (),
    require_signed: str | None = None,
    attestation: str | Path | None = None,
) -> Ticket:
    """The gate for your own training script, in its first lines.

    Returns the ticket if the stored `report` opens the gate for `job` of `policy` as both are now: call its
    `verify` with the trainer before the first step.
    Raises `ftcheck.Refused`, whose message names every reason; exit code 5 if you let it through
    `ftcheck`'s command line. `overrides` and `rules_dirs` as they were given to `ftcheck run`.
    `require_signed` is a file with a public key, or an identity, that must have signed the report, beside
    those of the policy's `gate.require_signed`; the signature lies beside the report, or in `attestation`.
    """
    loaded = load(policy, overrides, [Path(folder) for folder in rules_dirs])
    if loaded.policy.stage is not Stage.BEFORE:
        raise UsageError(
            f"{policy}: its stage is {loaded.policy.stage}; only a policy of stage before can be trained"
        )
    if job not in loaded.policy.jobs:
        raise UsageError(f"{policy}: no job '{job}'; its jobs are: {', '.join(loaded.policy.jobs)}")
    asked = Asked(require_signed, attestation)
    decision = check_stored(report, loaded.policy, loaded.checks, job, during=loaded.during, asked=asked)
    if isinstance(decision, Refusal):
        raise Refused(decision)
    return replace(decision, verifier=OwnScript(loaded, report))
