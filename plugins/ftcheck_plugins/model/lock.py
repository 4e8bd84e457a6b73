"""Finds what `ftcheck lock` wrote beside the policy."""

from ftcheck import lock as locks
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.lock import Lock
from ftcheck.settings import Job


@loader("lock")
def lock(job: Job, run: Run) -> Lock | None:
    """The lock beside the policy of this run, else beside the file that states the job; None without one.

    Raises `InputError` for a file that is no lock.
    """
    for path in locks.paths_for(run.policy, job):
        found = locks.read(path)
        if found is not None:
            return locks.for_job(found, path, job.name)
    return None
