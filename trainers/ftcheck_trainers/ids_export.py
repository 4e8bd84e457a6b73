"""The ids of a job as the folder that another trainer reads without tokenising: `ftcheck export ids`.

    out/train/       rows or packed blocks, as datasets' `save_to_disk` leaves them
    out/validation/  the evaluation rows, where the job evaluates
    out/config.yml   the lines that make the trainer read it
    out/ftcheck.json what it was made of: the digests that the report states, job, versions, ticket

The folder is made beside its place and renamed: nobody finds half of one.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ftcheck import digest
from ftcheck.errors import FtcheckError, InputError, MissingDependency, Problem, UsageError
from ftcheck.extension.exporters import ExportedIds, IdsExporter, StoredSplit, yaml_1_1
from ftcheck.gate.ticket import Reason, Refusal, Refused, Ticket
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.work_folders import work_folder
from ftcheck.packing.truncation import of_evaluation
from ftcheck.plurals import counted
from ftcheck.records import Progress
from ftcheck.settings import Job, Training
from ftcheck_trainers import dataset, saved_rows
from ftcheck_trainers.failure_messages import is_full
from ftcheck_trainers.ids_targets import EVALUATION, TARGETS, TRAIN, Block, Target
from ftcheck_trainers.run_folder import versions

SCHEMA = "ftcheck.ids/1"
MANIFEST, CONFIG, README = "ftcheck.json", "config.yml", "README.md"
CARD = """\
---
configs:
- config_name: {name}
  data_files:
{files}
---
Token ids and labels of the job {job}, for {title}, written by `ftcheck export ids`.
`config.yml` has the lines to add to its configuration, `ftcheck.json` says what the ids were made of.
"""
"""By its head `datasets.load_dataset` finds the splits, as `load_from_disk` does by dataset_dict.json. The
name of the configuration tells the ids: by it datasets finds what it cached, not by path, time or content."""


def export(
    target: Target,
    job: Job,
    inputs: Inputs,
    folder: Path,
    *,
    ticket: Ticket | None = None,
    force: bool = False,
) -> ExportedIds:
    """Write the folder: see `ftcheck.extension.exporters.IdsFunction`."""
    folder = folder.resolve()
    _refuse_overwriting(folder, force=force)
    parts = {TRAIN: _training_rows(job, inputs)}
    if job.evaluates:
        parts[EVALUATION] = dataset.evaluation_rows(job, inputs)
    for name, prepared in parts.items():
        _refuse_impossible(target, job, _settings(job, name), prepared)
        _refuse_unchecked(job, ticket, name, prepared)
    try:
        with _new_folder(folder) as made:
            splits = {name: _write(target, job, inputs, made, name, one) for name, one in parts.items()}
            evaluated = parts.get(EVALUATION)
            exported = ExportedIds(
                folder=folder,
                ids=str(parts[TRAIN].digest),
                eval_ids=evaluated.digest if evaluated is not None else None,
                splits=splits,
                config=_config(target, job, folder, splits),
            )
            _describe(target, job, made, exported, ticket)
    except OSError as error:
        raise _not_written(folder, error) from error
    return exported


EXPORTERS = [IdsExporter(target.name, partial(export, target)) for target in TARGETS]


# --- what is refused before anything is written ---------------------------------------------------------


def _refuse_overwriting(folder: Path, *, force: bool) -> None:
    """Nothing but an earlier export is ever replaced."""
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        what = "is not empty, and no export of ftcheck" if folder.is_dir() else "is no folder"
        raise UsageError(f"{folder} {what}: name a new folder")
    if not force:
        raise UsageError(
            f"{folder} contains an export already: replace it with --force, or name a new folder"
        )


def _training_rows(job: Job, inputs: Inputs) -> Prepared:
    prepared: Prepared = inputs.get("prepared")
    if prepared.sample is not None:
        at = job.at("data.sample")
        message = f"only {prepared.sample} are drawn: ids are exported of all rows or of none; remove it"
        raise UsageError(message, [Problem(message, at.path, at.line, at.column, at.yaml_path)])
    for row, trouble in sorted(prepared.row_errors.items())[:1]:
        count = counted(len(prepared.row_errors), "row")
        raise InputError(f"{count} cannot be used; the first: {prepared.at(row)}: {trouble.message}")
    if not len(prepared.sequences):
        why = f"all {len(prepared):,} were dropped" if len(prepared) else "its data is empty"
        raise InputError(f"job {job.name} has no rows to export: {why}")
    if not prepared.trained[prepared.used].any():
        raise InputError(f"job {job.name}: no token of its rows is in the loss")
    return prepared


def _refuse_impossible(target: Target, job: Job, split: Training, prepared: Prepared) -> None:
    spans = prepared.fed_spans(split)
    longest = int((spans[:, 2] - spans[:, 1]).max(initial=0))
    problem = target.problem(split, longest)
    if problem is not None:
        place = job.at("training.packing")
        raise UsageError(problem, [Problem(problem, place.path, place.line, place.column, place.yaml_path)])


def _refuse_unchecked(job: Job, ticket: Ticket | None, name: str, prepared: Prepared) -> None:
    """The ids are those that the ticket is for."""
    if ticket is None:
        return
    checked, what = (ticket.ids, "ids and labels") if name == TRAIN else (ticket.eval_ids, "evaluation ids")
    now = dataset.checked_as(checked, prepared, _settings(job, name))
    if checked != now:
        message = f"{what} were {checked} in the checks, are {now} now; run the checks again"
        raise Refused(Refusal(job.name, (Reason("ids-changed", message),)))


def _settings(job: Job, split: str) -> Training:
    return job.training if split == TRAIN else of_evaluation(job.training)


# --- the folder -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder that takes its place when the block has ended well, and is gone otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(".ftcheck-export-", folder.parent) as work:
        made = work / "made"
        made.mkdir()
        yield made
        _on_disk(made)
        if not folder.is_dir():
            made.rename(folder)
            return
        earlier = work / "earlier"
        folder.rename(earlier)
        try:
            made.rename(folder)
        except BaseException:
            earlier.rename(folder)
            raise


def _on_disk(folder: Path) -> None:
    """Have the system write all files before the folder gets its name."""
    for path in (*folder.rglob("*"), folder):
        with contextlib.suppress(PermissionError):  # Windows opens no folders
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _not_written(folder: Path, error: OSError) -> FtcheckError:
    if not is_full(error):
        hint = "; name a folder inside it" if error.errno == errno.EBUSY else ""  # a mount, as in containers
        return UsageError(f"{folder} cannot be written: {error.strerror or error}{hint}")
    free = ""
    with contextlib.suppress(OSError):
        free = f", {shutil.disk_usage(folder.parent).free / (1 << 20):,.0f} MiB are free"
    return UsageError(f"{folder} cannot be written: no space left there{free}; nothing was left behind")


def _write(
    target: Target, job: Job, inputs: Inputs, made: Path, name: str, prepared: Prepared
) -> StoredSplit:
    """Write one split, and see that it holds what was prepared."""
    split = _settings(job, name)
    packed = target.packed(job.training, split)
    work = made.parent / f"fed-{name}"
    examples: Any = _blocks(prepared, split, work) if packed else dataset.fed_sequences(prepared, split)
    padding = inputs.get("tokenizer").pad_token_id if packed and target.pads else None
    block = Block(split.max_length or 0, padding or 0) if packed else None
    total = len(examples) if packed else len(prepared.sequences)
    run: Run = inputs.get("run")

    def written(count: int, *, finished: bool = False) -> None:
        run.report(Progress(f"writing {name}", count, total, "blocks" if packed else "rows", finished))

    shaped = (target.example(one, block) for one in (_arrays(examples) if packed else examples))
    stored = saved_rows.write(made / name, shaped, target.columns(packed=packed), written, packed=packed)
    written(total, finished=True)
    expected = dataset.count(examples) if packed else prepared.digest
    if expected != ((stored.tokens, stored.trained_tokens) if packed else stored.digest):
        raise InputError(
            f"{name}: what was written is not what was prepared: this is a bug, please report it"
        )
    shutil.rmtree(work, ignore_errors=True)
    return stored


def _blocks(prepared: Prepared, split: Training, work: Path) -> Any:
    """The packed blocks, as `ftcheck train` would feed them. Raises `MissingDependency` without datasets."""
    try:
        rows = dataset.fed_rows(prepared, split, work)
        blocks = dataset.arranged(rows, split, work, pack=True)
    except ModuleNotFoundError as error:
        raise MissingDependency(f"packed blocks need {error.name}", "train") from error
    if dataset.digest_of(rows) != prepared.digest or dataset.count(rows) != dataset.count(blocks):
        raise InputError("packing lost tokens: this is a bug, please report it")
    return blocks


def _arrays(blocks: Any) -> Iterator[dict[str, Any]]:
    """The examples of a data set, as arrays."""
    for batch in blocks.with_format("numpy").iter(batch_size=100):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


# --- what stands beside the rows --------------------------------------------------------------------------


def _config(target: Target, job: Job, folder: Path, splits: dict[str, StoredSplit]) -> str:
    """The lines of the trainer's configuration, with comments."""
    said = [f"For {target.title}: the ids of {job.name}, written by `ftcheck export ids`. Each key replaces"]
    said += ["yours of the same name.", *target.hints]
    said += [f"Remove: {', '.join(target.foreign)}."] if target.foreign else []
    return "".join(f"# {line}\n" for line in said) + yaml_1_1(target.lines(job, folder, splits))


