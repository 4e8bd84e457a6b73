"""Inputs that changed while the checks ran: the report would be of neither what was there nor what is."""

from collections.abc import Iterator

from ftcheck.errors import Problem
from ftcheck.gate.input_digests import InputDigests
from ftcheck.settings import Job

KEYS = {
    "train": "data.train",
    "eval": "data.eval",
    "gold": "data.gold",
    "benchmarks": "data.benchmarks",
    "prepared": "data.prepared",
    "exclude": "data.exclude",
    "tokenizer": "model.tokenizer",
    "chat_template": "model.chat_template",
    "adapter": "training.output_dir",
}
"""Keys of the policy by the names of inputs, where these are others."""


def changed(job: Job, was: InputDigests, is_now: InputDigests) -> Iterator[Problem]:
    """What of a job's inputs was written, or went away, between two looks at them.

    What could not be digested at first (a model that the run itself fetches) is not compared.
    """
    for name, one in was.inputs.items():
        found = is_now.inputs.get(name)
        if one.digest is not None and (found is None or found.digest != one.digest):
            short = name.removeprefix(f"{job.name}.")
            yield _problem(job, KEYS.get(short, short), one.path)
    if was.job.model not in (None, is_now.job.model):
        yield _problem(job, "model.name", job.model.name)


def _problem(job: Job, key: str, what: str) -> Problem:
    at = job.at(key)
    message = f"{what} changed while the checks ran: run them again when nothing writes to it"
    return Problem(message, at.path, at.line, at.column, at.yaml_path)
