"""The lock beside a policy: what its tokenizers and templates gave on the day it was written.

`ftcheck lock POLICY` writes it, rules hold today's ids against it. A lock is JSON with sorted keys:
the same installation and the same files give the same bytes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck import digest, tables
from ftcheck.atomic import replace_file
from ftcheck.errors import InputError
from ftcheck.inputs import bounded
from ftcheck.settings import Job, Training

if TYPE_CHECKING:
    from ftcheck.inputs.machine import Packages
    from ftcheck.inputs.tokenizer import Message, Tokenizer

SCHEMA = "ftcheck.lock/1"
SUFFIX = ".lock"
LIBRARIES = ("tokenizers", "transformers", "trl")
"""Libraries whose versions decide what ids come out."""

LARGEST_ID = 1 << 31
"""Token ids are smaller: tokenizers keeps them in 32 bits."""

Ids = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class LockedJob:
    """One job's tokenizer as it was: digests of its files and of the template that training applies.

    `special` are the ids of `bos`, `eos` and `pad`. `probes` and `conversations` are the ids of
    built-in texts, by name; a conversation that the template refuses is left out.
    """

    tokenizer: str | None
    class_name: str
    template: str | None
    special: Mapping[str, int | None]
    probes: Ids
    conversations: Ids


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file as one job sees it; `job` is None where the lock does not know the job.

    `versions` are those of the libraries that wrote it, `defaults` the training arguments' defaults
    of that day.
    """

    path: str
    versions: Mapping[str, str | None] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    job: LockedJob | None = None


def path_of(policy: str | Path) -> Path:
    """Where a policy's lock lies: `policy.yaml.lock` beside `policy.yaml`."""
    path = Path(policy)
    return path.with_name(path.name + SUFFIX)


def paths_for(policy: str | None, job: Job) -> tuple[Path, ...]:
    """Where a job's lock may lie, best first: beside the policy of the run, beside the job's own file."""
    return tuple(path_of(one) for one in (policy, job.at("").path) if one is not None)


def today() -> dict[str, Any]:
    """Every training argument's default: what the dated table says, and ftcheck's own over it."""
    found = {
        key: about["default"]
        for key, about in tables.load("trainer_arguments")["sections"]["training"]["fields"].items()
        if "default" in about
    }
    own = json.loads(json.dumps(asdict(Training())))
    return {**found, **{key: value for key, value in own.items() if key != "extra"}}


def of_job(
    tokenizer: "Tokenizer",
    files: str | None,
    probes: Iterable[tuple[str, str]],
    conversations: "Iterable[tuple[str, tuple[Message, ...]]]",
) -> LockedJob:
    """What a tokenizer gives now; `files` is the digest of its files."""
    return LockedJob(
        tokenizer=files,
        class_name=tokenizer.class_name,
        template=template_digest(tokenizer),
        special=special_of(tokenizer),
        probes={name: tuple(tokenizer.encode(text)) for name, text in probes},
        conversations=dict(_rendered(tokenizer, conversations)),
    )


def template_digest(tokenizer: "Tokenizer") -> str | None:
    """Digest of the template that training applies; None without one."""
    template = tokenizer.training_template
    return digest.of_text(template) if template is not None else None


def special_of(tokenizer: "Tokenizer") -> dict[str, int | None]:
    """Ids of the tokens that begin, end and pad."""
    return {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}


def conversation_ids(tokenizer: "Tokenizer", messages: "tuple[Message, ...]") -> tuple[int, ...] | None:
    """Ids of a conversation as training renders it; None if the template refuses it."""
    if tokenizer.training_template is None:
        return None
    try:
        text = tokenizer.render(messages, chat_template=tokenizer.training_template)
    except InputError:
        return None
    return tuple(tokenizer.encode(text))


def _rendered(
    tokenizer: "Tokenizer", conversations: "Iterable[tuple[str, tuple[Message, ...]]]"
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, messages in conversations:
        ids = conversation_ids(tokenizer, messages)
        if ids is not None:
            yield name, ids


def document(packages: "Packages", jobs: Mapping[str, LockedJob]) -> dict[str, Any]:
    """The whole lock as JSON values."""
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "versions": {name: packages.versions.get(name) for name in LIBRARIES},
        "defaults": {"training": today()},
        "jobs": {name: asdict(job) for name, job in jobs.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(made))
    return plain


def text_of(lock: Mapping[str, Any]) -> str:
    """A lock as it is written: sorted, one line a list of ids."""
    return _block(lock, "") + "\n"


def _block(value: Any, indent: str) -> str:
    """JSON with sorted keys; mappings over several lines, anything else on one."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    deeper = indent + " "
    lines = [
        f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_block(value[key], deeper)}"
        for key in sorted(value)
    ]
    return "{\n" + ",\n".join(lines) + "\n" + indent + "}"


def read(path: Path) -> dict[str, Any] | None:
    """A lock file's JSON; None if there is none. Raises `InputError` for one that is no lock."""
    try:
        found = bounded.read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a lock ({error}); write it again with `ftcheck lock`") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise InputError(f"{path}: not a lock of this version ({SCHEMA}); write it again with `ftcheck lock`")
    return found


def for_job(found: Mapping[str, Any], path: Path, job: str) -> Lock:
    """A lock file's JSON as `job` sees it. Raises `InputError` where parts of it are missing."""
    try:
        part = found["jobs"].get(job)
        return Lock(
            path=str(path),
            versions=dict(found["versions"]),
            defaults=dict(found["defaults"]["training"]),
            job=_job(part) if part is not None else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: incomplete lock ({type(error).__name__}: {error}); write it again with `ftcheck lock`"
        ) from error


def _job(part: Mapping[str, Any]) -> LockedJob:
    return LockedJob(
        tokenizer=part["tokenizer"],
        class_name=str(part["class_name"]),
        template=part["template"],
        special=dict(part["special"]),
        probes={name: _ids(ids) for name, ids in part["probes"].items()},
        conversations={name: _ids(ids) for name, ids in part["conversations"].items()},
    )


def _ids(stated: Any) -> tuple[int, ...]:
    """A list of token ids. Raises `ValueError` for anything else."""
    if not isinstance(stated, list) or not all(type(one) is int and 0 <= one < LARGEST_ID for one in stated):
        raise ValueError("ids must be a list of whole numbers from 0 on")
    return tuple(stated)


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Paths at which two locks differ, with both values where they are short."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            below = f"{path}.{key}" if path else str(key)
            if key not in old:
                yield f"{below}: not in the lock"
            elif key not in new:
                yield f"{below}: only in the lock"
            else:
                yield from differences(old[key], new[key], below)
    elif old != new:
        listed = isinstance(old, list) or isinstance(new, list)
        yield f"{path}: other ids" if listed else f"{path}: {json.dumps(old)} -> {json.dumps(new)}"


def write(path: Path, text: str) -> None:
    """Replace the lock file in one step: it is the old one or the new one, never a part."""
    try:
        replace_file(path, text.encode("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
