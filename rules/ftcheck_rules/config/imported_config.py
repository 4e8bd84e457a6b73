"""Imported configuration rule: is what was checked what the framework's own file says?"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ftcheck import Finding, InputError, Job, Measurement, Severity, Summary, rule
from ftcheck.extension.rules import Yield
from ftcheck.importers.records import IDS, MEMORY, Difference, Imported, NotMapped
from ftcheck.plurals import agreeing, counted
from ftcheck.policy.made import is_option
from ftcheck.records import Location
from ftcheck.templates import read_template

OWN = "qlora"
"""ftcheck's trainer: it trains by the policy, overrides included."""
CHANGES = {(IDS,): "the token ids", (MEMORY,): "the memory", (IDS, MEMORY): "the token ids and the memory"}
SHOWN = 3


@rule(
    "imported-config",
    family="config",
    cases="ftcheck_rules.config.cases.imported_config",
    only=("from",),
)
def imported_config(job: Job) -> Iterator[Yield]:
    """What the policy says is what the framework's configuration says, key by key.

    A framework trains with its own file, whatever the policy states: where the two differ, the checks looked
    at another run than the one that is paid for. The same goes for keys of the file that the policy cannot
    say, if they change token ids or memory.

    Compares every value that the policy states beside `from` with the file's, or with the framework's
    default. Another trainer than ftcheck's own fails on a difference; for ftcheck's own it is only listed,
    since it trains by the policy, and what an option of `ftcheck check` overrides is a warning. Keys that are
    not mapped and change ids or memory are warnings, and so are keys that the framework does not have.
    `ftcheck policy show --origin` prints the line of each value. No parameters.
    """
    record = job.imported
    if record is None:
        yield Finding("the configuration was not read", at=job.at("from"))
        return
    counts = (
        ("mapped", len(record.mapped)),
        ("without_effect", len(record.without_effect)),
        ("not_mapped", len(record.not_mapped)),
        ("overridden", len(record.differences)),
    )
    yield from (Measurement(name, number, "keys") for name, number in counts)
    overridden = f", {len(record.differences)} overridden by the policy" if record.differences else ""
    known = f"{record.name}: {len(record.mapped)} keys mapped, {len(record.without_effect)} without effect"
    yield Summary(f"{known}, {len(record.not_mapped)} not mapped{overridden}")
    for one in record.differences:
        yield _difference(job, record, one)
    yield from _not_mapped(job, record)
    yield from _notes(record)


def _difference(job: Job, record: Imported, one: Difference) -> Finding:
    own = job.trainer.use == OWN
    asked = is_option(one.policy_at)
    beside = one.to.startswith("data.") and (not one.stated or one.to == "data.format")
    ours = f"{one.to} is {_shown(one.policy)} in the {'arguments' if asked else 'policy'}"
    key = f"{one.key} " if one.key and one.key != one.to else ""
    if one.stated and one.at.line:
        theirs = f"{key}is {_shown(one.framework)} in {one.at}".strip()
    elif one.stated:
        theirs = f"{record.name}'s default is {_shown(one.framework)} ({record.path} does not set {one.key})"
    else:
        theirs = f"{record.path} does not set it"
    trains = "ftcheck trains with the policy's value" if own else f"{record.name} trains with its own file"
    if beside:
        trains = "the checks look at the policy's rows"
    known = Severity.WARNING if asked else Severity.ERROR
    return Finding(
        f"{ours}, {theirs}: {trains}",
        Severity.INFO if own or beside else known,
        at=Location(
            one.policy_at.path, one.policy_at.line, one.policy_at.column, f"jobs.{job.name}.{one.to}"
        ),
        fix=None if own or beside else _remedy(record, one, asked=asked),
    )


def _remedy(record: Imported, one: Difference, *, asked: bool) -> str:
    ours = f"leave out {one.policy_at.path}" if asked else f"remove {one.to} from the policy"
    return f"{ours}, or say the same in {record.path}"


def _not_mapped(job: Job, record: Imported) -> Iterator[Finding]:
    """One finding for all keys of one reason: a section of twelve keys is one thing to look at."""
    groups: dict[tuple[str, tuple[str, ...]], list[NotMapped]] = {}
    for one in record.not_mapped:
        if one.stands is not None and job.states(one.stands):
            yield from _stands(job, record, one)
        elif one.changes:
            groups.setdefault((one.why, one.changes), []).append(one)
    for (why, changes), several in groups.items():
        verb = agreeing(len(several), "is", "are")
        yield Finding(
            f"{_named(several)} {verb} not mapped, and {agreeing(len(several), 'changes', 'change')} "
            f"{CHANGES[changes]}: {why}",
            Severity.WARNING,
            at=several[0].at,
            why=f"What ftcheck says of {CHANGES[changes]} is not what {record.name} does.",
        )
    for one in record.not_mapped:
        if not one.known:
            yield Finding(
                f"{one.key} is {one.why}", Severity.WARNING, at=one.at, fix="remove or rename the key"
            )


def _stands(job: Job, record: Imported, one: NotMapped) -> Iterator[Finding]:
    """The policy says in a key of its own what stands in the file; a template's text can be compared."""
    path = job.model.chat_template
    if path is None or not isinstance(one.value, str) or "{" not in one.value:
        message = f"{one.key} is not mapped: {one.stands} stands for it, which is not compared"
        yield Finding(message, Severity.INFO, at=one.at)
        return
    try:
        same = read_template(Path(path)).strip() == one.value.strip()
    except InputError:
        return  # `chat-template` says so
    if not same:
        yield Finding(
            f"{one.stands} is another template than {one.key} in {record.path}",
            at=job.at(str(one.stands)),
            fix=f"write the text of {one.key} into {path}",
        )


def _notes(record: Imported) -> Iterator[Finding]:
    """What the framework does otherwise than TRL under a key that is mapped."""
    for one in record.mapped:
        if one.note is not None:
            yield Finding(f"{one.key} states {', '.join(one.to)}: {one.note}", Severity.INFO, at=one.at)


def _named(several: Sequence[NotMapped]) -> str:
    names = ", ".join(one.key for one in several[:SHOWN])
    more = len(several) - SHOWN
    return f"{names} and {counted(more, 'more key')}" if more > 0 else names


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
