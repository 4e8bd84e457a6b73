"""Settings that exclude each other, whatever the data and the model are."""

from collections.abc import Iterator

from ftcheck.errors import Problem
from ftcheck.policy.messages import did_you_mean
from ftcheck.policy.nodes import Node, find, problem

PLAIN_TEXT = ("auto", "text")


def problems_of(tree: Node) -> Iterator[Problem]:
    """The contradictions of jobs and waivers, each at one of its keys and naming the place of the other."""
    jobs = tree.items.get("jobs")
    for job in jobs.items.values() if jobs is not None else ():
        yield from _evaluation(job)
        yield from _chunks(job)
        yield from _command(job)
        yield from _sample(job)
    yield from _accepted(tree)
    waivers = tree.items.get("waivers")
    for waiver in waivers.value if waivers is not None and isinstance(waivers.value, tuple) else ():
        yield from _waiver(waiver)


def _stated(job: Node, *keys: str) -> Node | None:
    """A setting that is stated; None for one that is null too."""
    found = find(job, keys)
    return found if found is not None and found.value is not None else None


def _evaluation(job: Node) -> Iterator[Problem]:
    share, rows = _stated(job, "data", "validation_split"), _stated(job, "data", "eval")
    if share is not None and rows is not None:
        why = "evaluation rows come from one of them; remove one"
        yield problem(f"excludes data.eval ({rows.place}): {why}", share.at)


def _chunks(job: Node) -> Iterator[Problem]:
    action, layout = _stated(job, "data", "outliers", "action"), _stated(job, "data", "format")
    if action is not None and action.value == "chunk" and layout and layout.value not in PLAIN_TEXT:
        why = "only plain text is cut into chunks; set another action"
        yield problem(f"chunk excludes data.format {layout.value} ({layout.place}): {why}", action.at)


def _command(job: Node) -> Iterator[Problem]:
    argv, use = _stated(job, "trainer", "argv"), find(job, ("trainer", "use"))
    if use is None and argv is not None and isinstance(argv.value, tuple) and argv.value:
        why = "trainer.use is not set, and its default qlora runs no command"
        yield problem(f"{why}: set trainer.use: command, or remove argv", argv.at)


def _sample(job: Node) -> Iterator[Problem]:
    sample, stored = _stated(job, "data", "sample"), _stated(job, "data", "prepared")
    if sample is not None and stored is not None:
        why = "prepared rows are read whole; remove one"
        yield problem(f"excludes data.prepared ({stored.place}): {why}", sample.at)


def _accepted(tree: Node) -> Iterator[Problem]:
    """Jobs of gate.accept_sample that are not there."""
    accepted, jobs = _stated(tree, "gate", "accept_sample"), tree.items.get("jobs")
    known = list(jobs.items) if jobs is not None else []
    for one in accepted.value if accepted is not None and isinstance(accepted.value, tuple) else ():
        if isinstance(one.value, str) and one.value not in known:
            yield problem(f"unknown job '{one.value}'{did_you_mean(one.value, known)}", one.at)


def _waiver(waiver: Node) -> Iterator[Problem]:
    whole, named = _stated(waiver, "all"), _stated(waiver, "fingerprints")
    if whole is not None and whole.value is True and named is not None and named.value:
        why = "a waiver covers the findings that it names, or all of a check; remove one"
        yield problem(f"excludes fingerprints ({named.place}): {why}", whole.at)
