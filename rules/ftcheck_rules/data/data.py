"""Data rules: can the rows be read, and do they have the format that training needs?"""

from collections.abc import Iterator, Mapping, Sequence
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
from ftcheck.inputs.prepared import RowError
from ftcheck.paths import near
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AllRows, Count, NotOfRows
from ftcheck_rules.data.as_trained import as_loaded, columns

NAMED = 20
"""How many rows of a cause are named."""
UNREADABLE = ("encoding", "json", "ids")

REMARKS = {
    "role": (
        "a message has a role that chat templates do not know",
        "use the roles system, user, assistant and tool",
    ),
    "null-content": (
        "the content of a message is null: many templates render it as the word None",
        'write a text ("" for none), or remove the message',
    ),
    "empty-answer": (
        "an assistant message is empty: the model learns to answer with nothing",
        "remove the row, or write the answer",
    ),
    "no-answer": (
        "the row has no assistant message, so it has no answer to learn",
        "end the conversation with an assistant message",
    ),
}
VALID_BUT = {
    "role": ("an unknown role", "unknown roles"),
    "null-content": ("a null content", "null contents"),
    "empty-answer": ("an empty answer", "empty answers"),
    "no-answer": ("no answer", "no answer"),
}
"""How the summary counts each kind of remark: for one row, and for several."""


@rule("data-readable", family="data", cases="ftcheck_rules.data.cases.data")
def data_readable(job: Job, inputs: Inputs) -> Iterator[Yield]:
    """Every row of the training data can be read.

    A missing file, or a row that is not valid JSON, ends the run when the data is loaded, often after the
    model has been loaded; a loader that skips broken rows silently trains on less data than expected.

    Opens the files named by data.train and reads every row. A row counts as broken if it is not UTF-8, is not
    valid JSON, or cannot be extracted from its file. A trainer.use: command reads its files with
    datasets.load_dataset, so these files are loaded with it, and its rows are the ones that are checked;
    where its values are others than those of the files (dates, rounded numbers, null), or it raises, a
    finding says so. The rows of data.eval are read here too: each must pass the whole preparation, in the
    format of the training rows. A folder of data.prepared is read whole: each row needs token ids, and labels
    and masks of the same length. No parameters.
    """
    if job.data.train is None and job.data.prepared is None and job.trainer.use == "command":
        yield Skip("data.train is not set: the job's command reads its own data")
        return
    try:
        rows: Rows = inputs.get("rows")
    except InputError as error:
        yield Measurement("rows", 0, unit="rows", limit=">= 1")
        yield from _cannot_open(error, job, _stated(job))
        return
    broken = {row: trouble for row, trouble in rows.row_errors.items() if trouble.code in UNREADABLE}
    yield Measurement("rows", len(rows), unit="rows", limit=">= 1", statistic=AllRows())
    yield Measurement("rows_broken", len(broken), unit="rows", limit="0", statistic=Count())
    excluded = len(exclude_list.read(Path(job.data.exclude))) if job.data.exclude is not None else 0
    if excluded:
        yield Measurement("rows_excluded", excluded, unit="rows", statistic=NotOfRows())
    if excluded and job.trainer.use == "command":
        message = (
            f"data.exclude leaves {counted(excluded, 'row')} out of the checks,"
            " but the trainer's command reads all of them"
        )
        fix = "remove the rows from the file, and data.exclude from the policy"
        why = "The model is trained on rows that no check has seen."
        yield Finding(message, at=job.at("data.exclude"), fix=fix, why=why)
    yield from _without_effect(job)
    yield Summary(_read(len(rows), len(rows.files), len(broken), excluded))
    if len(rows) > 0:
        yield from _empty(job, rows)
    if len(rows) == 0:
        fix, key = "write at least one row, or name another file", _stated(job)
        yield Finding(f"{key} contains no rows", at=job.at(key), fix=fix)
    for row, trouble in broken.items():
        at = rows.at(row, trouble.column)
        yield Finding(trouble.message, at=at, fix=trouble.fix, content=trouble.content)
    yield Exclude(sorted(broken), rows.at)
    yield from as_loaded(job, inputs, rows)
    if job.evaluable:
        yield from _evaluation(job, inputs, rows)


def _evaluation(job: Job, inputs: Inputs, rows: Rows) -> Iterator[Finding | Measurement]:
    """The rows of data.eval, prepared as the trainer will; nothing where the tokenizer cannot be loaded.

    Template errors that training rows have too are left to `chat-template`.
    """
    try:
        inputs.get("tokenizer")
    except InputError:
        return  # the checks that need the tokenizer end in errors that say so
    try:
        prepared = inputs.get("prepared_eval")
    except InputError as error:
        yield from _cannot_open(error, job, "data.eval")
        return
    if prepared is None:
        return
    total = prepared.rows.total
    yield Measurement("eval_rows", total, unit="rows", limit=">= 1", statistic=NotOfRows())
    if not len(prepared):
        fix = "write at least one row, or remove data.eval"
        yield Finding("data.eval contains no rows", at=job.at("data.eval"), fix=fix)
    yield from _other_than_training(job, prepared.rows, rows)
    told = {trouble.message for trouble in rows.row_errors.values() if trouble.code == "template"}
    for row, trouble in prepared.row_errors.items():
        if trouble.message in told:
            continue
        at = prepared.rows.at(row, trouble.column)
        yield Finding(trouble.message, at=at, fix=trouble.fix, content=trouble.content)


