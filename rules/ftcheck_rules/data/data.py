"""Data rules: can the rows be read, and are they laid out as training needs them?"""

from collections.abc import Iterator
from pathlib import Path

from ftcheck import (
    Exclude,
    Finding,
    InputError,
    Inputs,
    Job,
    Location,
    Measurement,
    Rows,
    Severity,
    Skip,
    Summary,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs import exclude_list

UNREADABLE = ("encoding", "json")

REMARKS = {
    "role": (
        "a message has a role that chat templates do not know",
        "roles are system, user, assistant and tool",
    ),
    "null-content": (
        "a message has no content: many templates write the word None instead",
        'give it a text ("" for none), or take the message out',
    ),
    "empty-answer": (
        "an answer of the assistant is empty: the model is taught to say nothing",
        "take the row out, or write the answer",
    ),
    "no-answer": (
        "there is no answer of the assistant in this row",
        "end the conversation with a message of the role assistant",
    ),
}


@rule("data-readable", family="data", cases="ftcheck_rules.data.cases.data")
def data_readable(job: Job, inputs: Inputs) -> Iterator[Yield]:
    """Every row of the training data can be read.

    A file that is missing or a row that is no JSON ends the run when the data is loaded, often after
    the model was: and a loader that skips broken rows trains on less than everybody thinks.

    Opens the files that data.train names and reads every row; a row counts as broken if it is not
    UTF-8, not JSON, or cannot be taken out of its file. No other rule looks at data.eval: its rows are
    read here too, and each must come through the whole preparation. No parameters.
    """
    if job.data.train is None and job.trainer.use == "command":
        yield Skip("the job names no data.train: its command reads data of its own")
        return
    try:
        rows: Rows = inputs.get("rows")
    except InputError as error:
        yield Measurement("rows", 0, unit="rows", limit=">= 1")
        yield from _cannot_open(error, job)
        return
    broken = {row: trouble for row, trouble in rows.row_errors.items() if trouble.code in UNREADABLE}
    yield Measurement("rows", len(rows), unit="rows", limit=">= 1")
    yield Measurement("rows_broken", len(broken), unit="rows", limit="0")
    excluded = len(exclude_list.read(Path(job.data.exclude))) if job.data.exclude is not None else 0
    if excluded:
        yield Measurement("rows_excluded", excluded, unit="rows")
    if excluded and job.trainer.use == "command":
        message = "data.exclude leaves rows out here, and the trainer's command reads all of them"
        fix = "take the rows out of the file, and data.exclude out of the policy"
        yield Finding(message, at=job.at("data.exclude"), fix=fix)
    yield Summary(_read(len(rows), len(rows.files), len(broken), excluded))
    if len(rows) == 0:
        fix = "write at least one row, or name another file"
        yield Finding("data.train holds no rows", at=job.at("data.train"), fix=fix)
    for row, trouble in broken.items():
        yield Finding(trouble.message, at=rows.at(row, trouble.column), fix=trouble.fix)
    yield Exclude(sorted(broken), rows.at)
    if job.data.eval is not None:
        yield from _evaluation(job, inputs, rows)


def _evaluation(job: Job, inputs: Inputs, rows: Rows) -> Iterator[Finding | Measurement]:
    """The rows of data.eval, as the trainer will feed them; nothing where the tokenizer does not open.

    What the template does to training rows, too, is said by `chat-template` already.
    """
    try:
        inputs.get("tokenizer")
    except InputError:
        return  # the checks that need the tokenizer are errored, and say so
    try:
        prepared = inputs.get("prepared_eval")
    except InputError as error:
        yield from _cannot_open(error, job, "data.eval")
        return
    yield Measurement("eval_rows", len(prepared), unit="rows", limit=">= 1")
    if not len(prepared):
        fix = "write at least one row, or take data.eval out"
        yield Finding("data.eval holds no rows", at=job.at("data.eval"), fix=fix)
    told = {trouble.message for trouble in rows.row_errors.values() if trouble.code == "template"}
    for row, trouble in prepared.row_errors.items():
        if trouble.message in told:
            continue
        yield Finding(trouble.message, at=prepared.rows.at(row, trouble.column), fix=trouble.fix)


def _cannot_open(error: InputError, job: Job, key: str = "data.train") -> Iterator[Finding]:
    """One finding a problem, at its own place, or at `key` where it has none."""
    for problem in error.problems:
        place = Location(problem.path, problem.line, problem.column, problem.yaml_path)
        yield Finding(
            problem.message,
            at=place if problem.path else job.at(key),
            fix=f"name the file in {key}; paths are relative to the policy that states them",
        )


def _read(rows: int, files: int, broken: int, excluded: int) -> str:
    said = f"{rows:,} row{'s' * (rows != 1)} in {files:,} file{'s' * (files != 1)}"
    said += f" · {excluded:,} left out by data.exclude" if excluded else ""
    return f"{said} · {broken:,} broken" if broken else said


@rule("data-schema", family="data", cases="ftcheck_rules.data.cases.data")
def data_schema(job: Job, rows: Rows) -> Iterator[Yield]:
    """Every row has the keys, roles and contents that its layout asks for.

    A missing key ends the run in the middle of preparation; an unknown role, an empty answer or a null
    content ends nothing: the model learns to answer with nothing, or with the word None.

    Looks at every readable row, in the layout that data.format states or the first row shows. No
    parameters.
    """
    wrong = {row: trouble for row, trouble in rows.row_errors.items() if trouble.code == "schema"}
    unreadable = sum(trouble.code in UNREADABLE for trouble in rows.row_errors.values())
    if len(rows) == unreadable:
        yield Skip("there is no row that can be read")
        return
    remarked = {code: found for code, found in rows.remarks.items() if code in REMARKS}
    errors = {
        row for code, found in remarked.items() if _severity(code, job, rows) == "error" for row in found
    }
    yield Measurement("format", rows.format)
    yield Measurement("rows_wrong", len(errors | set(wrong)), unit="rows", limit="0")
    yield Summary(
        f"{rows.format} · {len(rows) - len(errors | set(wrong)):,} of {len(rows):,} rows as they should be"
    )
    for row, trouble in wrong.items():
        yield Finding(trouble.message, at=rows.at(row, trouble.column), fix=trouble.fix)
    yield Exclude(sorted({*wrong, *errors}), rows.at)
    for code, found in remarked.items():
        yield from _remarks(code, found, job, rows)
    yield from _notes(job, rows)


def _remarks(code: str, found: tuple[int, ...], job: Job, rows: Rows) -> Iterator[Finding]:
    message, fix = REMARKS[code]
    severity = _severity(code, job, rows)
    for row in found:
        yield Finding(message, severity, at=rows.at(row), fix=fix)


def _severity(code: str, job: Job, rows: Rows) -> Severity:
    """An empty answer is a warning; a missing one is an error only where answers alone are in the loss."""
    if code == "no-answer":
        return Severity.ERROR if _answers_only(job, rows) else Severity.WARNING
    return Severity.WARNING if code == "empty-answer" else Severity.ERROR


def _answers_only(job: Job, rows: Rows) -> bool:
    completion = rows.format in ("prompt-completion", "alpaca")
    return job.training.assistant_only_loss or (completion and job.training.completion_only_loss is not False)


def _notes(job: Job, rows: Rows) -> Iterator[Finding]:
    """What is worth knowing and wrong in no row."""
    if rows.format == "sharegpt":
        message = (
            "ShareGPT roles are read as chat roles (human as user, gpt as assistant); TRL alone keeps them"
        )
        yield Finding(message, Severity.INFO, at=job.at("data.format"))
    for note in rows.notes:
        yield Finding(note, Severity.INFO, at=job.at("data.train"))
