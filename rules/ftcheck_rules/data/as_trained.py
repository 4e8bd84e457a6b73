"""What datasets and TRL make of the rows, where that is something else than what stands in the files."""

from collections.abc import Iterator

from ftcheck import Finding, InputError, Inputs, Job, Rows, Severity
from ftcheck.inputs.columns import CHAT, SWITCHES, Decision, decide, unclear
from ftcheck.inputs.loaded import AsLoaded, Reread
from ftcheck.plurals import agreeing, counted

SCRIPT = (
    "the qlora trainer trains on the values of the file; for a script of your own that calls load_dataset,"
    " set trainer.use: command, and the rows are checked as it reads them"
)
"""What to do about rows that only another trainer would read otherwise."""
READ = {
    "number": "reads other numbers than the file contains",
    "type": "converts values to another type",
    "null": "converts values to null",
    "text": "reads other texts than the file contains",
    "filled": "fills keys that are absent with null",
    "lost": "drops keys",
}
REMEDY = {
    "number": "write arguments with such numbers as JSON text, or give every row the same keys",
    "type": "pass features=... to load_dataset, or write the data as Parquet with string columns",
    "null": "pass keep_default_na=False to load_dataset, or write the rows as JSON lines",
    "text": "pass features=... to load_dataset, or write the data as Parquet with string columns",
    "filled": "give every message the same keys, or drop nulls before the template sees them",
    "lost": "give every row the same keys",
}


def as_loaded(job: Job, inputs: Inputs, rows: Rows) -> Iterator[Finding]:
    """What load_dataset makes of the files: errors for a command, which reads them so."""
    try:
        read: AsLoaded | None = inputs.get("loaded") if inputs.has("loaded") else None
    except InputError:
        return
    reads = job.trainer.use == "command"
    if read is None:
        if reads and rows.sample is not None:
            said = "what datasets.load_dataset makes of the files was not looked at: only a sample was read"
            yield Finding(said, Severity.INFO, at=job.at("data.sample"))
        return
    if read.refused is not None:
        if rows.row_errors and any(one.code in ("json", "encoding") for one in rows.row_errors.values()):
            return
        yield Finding(
            f"datasets.load_dataset does not read these files as one data set: {read.refused}",
            Severity.ERROR if reads else Severity.INFO,
            at=job.at("data.train"),
            fix="give all files the same columns and types, or load them one by one" if reads else SCRIPT,
            why="The command ends with this error when it loads its data.",
        )
        return
    for kind, one in read.reread.items():
        yield _reread(kind, one, read, rows, reads=reads)


def _reread(kind: str, one: Reread, read: AsLoaded, rows: Rows, *, reads: bool) -> Finding:
    known = read.types.get(one.column)
    example = {
        "number": f" ({one.written} becomes {one.read})",
        "type": f" (column '{one.column}': {known})",
        "null": f" (column '{one.column}')",
    }.get(kind, "")
    severity = Severity.WARNING if kind != "filled" else Severity.INFO
    return Finding(
        f"in {one.rows:,} of {counted(read.total, 'row')} datasets.load_dataset {READ[kind]}{example}",
        severity if reads else Severity.INFO,
        at=rows.at(min(one.first, len(rows) - 1)),
        fix=REMEDY[kind] if reads else SCRIPT,
        content=f"{one.path}: {one.written} -> {one.read}",
        why="The command trains on what load_dataset reads, which is what was prepared and checked here."
        if reads
        else "A script of your own behind the gate trains on other rows than those that were checked.",
    )


def columns(job: Job, rows: Rows) -> Iterator[Finding]:
    """Where TRL decides otherwise by the columns than the rows were prepared, or raises."""
    if not rows.key_sets or "preference" in rows.remarks or rows.format == "unknown":
        return
    names = {key for one in rows.key_sets for key in one.keys.names}
    training = job.training
    decided = decide(
        names,
        rows.opening,
        training.dataset_text_field,
        assistant_only_loss=training.assistant_only_loss,
    )
    yield from _decided(job, rows, decided)
    if decided.raises is None:
        yield from _unclear(job, rows)
    yield from _switches(job, rows)