def _other_than_training(job: Job, evaluated: Rows, rows: Rows) -> Iterator[Finding]:
    """Evaluation rows of another format, or that nothing will evaluate."""
    if (
        "unknown" not in (evaluated.format, rows.format)
        and evaluated.format != rows.format
        and len(evaluated)
    ):
        yield Finding(
            f"the rows of data.eval are {evaluated.format}, those of data.train {rows.format}",
            Severity.WARNING,
            at=job.at("data.eval"),
            fix="write both in the same format",
            why="The loss is taken from other tokens than in training, so eval_loss cannot be compared with"
            " the training loss; TRL decides by the training rows what is masked in both.",
        )
    if not job.evaluates:
        message = "training.eval_strategy is 'no': the rows of data.eval are checked, but not evaluated on"
        fix = "set training.eval_strategy: epoch, or remove data.eval"
        yield Finding(message, Severity.INFO, at=job.at("training.eval_strategy"), fix=fix)


def _cannot_open(error: InputError, job: Job, key: str = "data.train") -> Iterator[Finding]:
    """One finding a problem, at its own place, or at `key` where it has none."""
    for problem in error.problems:
        place = Location(problem.path, problem.line, problem.column, problem.yaml_path)
        yield Finding(
            problem.message,
            at=place if problem.path else job.at(key),
            fix=None
            if key == "data.prepared"
            else f"set {key} to the file; paths are relative to the policy file that contains them",
        )


def _stated(job: Job) -> str:
    """The key that names the training rows."""
    return "data.prepared" if job.data.prepared is not None else "data.train"


def _without_effect(job: Job) -> Iterator[Finding]:
    """What a job states of its rows' shape, where a command reads them itself."""
    stated = [
        name
        for name in ("max_rows", "columns", "role_map", "validation_split")
        if getattr(job.data, name) is not None
    ]
    for name in stated if job.trainer.use == "command" else ():
        message = f"data.{name} has no effect with trainer.use: command, which reads the files itself"
        fix = f"do it in the script or in the file, and remove data.{name}"
        yield Finding(message, at=job.at(f"data.{name}"), fix=fix)


def _empty(job: Job, rows: Rows) -> Iterator[Finding]:
    """Files without any row, beside others that have some; of a part of the rows it is not known."""
    data = job.data
    if rows.sample is not None or data.max_rows or data.validation_split or data.exclude is not None:
        return
    import numpy as np

    counts = np.bincount(rows.file, minlength=len(rows.files))
    empty = [rows.files[number] for number in np.flatnonzero(counts == 0)]
    if empty:
        more = f" and {len(empty) - 1:,} more" if len(empty) > 1 else ""
        yield Finding(
            f"{near(empty[0])}{more} {agreeing(len(empty), 'contains', 'contain')} no rows"
            f" ({counted(len(rows.files), 'file')} in all)",
            Severity.INFO,
            at=job.at("data.train"),
            fix="write the file again if it should have rows, or remove it",
            why="Its writer may have stopped half-way; the trainer takes fewer rows, and does not say so.",
        )


def _read(rows: int, files: int, broken: int, excluded: int) -> str:
    said = f"{counted(rows, 'row')} in {counted(files, 'file')}"
    said += f" · {excluded:,} excluded by data.exclude" if excluded else ""
    return f"{said} · {broken:,} broken" if broken else said


@rule("data-schema", family="data", cases="ftcheck_rules.data.cases.data")
def data_schema(job: Job, rows: Rows) -> Iterator[Yield]:
    """Every row has the keys, roles and contents that its format requires.

    A missing key ends the run in the middle of preparation. An unknown role, an empty answer or a null
    content raises no error: the model learns to answer with nothing, or with the word None.

    Checks every readable row, in the format that data.format states or the first row shows, and compares that
    with what the installed TRL decides by the columns and the first row: where it trains other columns, or
    raises, that is an error for a command, and a warning for qlora, which feeds the rows as they are prepared
    here. No parameters.
    """
    if rows.textless is not None:
        yield Skip(rows.textless)
        return
    wrong = {row: trouble for row, trouble in rows.row_errors.items() if trouble.code == "schema"}
    unreadable = sum(trouble.code in UNREADABLE for trouble in rows.row_errors.values())
    if len(rows) == unreadable:
        yield Skip("no row can be read")
        return
    remarked = {code: found for code, found in rows.remarks.items() if code in REMARKS}
    errors = {
        row for code, found in remarked.items() if _severity(code, job, rows) == "error" for row in found
    }
    yield Measurement("format", rows.format)
    bad = len(errors | set(wrong))
    yield Measurement("rows_wrong", bad, unit="rows", limit="0", statistic=Count())
    yield Summary(_in_words(rows, set(wrong), remarked, unreadable))
    yield from _malformed(wrong, rows)
    yield Exclude(sorted({*wrong, *errors}), rows.at)
    for code, found in remarked.items():
        yield from _remarks(code, found, job, rows)
    yield from columns(job, rows)
    yield from _notes(job, rows)


