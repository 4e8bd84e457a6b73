"""Reads `--set jobs.mapper.training.max_length=512`: values under `jobs.`, and nothing else."""

from collections.abc import Sequence

from ftcheck.errors import Problem
from ftcheck.policy import document
from ftcheck.policy.messages import did_you_mean
from ftcheck.policy.nodes import (
    Node,
    merge,
    nested,
    problem,
)
from ftcheck.records import ON_COMMAND_LINE, Location

PLACE = ON_COMMAND_LINE
EXAMPLE = "write it as in jobs.mapper.training.max_length=512"


def applied(tree: Node, overrides: Sequence[str], *, complete: bool) -> tuple[Node, list[Problem]]:
    """The tree with the overrides laid on it, in order, and what is wrong with them.

    A tree that is not `complete` does not know all its jobs; none is called unknown then.
    """
    problems: list[Problem] = []
    for override in overrides:
        found = _read(tree, override, complete=complete)
        if isinstance(found, Node):
            tree = merge(tree, found)
        else:
            problems.extend(found)
    return tree, problems


def _read(tree: Node, override: str, *, complete: bool) -> Node | Sequence[Problem]:
    path, equals, text = override.partition("=")
    at = Location(path=PLACE, yaml_path=path)
    if not equals:
        return [problem(f"has no value: {EXAMPLE}", at)]
    if not path.startswith("jobs."):
        return [problem(f"only values under 'jobs.' can be set: {EXAMPLE}", at)]
    jobs = tree.items["jobs"].items if "jobs" in tree.items else {}
    job = _job_of(path.removeprefix("jobs."), list(jobs))
    if job is None:
        return _unknown(path, list(jobs), at) if complete else []
    keys = path.removeprefix(f"jobs.{job}").split(".")[1:]
    if not all(keys):
        return [problem("has an empty key", at)]
    if not text.strip():
        return [problem("has no value: write null for none, '' for an empty text", at)]
    value, problems = document.parse(text, at=at)
    return problems if value is None or problems else nested(["jobs", job, *keys], value)


def _job_of(path: str, jobs: Sequence[str]) -> str | None:
    """The job a path begins with; names may hold dots, so the longest one wins."""
    matching = [job for job in jobs if path == job or path.startswith(f"{job}.")]
    return max(matching, key=len, default=None)


def _unknown(path: str, jobs: Sequence[str], at: Location) -> Sequence[Problem]:
    name = path.removeprefix("jobs.").partition(".")[0]
    return [problem(f"unknown job '{name}'{did_you_mean(name, jobs)}", at)]