def _severity(job: Job) -> Severity:
    """TRL itself raises for a command; qlora feeds the rows as they were prepared here."""
    return Severity.ERROR if job.trainer.use == "command" else Severity.WARNING


def _decided(job: Job, rows: Rows, decided: Decision) -> Iterator[Finding]:
    place, fed = job.at("data.format"), "; the qlora trainer feeds them as " + rows.format
    fed = "" if job.trainer.use == "command" else fed
    drop = f"remove or rename the column '{decided.column}'" if decided.column else None
    if rows.format == "alpaca" and decided.raises is not None:
        message = (
            "instruction and output are converted to prompt and completion; TRL does not do so"
            f" ({decided.raises})"
        )
        yield Finding(message, Severity.INFO, at=place)
    elif decided.raises is not None:
        converted = rows.opening.get("conversations") == "from-value" and job.trainer.use != "command"
        yield Finding(
            f"TRL raises on these columns: {decided.raises}{fed}",
            Severity.INFO if converted else _severity(job),
            at=place,
            fix=drop or "name the column that is trained messages, prompt and completion, or text",
            why="TRL decides by the columns of the data set and the values of its first row.",
        )
    elif decided.layout != rows.format and rows.format != "unknown":
        yield Finding(
            f"TRL trains these rows as {decided.layout} (column '{decided.column}'), not as"
            f" {rows.format}{fed}",
            _severity(job),
            at=place,
            fix=drop,
            why="TRL decides by the columns of the data set and the values of its first row.",
        )
    elif decided.ending is not None:
        yield Finding(
            f"TRL adds the EOS token to the column '{decided.ending}', not to the completion{fed}",
            _severity(job),
            at=place,
            fix=f"remove the column '{decided.ending}'",
            why="No completion ends with EOS, so the model does not learn to stop.",
        )


def _unclear(job: Job, rows: Rows) -> Iterator[Finding]:
    """Rows with a conversation in one column and none in another: TRL looks at one of them."""
    found = unclear(rows.key_sets)
    if not found:
        return
    count, total = sum(one.rows for one in found), sum(one.rows for one in rows.key_sets)
    talks = sorted({name for one in found for name in one.keys.talks})
    others = sorted({name for one in rows.key_sets for name in one.keys.names if name in CHAT} - {*talks})
    named = ", ".join(f"'{name}'" for name in talks)
    yield Finding(
        f"TRL takes {count:,} of {counted(total, 'row')} for conversations or for text by the order of a set:"
        f" {agreeing(len(talks), 'the column', 'the columns')} {named}"
        f" {agreeing(len(talks), 'holds a conversation', 'hold conversations')}, another column does not",
        _severity(job),
        at=rows.at(min(one.first for one in found)),
        fix="remove the columns that are not trained: " + " or ".join((named, *map(repr, others))),
        why="is_conversational looks at whichever column the set gives first, which differs from one process"
        " to the next: EOS is added or not, or the tokenisation raises.",
    )


def _switches(job: Job, rows: Rows) -> Iterator[Finding]:
    """`chat_template_kwargs` in some rows only: in the others it is null, and TRL unpacks it."""
    some = any(SWITCHES in one.keys.names for one in rows.key_sets)
    without = [one for one in rows.key_sets if not one.keys.switches]
    if not some or not without:
        return
    count, total = sum(one.rows for one in without), sum(one.rows for one in rows.key_sets)
    yield Finding(
        f"{count:,} of {counted(total, 'row')} {agreeing(count, 'has', 'have')} no {SWITCHES}, which other"
        " rows have: TRL raises a TypeError on them (argument after ** must be a mapping, not NoneType)",
        _severity(job),
        at=rows.at(min(one.first for one in without)),
        fix=f"write {SWITCHES} in every row, or in none",
        why="load_dataset fills the missing column with null; only the qlora trainer feeds such rows.",
    )
