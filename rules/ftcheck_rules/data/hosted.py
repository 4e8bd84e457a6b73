"""The rule for files that a hosted fine-tuning service will read; it runs only where a policy asks for it."""

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

REFUSED = {
    "role": ("a message has a role that the service does not know", "roles are {roles}"),
    "no-answer": ("there is no answer of the assistant in this row", "end the row with one"),
    "last-turn": ("the last message is not the assistant's", "end the row with the answer to be learned"),
    "message-keys": (
        "a message has keys that the service does not know",
        "role, content, name, weight, tool_calls, tool_call_id, function_call, refusal and audio are known",
    ),
    "weight": ("a message has a weight other than 0 or 1", "0 takes an answer out of the loss, 1 keeps it"),
    "null-content": ("a message has neither content nor tool calls", "give it a text"),
}
"""Remarks on rows that a service refuses (see `ftcheck.Rows.remarks`)."""


@dataclass(frozen=True)
class Hosted:
    """Parameters of `hosted-file`."""

    provider: Literal["openai"] = "openai"
    """Whose rules hold."""
    model: str | None = None
    """The hosted model, for its token limit; default: model.name."""


@rule("hosted-file", family="data", cases="ftcheck_rules.data.cases.hosted")
def hosted_file(job: Job, inputs: Inputs, params: Hosted) -> Iterator[Yield]:
    """A hosted fine-tuning service would take the training file.

    A service checks the file after the upload, and the job fails minutes or hours later: too few rows, a
    row without an answer, a key it does not know.

    Holds the rows against a dated table of the service's public rules (ftcheck/tables/
    hosted_services.json): at least ten rows, JSON lines in chat layout, known roles and message keys,
    the last message the assistant's, weights of 0 or 1, size of the file. Tokens are counted by the job's
    own tokenizer where there is one: more than the model's limit is a warning, as the service counts
    with its own. Not in the recommended checks. Parameters: provider (default openai), model (default
    model.name).
    """
    if job.data.train is None:
        yield Skip("the job names no data.train")
        return
    rows: Rows = inputs.get("rows")
    rules = tables.load("hosted_services")[params.provider]
    wrong = {row: trouble for row, trouble in rows.row_errors.items() if trouble.code != "template"}
    yield Measurement("rows", len(rows), unit="rows", limit=f">= {rules['min_rows']}")
    yield Summary(f"{len(rows):,} rows for {params.provider}")
    yield from _file(job, rows, rules, params)
    for row, trouble in wrong.items():
        yield Finding(trouble.message, at=rows.at(row, trouble.column), fix=trouble.fix)
    for code, (message, fix) in REFUSED.items():
        for row in rows.remarks.get(code, ()):
            yield Finding(message, at=rows.at(row), fix=fix.format(roles=", ".join(rules["roles"])))
    yield from _lengths(job, inputs, rules, params)


def _file(job: Job, rows: Rows, rules: Any, params: Hosted) -> Iterator[Finding]:
    at, least = job.at("data.train"), int(rules["min_rows"])
    if len(rows) < least:
        message = f"{params.provider} takes {least} rows at least, these are {len(rows)}"
        yield Finding(message, at=at, fix=f"{least - len(rows)} rows more, or train on a machine of your own")
    if rows.format not in (*rules["layouts"], "unknown"):
        message = f"{params.provider} takes rows with messages, these are '{rows.format}'"
        yield Finding(message, at=at, fix="write each row as a list of messages with role and content")
    for name in rows.files:
        suffix = Path(name).suffix
        if suffix not in rules["suffixes"]:
            message = (
                f"{params.provider} takes {', '.join(rules['suffixes'])} files, this is {suffix or name}"
            )
            yield Finding(message, at=at, fix="write one JSON object a line")
        size = Path(name).stat().st_size if Path(name).is_file() else 0
        if size > rules["max_file_bytes"]:
            most = int(rules["max_file_bytes"]) >> 20
            yield Finding(f"{name} has {size >> 20:,} MiB, {params.provider} takes {most:,}", at=at)
    if len(rows.files) > 1:
        message = f"{params.provider} takes one file, data.train names {len(rows.files)}"
        yield Finding(message, at=at, fix="put them into one file")


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
    yield Measurement("rows_over_limit", len(over), unit="rows", limit="0")
    for row in over:
        message = f"about {int(prepared.length[row]):,} tokens, {model} learns the first {limit:,} of a row"
        yield Finding(message, Severity.WARNING, at=prepared.at(row), fix="shorten the row")
