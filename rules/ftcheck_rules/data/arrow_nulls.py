"""Arrow's nulls: keys that a Parquet file gives to tool calls because other rows have them."""

import re
from collections.abc import Iterator, Sequence

from ftcheck import (
    Change,
    Finding,
    Inputs,
    Job,
    Measurement,
    Prepared,
    Severity,
    Skip,
    Summary,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.arrow_nulls import NullTokens, fills_keys
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AllRows, Count

NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}")
"""A key that is a name; any other is content."""
SHOWN = 5
"""How many keys are named."""
KEY = "data.drop_nulls"


@rule("arrow-nulls", family="data", cases="ftcheck_rules.data.cases.arrow_nulls")
def arrow_nulls(job: Job, prepared: Prepared, inputs: Inputs) -> Iterator[Yield]:
    """No row is trained on keys that are null only because Arrow fills them in.

    A Parquet file gives every tool call the keys of all tool calls: `{"city": "Berlin"}` is trained as
    `{"city": "Berlin", "room": null}`, and the model learns to write arguments that no function has.

    Rows from Parquet or Arrow files and from the hub (for a command: from all files, as load_dataset reads
    them) with keys that are null inside messages or tool definitions are prepared a second time without
    them; of more than 20,000, so many, evenly spread. An error where trained tokens differ; a warning where
    only the prompt does, or where each null may be meant (the argument's declared type takes it). The
    template sees no null of a message's own keys (transformers leaves those out). Nulls that are written in
    JSON lines are meant. `data.drop_nulls: true` drops the keys before anything else looks at the rows.
    Skipped where no file is read through Arrow, or no such row can be prepared without the nulls. No
    parameters.
    """
    command = job.trainer.use == "command"
    if prepared.rows.textless is not None:
        yield Skip(prepared.rows.textless)
        return
    through_arrow = command or any(map(fills_keys, prepared.rows.files))
    if job.data.drop_nulls:
        yield from _dropping(job, prepared, command=command)
        if not command:
            return
    elif not through_arrow:
        yield Skip("no file is read through Arrow, so keys that are absent stay absent")
        return
    found: NullTokens | None = inputs.get("arrow_nulls")
    if found is not None and not found.looked:
        yield Skip(f"none of {counted(found.rows, 'row')} with nulls can be prepared without them")
        return
    nulls = found.rows if found is not None else 0
    yield Measurement("rows_with_nulls", nulls, unit="rows", statistic=Count())
    yield Measurement("tokens_of_nulls", found.tokens if found is not None else 0, unit="tokens", limit="0")
    yield Measurement(
        "trained_tokens_of_nulls", found.trained if found is not None else 0, "tokens", limit="0"
    )
    total = len(prepared) - len(prepared.row_errors)
    if found is None or not found.other:
        kept = f"{found.looked:,} of " if found is not None else "0 of "
        yield Summary(f"{kept}{counted(total, 'row')} with such nulls, which the template does not write")
        return
    yield Summary(f"{found.tokens:,} tokens of {counted(total, 'row')} are nulls, {found.trained:,} trained")
    yield _finding(job, prepared, found, command=command)


def _dropping(job: Job, prepared: Prepared, *, command: bool) -> Iterator[Yield]:
    if command:
        yield Finding(
            f"{KEY} has no effect on a command, which reads the files itself",
            Severity.WARNING,
            at=job.at(KEY),
            fix="drop the nulls in the command, or write the file as JSON lines, and remove the key",
            why="The command trains on other rows than the policy says.",
        )
    else:
        yield Measurement("rows", len(prepared), unit="rows", statistic=AllRows())
        yield Summary("keys that are null are dropped (data.drop_nulls)")


def _finding(job: Job, prepared: Prepared, found: NullTokens, *, command: bool) -> Finding:
    searched = found.looked < found.rows
    of = f"of {found.looked:,} rows searched, {found.rows:,} in all," if searched else f"of {found.rows:,}"
    rows = f"{found.other:,} {of} {agreeing(found.rows, 'row', 'rows') if not searched else ''}".rstrip()
    rows = f"{rows} with keys that are null only because other rows have them"
    cost = f"{counted(found.tokens, 'token')}, {found.trained:,} of them in the loss"
    write = "write the file as JSON lines, where absent keys stay absent"
    return Finding(
        f"the template writes null for {_named(found.keys)} in {rows}: {cost}",
        Severity.ERROR if found.trained and found.meant < found.other else Severity.WARNING,
        at=prepared.at(found.first_other if found.first_other is not None else found.first),
        fix=write if command else f"set {KEY}: true, or {write}",
        change=None if command else Change(f"jobs.{job.name}.{KEY}", False, True, safe=False),
        content="keys: " + ", ".join(found.keys),
    )


def _named(keys: Sequence[str]) -> str:
    """`room and number`, or how many keys they are where they are not names."""
    names = [key for key in keys if NAME.fullmatch(key)]
    if not names:
        return counted(len(keys), "key")
    rest = len(keys) - len(names[:SHOWN])
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN])
    return f"{shown} and {counted(rest, 'other key')}" if rest else shown
