"""Whose ids a report says were checked, held against the job: its words must follow from it."""

from collections.abc import Iterator

from ftcheck import tables
from ftcheck.report.record import IdsFrom, JobDigests
from ftcheck.settings import Job


def trl_release() -> str:
    """The release of TRL whose preparation ours follows: tests hold it against that one."""
    version: str = tables.load("trainer_arguments")["versions"]["trl"]
    return ".".join(version.split(".")[:2])


def contradictions(digests: JobDigests, job: Job) -> Iterator[str]:
    """What a report says wrongly of whose ids it has for a job. Where a folder lies is not compared."""
    said = digests.ids_from
    if said is None:
        if digests.ids is not None:
            yield "does not say whose ids were checked"
        return
    if job.data.prepared is not None:
        if said.source != "prepared" or said.path is None or said.version is not None:
            yield f"says {said}, but the job reads prepared rows"
        elif said.digest != digests.ids:
            yield "names another digest for the ids of the folder than for those of the job"
    elif said not in _possible(job):
        yield f"says {said}, which the trainer {job.trainer.use} does not make true"


def _possible(job: Job) -> tuple[IdsFrom, ...]:
    """What can be said of a job that names rows; of a trainer by a plugin it is not known which."""
    unverified = IdsFrom("unverified", framework=job.trainer.use)
    if job.trainer.use == "command":
        return (unverified,)
    return (IdsFrom("trl", version=trl_release()), unverified)
