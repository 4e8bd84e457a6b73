"""axolotl and LLaMA-Factory behind the gate: started on the checked ids alone, which they read as they are.

    from: {axolotl: qlora.yml}
    trainer: {use: axolotl}

ftcheck prepares the rows, writes their ids into the run folder (`ids`, as `ftcheck export ids` does) and,
beside them, the framework's own configuration with the lines that make it read them; then the framework is
started with that one. `trainer.argv` may say how (`[accelerate, launch, -m, axolotl.cli.train]`). Without
`from` the configuration is the YAML file in `trainer.files`.
"""

import io
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from ftcheck import digest
from ftcheck.errors import Problem, TrainingError
from ftcheck.extension.exporters import ExportedIds
from ftcheck.extension.trainers import Trainer
from ftcheck.gate.ticket import Reason, Refusal, Refused, Ticket
from ftcheck.inputs import bounded
from ftcheck.inputs.container import Inputs
from ftcheck.settings import Job
from ftcheck_trainers import command, ids_export, run_folder, saved_rows
from ftcheck_trainers.ids_targets import Axolotl, LlamaFactory, Target

PROGRAMS = {"axolotl": ("axolotl", "train"), "llama-factory": ("llamafactory-cli", "train")}
RESUME: dict[str, dict[str, Any]] = {
    "axolotl": {"auto_resume_from_checkpoints": True},
    "llama-factory": {"overwrite_output_dir": False},
}
"""With these keys a framework goes on from the last checkpoint in its output_dir."""
IDS = "ids"
YAML_FILES = (".yml", ".yaml")


def train(target: Target, ticket: Ticket, job: Job, inputs: Inputs, *, resume: bool) -> str:
    """Write ids and configuration, compare the digest, start the framework; returns the run folder."""
    run_folder.check_ticket(ticket, job)
    command.refuse_several(job)
    source = _source(target, job)
    config = _read(source, job)
    claimed = run_folder.claim(ticket, job, resume=resume, checkpoints=False)
    argv = [*_program(target, job), str(_config_file(target, claimed.path))]
    with run_folder.recorded(claimed, ticket, job, command=argv) as record:
        exported = ids_export.export(target, job, inputs, claimed.path / IDS, ticket=ticket, force=True)
        record.update(planned={name: one.examples for name, one in exported.splits.items()})
        lines = target.lines(job, exported.folder, exported.splits)
        lines |= {"output_dir": str(claimed.path.resolve()), **(RESUME[target.name] if resume else {})}
        _write(config, lines, target, Path(argv[-1]))
        _refuse_other_ids(job, exported)
        command.run(argv, job, _started_in(target, job, ticket), resume=resume)
    return str(claimed.path)


def describe(target: Target, job: Job) -> str:
    """The command as one would type it."""
    source = _source(target, job)
    return f"{shlex.join(_program(target, job))} with {source.name} on the checked ids"


TRAINERS = [
    Trainer(target.name, train=partial(train, target), describe=partial(describe, target))
    for target in (Axolotl(), LlamaFactory())
]


def _program(target: Target, job: Job) -> tuple[str, ...]:
    return job.trainer.argv or PROGRAMS[target.name]


def _config_file(target: Target, folder: Path) -> Path:
    return folder.resolve() / f"{target.name}.yml"


def _source(target: Target, job: Job) -> Path:
    """The framework's configuration: what `from` names, or the YAML file in `trainer.files`."""
    stated = (job.from_ or {}).get(target.name)
    found = [stated] if stated is not None else [f for f in job.trainer.files if f.endswith(YAML_FILES)]
    if len(found) == 1:
        return Path(found[0])
    remedy = f"name {target.title}'s configuration with from: {{{target.name}: FILE}}, or in trainer.files"
    raise _error(job, remedy if not found else f"trainer.files names {len(found)} YAML files: {remedy}")


def _started_in(target: Target, job: Job, ticket: Ticket) -> Path:
    """Where paths in the configuration begin: as `from` reads them, else the policy's folder."""
    if job.imported is not None and job.imported.framework == target.name and job.imported.folder:
        return Path(job.imported.folder)
    return Path(ticket.policy).resolve().parent


def _read(source: Path, job: Job) -> Any:
    """The configuration as it is written, comments and numbers kept. Raises `TrainingError`."""
    from ruamel.yaml.error import YAMLError

    try:
        config = _yaml().load(bounded.read(source).decode("utf-8"))
    except OSError as error:
        raise _error(job, f"{source}: {bounded.told(error)}") from error
    except (YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(source)
        raise _error(job, f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(config, dict):
        raise _error(job, f"{source}: not a mapping of keys")
    return config


def _write(config: Any, lines: dict[str, Any], target: Target, file: Path) -> None:
    """The configuration with these lines in the place of its own."""
    for name in target.foreign:
        config.pop(name, None)
    config.update(lines)
    stream = io.StringIO()
    _yaml().dump(config, stream)
    file.write_text(stream.getvalue(), encoding="utf-8")


def _yaml() -> Any:
    from ruamel.yaml import YAML

    made = YAML()
    made.preserve_quotes = True
    made.width = 1_000_000
    return made


def _refuse_other_ids(job: Job, exported: ExportedIds) -> None:
    """What lies on the disk now is what was exported, and so what was checked."""
    for name, was in exported.splits.items():
        shard = exported.folder / name / saved_rows.SHARD
        if digest.of_file(shard) != was.file:
            message = f"{shard} is not as it was written: another program changes the run folder"
            raise Refused(Refusal(job.name, (Reason("ids-changed", message),)))


def _error(job: Job, message: str) -> TrainingError:
    place = job.at("trainer")
    return TrainingError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])