def _describe(target: Target, job: Job, made: Path, exported: ExportedIds, ticket: Ticket | None) -> None:
    """Manifest, configuration and card, and the file that makes one data set of the splits."""
    names = list(exported.splits)
    (made / "dataset_dict.json").write_text(json.dumps({"splits": names}) + "\n", encoding="utf-8")
    (made / CONFIG).write_text(exported.config, encoding="utf-8")
    files = "\n".join(f"  - split: {name}\n    path: {name}/{saved_rows.SHARD}" for name in names)
    manifest = _manifest(target, job, exported, ticket)
    name = "ids-" + digest.of_json([manifest["to"], manifest["splits"]]).removeprefix("sha256:")[:16]
    card = CARD.format(files=files, name=name, job=job.name, title=target.title)
    (made / README).write_text(card, encoding="utf-8")
    (made / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _manifest(target: Target, job: Job, exported: ExportedIds, ticket: Ticket | None) -> dict[str, Any]:
    gate = None
    if ticket is not None:
        gate = {"report": ticket.report, "plan": ticket.plan, "opened_at": ticket.issued_at}
    return {
        "schema": SCHEMA,
        "to": target.name,
        "job": job.name,
        "job_digest": digest.of_json(job.canonical),
        "ids": exported.ids,
        "eval_ids": exported.eval_ids,
        "splits": {name: _facts(one) for name, one in exported.splits.items()},
        "gate": gate,
        "packages": versions(),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _facts(split: StoredSplit) -> dict[str, Any]:
    return {name: getattr(split, name) for name in StoredSplit.__slots__}