def _malformed(wrong: Mapping[int, RowError], rows: Rows) -> Iterator[Finding]:
    """One finding for each cause, at its first row."""
    groups: dict[tuple[str, str | None], list[int]] = {}
    for row, trouble in wrong.items():
        groups.setdefault((trouble.message, trouble.fix), []).append(row)
    for (message, fix), found in groups.items():
        at = rows.at(found[0], wrong[found[0]].column)
        content = wrong[found[0]].content
        yield Finding(f"{message}{which(found, rows)}", at=at, fix=fix, content=content)


def which(found: Sequence[int], rows: Rows) -> str:
    """` (60 rows; also lines 2, 3, …)`; nothing for one row."""
    if len(found) == 1:
        return ""
    lines = ", ".join(str(rows.at(row).line) for row in found[1:NAMED])
    more = ", …" if len(found) > NAMED else ""
    return f" ({len(found):,} rows; also {agreeing(len(found) - 1, 'line', 'lines')} {lines}{more})"


def _in_words(rows: Rows, malformed: set[int], remarked: Mapping[str, Sequence[int]], unreadable: int) -> str:
    """`messages · 3,248 of 3,252 rows are valid; 4 have empty answers`."""
    total = len(rows) - unreadable
    valid = total - len(malformed.union(*remarked.values()))
    kind = "readable row" if unreadable else "row"
    said = f"{rows.format} · {valid:,} of {counted(total, kind)} {agreeing(total, 'is', 'are')} valid"
    defects = [f"{len(malformed):,} {agreeing(len(malformed), 'is', 'are')} malformed"] if malformed else []
    for code, found in remarked.items():
        count = len(found)
        defects.append(f"{count:,} {agreeing(count, 'has', 'have')} {agreeing(count, *VALID_BUT[code])}")
    return f"{said}; {', '.join(defects)}" if defects else said


def _remarks(code: str, found: Sequence[int], job: Job, rows: Rows) -> Iterator[Finding]:
    message, fix = REMARKS[code]
    severity = _severity(code, job, rows)
    if code == "role":
        yield from _roles(found, severity, fix, rows)
        return
    for row in found:
        yield Finding(message, severity, at=rows.at(row), fix=fix)


FOREIGN_ROLES = frozenset(
    (
        "agent",
        "ai",
        "answer",
        "bot",
        "character",
        "chatbot",
        "client",
        "completion",
        "context",
        "critic",
        "customer",
        "developer",
        "function",
        "function_call",
        "gpt",
        "human",
        "input",
        "instruction",
        "ipython",
        "model",
        "narrator",
        "npc",
        "observation",
        "output",
        "prompt",
        "question",
        "response",
        "tool_call",
        "tool_response",
        "tool_result",
        "assistant",
        "system",
        "user",
        "tool",
    )
)
"""Roles of other formats, in lower case: a message may name these without showing what a row says."""


def _roles(found: Sequence[int], severity: Severity, fix: str, rows: Rows) -> Iterator[Finding]:
    """One finding for each unknown role, by its name where other formats use it: else it may be row text."""
    named = {
        name: where
        for code, where in rows.remarks.items()
        if code.startswith("role:") and (name := code.partition(":")[2]).lower() in FOREIGN_ROLES
    }
    told = {row for where in named.values() for row in where}
    unnamed = tuple(row for row in found if row not in told)
    for name, where in [*sorted(named.items()), *([("", unnamed)] if unnamed else [])]:
        what = f"the role {name!r}" if name else "a message has a role that"
        known = f"chat templates do not know {what}" if name else f"{what} chat templates do not know"
        yield Finding(f"{known}{which(where, rows)}", severity, at=rows.at(where[0]), fix=fix)


def _severity(code: str, job: Job, rows: Rows) -> Severity:
    """An empty answer is a warning; a missing one is an error only where the loss is on answers alone."""
    if code == "no-answer":
        return Severity.ERROR if _answers_only(job, rows) else Severity.WARNING
    return Severity.WARNING if code == "empty-answer" else Severity.ERROR


def _answers_only(job: Job, rows: Rows) -> bool:
    completion = rows.format in ("prompt-completion", "alpaca")
    return job.training.assistant_only_loss or (completion and job.training.completion_only_loss is not False)


def _notes(job: Job, rows: Rows) -> Iterator[Finding]:
    """What is worth knowing without being wrong in any row."""
    if rows.format == "sharegpt":
        message = (
            "ShareGPT roles are converted to chat roles (human to user, gpt to assistant); TRL does not do so"
        )
        yield Finding(message, Severity.INFO, at=job.at("data.format"))
    for note in rows.notes:
        yield Finding(note, Severity.INFO, at=job.at("data.train"))
