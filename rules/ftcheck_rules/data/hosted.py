"""The rule for files that are uploaded to a hosted fine-tuning service; runs only where a policy names it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftcheck import (
    Finding,
    InputError,
    Inputs,
    Job,
    Measurement,
    Prepared,
    Rows,
    Severity,
    Skip,
    Summary,
    rule,
    tables,
)
from ftcheck.extension.rules import Yield
from ftcheck.plurals import counted
from ftcheck.sampling.statistics import AllRows, Count

REFUSED = {
    "role": ("a message has a role that the service does not accept", "use the roles {roles}"),
    "no-answer": ("the row has no assistant message", "end the row with an assistant message"),
    "last-turn": (
        "the last message is not an assistant message",
        "end the row with the answer that is to be learned",
    ),
    "message-keys": (
        "a message has keys that the service does not accept",
        "use only role, content, name, weight, tool_calls, tool_call_id, function_call, refusal and audio",
    ),
    "weight": (
        "a message has a weight other than 0 or 1",
        "set it to 0 (the answer is not in the loss) or to 1 (it is)",
    ),
    "null-content": ("a message has neither content nor tool calls", "give it a content"),
}
"""Remarks on rows that a service rejects (see `ftcheck.Rows.remarks`)."""


@dataclass(frozen=True)
class Hosted:
    """Parameters of `hosted-file`."""

    provider: Literal["openai"] = "openai"
    """The service whose rules apply."""
    model: str | None = None
    """The hosted model, which sets the token limit; default: model.name."""


@rule("hosted-file", family="data", cases="ftcheck_rules.data.cases.hosted")
def hosted_file(job: Job, inputs: Inputs, params: Hosted) -> Iterator[Yield]:
    """A hosted fine-tuning service would accept the training file.

    The service validates the file after the upload, and the job fails minutes or hours later: too few rows, a
    row without an answer, a key that it does not accept.

    Checks the rows against a dated table of the service's public rules (ftcheck/tables/hosted_services.json):
    at least ten rows, JSON lines in chat format, known roles and message keys, an assistant message last,
    weights of 0 or 1, size of the file. Tokens are counted with the job's own tokenizer where there is one;
    more than the model's limit is a warning, because the service counts with its own. Not among the
    recommended checks. Parameters: provider (default openai), model (default model.name).
    """
    if job.data.train is None:
        yield Skip("data.train is not set")
        return
    rows: Rows = inputs.get("rows")
    rules = tables.load("hosted_services")[params.provider]
    wrong = {row: trouble for row, trouble in rows.row_errors.items() if trouble.code != "template"}
    least = f">= {rules['min_rows']}"
    yield Measurement("rows", len(rows), unit="rows", limit=least, statistic=AllRows())
    yield Summary(f"{counted(len(rows), 'row')} for {params.provider}")
    yield from _file(job, rows, rules, params)
    for row, trouble in wrong.items():
        at = rows.at(row, trouble.column)
        yield Finding(trouble.message, at=at, fix=trouble.fix, content=trouble.content)
    for code, (message, fix) in REFUSED.items():
        for row in rows.remarks.get(code, ()):
            yield Finding(message, at=rows.at(row), fix=fix.format(roles=", ".join(rules["roles"])))
    yield from _lengths(job, inputs, rules, params)


def _file(job: Job, rows: Rows, rules: Any, params: Hosted) -> Iterator[Finding]:
    at, least = job.at("data.train"), int(rules["min_rows"])
    if len(rows) < least:
        message = f"the file has {counted(len(rows), 'row')}, {params.provider} requires at least {least}"
        fix = f"add {counted(least - len(rows), 'row')}, or train on your own machine"
        yield Finding(message, at=at, fix=fix)
    if rows.format not in (*rules["layouts"], "unknown"):
        message = f"the format of the rows is '{rows.format}', {params.provider} requires chat messages"
        yield Finding(message, at=at, fix="write each row as a list of messages with role and content")
    for name in rows.files:
        suffix = Path(name).suffix
        if suffix not in rules["suffixes"]:
            known = ", ".join(rules["suffixes"])
            message = f"{params.provider} accepts {known} files, this one is {suffix or name}"
            yield Finding(message, at=at, fix="write one JSON object per line")
        size = Path(name).stat().st_size if Path(name).is_file() else 0
        if size > rules["max_file_bytes"]:
            most = int(rules["max_file_bytes"]) >> 20
            message = f"{name} has {size >> 20:,} MiB, {params.provider} accepts at most {most:,} MiB"
            yield Finding(message, at=at, fix="remove rows, or split the training into several jobs")
    if len(rows.files) > 1:
        message = f"data.train names {len(rows.files)} files, {params.provider} accepts one"
        yield Finding(message, at=at, fix="merge them into one file")


def _lengths(job: Job, inputs: Inputs, rules: Any, params: Hosted) -> Iterator[Finding | Measurement]:
    model = params.model or job.model.name
    limit = rules["max_tokens"].get(model)
    if limit is None:
        return
    try:
        prepared: Prepared = inputs.get("prepared")
    except InputError:
        return  # a hosted model has no tokenizer here
    over = (prepared.length > limit).nonzero()[0].tolist()
    yield Measurement("rows_over_limit", len(over), unit="rows", limit="0", statistic=Count())
    for row in over:
        message = (
            f"the row has about {int(prepared.length[row]):,} tokens, {model} trains on the first {limit:,}"
        )
        yield Finding(message, Severity.WARNING, at=prepared.at(row), fix="shorten the row")
