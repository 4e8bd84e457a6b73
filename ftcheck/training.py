"""What `ftcheck train` does around the trainer: the host's checks on this machine, the run folder."""

import shutil
import tempfile
from pathlib import Path

from ftcheck.errors import UsageError
from ftcheck.ledger import Ledger
from ftcheck.records import Result
from ftcheck.runner import run_checks
from ftcheck.session import Loaded, Options, waiving
from ftcheck.setup import Setup


def run_folder(loaded: Loaded, job: str) -> Path:
    """Where a job's run lies: its `training.output_dir`."""
    folder = loaded.policy.jobs[job].training.output_dir
    if folder is None:
        raise UsageError(f"jobs.{job}.training.output_dir is not set")
    return Path(folder)


def host_checks(loaded: Loaded, options: Options, job: str) -> tuple[Result, ...]:
    """The host's checks, run on this machine for one job; without report."""
    checks = tuple(check for check in loaded.checks if check.job is None)
    ledger, folder = Ledger(checks), Path(tempfile.mkdtemp(prefix="ftcheck-"))
    setup = Setup(
        checks=checks,
        jobs=(loaded.policy.jobs[job],),
        folder=folder,
        plugins=loaded.policy.plugins,
        rules_dirs=options.rules_dirs,
        offline=options.offline,
    )
    try:
        fail_on, finish = loaded.policy.gate.fail_on, waiving(loaded.policy)
        run_checks(setup, loaded.host, ledger, fail_on=fail_on, limits=options.limits, finish=finish)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ledger.close("not run")
