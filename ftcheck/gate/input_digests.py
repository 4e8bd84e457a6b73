"""What a job stands on, digested: data, tokenizer, template, model, schema, files. Opens no library."""

import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ftcheck import digest, templates
from ftcheck import lock as locks
from ftcheck.errors import InputError
from ftcheck.inputs import bounded, prepared_folder
from ftcheck.inputs.finished_run import digest_of, folder_of
from ftcheck.inputs.remote_files import is_remote, stamp
from ftcheck.inputs.weights import raw_header
from ftcheck.paths import TEMPLATE_FOLDER, TOKENIZER_FILES, expand, is_hub_data, model_folder, near
from ftcheck.policy.plan import of_job, plan_digest
from ftcheck.records import Check, Stage
from ftcheck.report.record import InputDigest, JobDigests
from ftcheck.settings import Job

Made = TypeVar("Made")
ADAPTER = "adapter"
"""The name of the trained bytes among a job's inputs, in reports of stage `after`."""
MODEL_FILES = (
    "adapter_config.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "quantize_config.json",
)
"""Configurations in a model's folder that transformers and PEFT read when they load it."""


@dataclass(frozen=True, slots=True)
class InputDigests:
    """A job's digests as they are now. `inputs` by their names in the report: `mapper.train`."""

    job: JobDigests
    inputs: Mapping[str, InputDigest]


class FileDigests:
    """Digests that were worked out in this command, of files that nobody has touched since."""

    def __init__(self) -> None:
        """None is known yet."""
        self._known: dict[tuple[Any, ...], Any] = {}

    def of(self, what: str, paths: Iterable[Path | str], make: Callable[[], Made]) -> Made:
        """What `make` works out of files, or has for the same files as they still are."""
        key = (what, *(_touched(path) for path in paths))
        if None in key:
            return make()
        if key not in self._known:
            self._known[key] = make()
        found: Made = self._known[key]
        return found


def _touched(path: Path | str) -> tuple[Any, ...] | None:
    """What changes when a file is written, or a folder's files are; None where it cannot be told."""
    try:
        if is_remote(str(path)):
            return stamp(str(path))
        here = Path(path)
        if here.is_dir():
            return (str(here), *(_touched(one) for one in sorted(here.rglob("*"))))
        found = here.stat()
    except OSError:
        return None
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def gather(
    job: Job,
    checks: Sequence[Check],
    during: Sequence[Check] = (),
    *,
    policy: str | None = None,
    files: FileDigests | None = None,
) -> InputDigests:
    """Digest everything a job stands on. What cannot be read has the digest None, and never matches.

    `during` are the checks that will run while it trains. `policy` is the file that was named: a lock lies
    beside it. `files` are digests that are known already.
    """
    files = files or FileDigests()
    watching = of_job(during, job.name)
    inputs = {f"{job.name}.{name}": found for name, found in _inputs(job, files)}
    if any(check.stage is Stage.AFTER for check in of_job(checks, job.name)):
        inputs[f"{job.name}.{ADAPTER}"] = _adapter(job, files)
    locked = _lock(job, policy)
    if locked is not None:
        inputs[f"{job.name}.lock"] = locked
    return InputDigests(
        job=JobDigests(
            digest=digest.of_json(job.canonical),
            plan=plan_digest(of_job(checks, job.name)),
            model=_model(job, files),
            template=_template(job),
            during=plan_digest(watching) if watching else None,
        ),
        inputs=inputs,
    )


def is_whole(found: InputDigests) -> bool:
    """Whether everything could be digested. A model from the hub cannot before it is in the cache."""
    digests = [one.digest for one in found.inputs.values()]
    return None not in (*digests, found.job.model, found.job.template)


def _inputs(job: Job, known: FileDigests) -> Iterator[tuple[str, InputDigest]]:
    gold = job.data.gold.path if job.data.gold is not None else None
    for name, stated in (
        ("train", job.data.train),
        ("eval", job.data.eval),
        ("gold", gold),
        ("benchmarks", job.data.benchmarks),
    ):
        if stated is not None:
            yield name, _data(stated, known)
    if job.data.prepared is not None:
        yield "prepared", _prepared(job.data.prepared, known)
    yield "tokenizer", _tokenizer(job.model.tokenizer or job.model.name, job.model.revision, known)
    if job.serving.tokenizer is not None:
        yield "serving.tokenizer", _tokenizer(job.serving.tokenizer, None, known)
    if job.evaluation is not None and job.evaluation.tokenizer is not None:
        yield "evaluation.tokenizer", _tokenizer(job.evaluation.tokenizer, None, known)
    sharding = {name: job.training.extra.get(name) for name in ("deepspeed", "fsdp_config")}
    files = {
        "exclude": job.data.exclude,
        "chat_template": job.model.chat_template,
        "serving.chat_template": job.serving.chat_template,
        "serving.output_schema": job.serving.output_schema,
        "serving.rules": job.serving.rules,
        "evaluation.chat_template": job.evaluation.chat_template if job.evaluation is not None else None,
    }
    files |= {f"training.{name}": one for name, one in sharding.items() if isinstance(one, str)}
    files |= {f"files.{number}": path for number, path in enumerate(job.trainer.files, start=1)}
    for name, path in files.items():
        if path is not None:
            yield name, InputDigest(near(path), digest.of_file(Path(path)))
    if job.imported is not None:
        for number, (shown, path) in enumerate(job.imported.files.items()):
            yield f"from.{number}" if number else "from", InputDigest(shown, digest.of_file(Path(path)))
    decided = _accelerate()
    if decided:
        yield "environment.accelerate", InputDigest(", ".join(decided), digest.of_json(decided))


ACCELERATE = ("ACCELERATE_", "FSDP_", "MIXED_PRECISION", "GRADIENT_ACCUMULATION")
"""Beginnings of the environment variables from which accelerate takes settings of a training."""
UNDECIDED = frozenset({"", "no", "NO", "false", "False", "0"})
"""Values that `accelerate launch` sets where its configuration asks for nothing."""
PLACES = frozenset({"ACCELERATE_TORCH_DEVICE", "ACCELERATE_USE_CPU", "ACCELERATE_DEBUG_MODE"})
"""Variables that say where a training runs, not what it computes."""


def _accelerate() -> dict[str, str]:
    """What accelerate's environment variables decide about a training; nothing for their defaults."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(ACCELERATE) and value not in UNDECIDED and name not in PLACES
    }


def _lock(job: Job, policy: str | None) -> InputDigest | None:
    """The job's part of the lock; None where there is no lock."""
    for path in locks.paths_for(policy, job):
        try:
            found = locks.read(path)
            part = locks.for_job(found, path, job.name) if found is not None else None
        except InputError:
            return InputDigest(near(str(path)), None)
        if part is not None:
            return InputDigest(near(str(path)), digest.of_json(asdict(replace(part, path=""))))
    return None


def _adapter(job: Job, known: FileDigests) -> InputDigest:
    """The bytes that a verdict after the run is about, and that would be deployed."""
    folder = folder_of(job)
    if folder is None:
        return InputDigest("training.output_dir is not set", None)
    return InputDigest(near(str(folder)), known.of("adapter", [folder], lambda: digest_of(folder)))


def _data(stated: str | Sequence[str], known: FileDigests) -> InputDigest:
    shown = ", ".join(map(near, [stated] if isinstance(stated, str) else stated))
    if isinstance(stated, str) and is_hub_data(stated):
        return InputDigest(shown, digest.of_text(f"hub:{stated}"))
    try:
        names = expand(stated)
    except OSError:
        return InputDigest(shown, None)
    return InputDigest(shown, known.of("data", names, lambda: digest.of_files(names)))


def _prepared(stated: str, known: FileDigests) -> InputDigest:
    """All files of a folder of prepared rows, but for what datasets keeps beside them."""
    try:
        folder = prepared_folder.find(stated)
    except InputError:
        return InputDigest(near(stated), None)
    return InputDigest(near(stated), known.of("prepared", [Path(stated)], folder.digest))


def _tokenizer(name: str, revision: str | None, known: FileDigests) -> InputDigest:
    folder = model_folder(name, revision)
    if folder is None:
        return InputDigest(near(name), None)
    templates_beside = sorted((folder / TEMPLATE_FOLDER).glob("*.jinja"))
    named = {*TOKENIZER_FILES, *(f"{TEMPLATE_FOLDER}/{path.name}" for path in templates_beside)}
    paths = [one for one in (folder / name for name in sorted(named)) if one.is_file()]
    found = known.of("tokenizer", [folder, *paths], lambda: digest.of_named(folder, named))
    return InputDigest(near(name), found)


def _template(job: Job) -> str | None:
    """Digest of the template as training applies it."""
    folder = model_folder(job.model.tokenizer or job.model.name, job.model.revision)
    try:
        if job.model.chat_template is not None:
            text: str | None = templates.read_template(Path(job.model.chat_template))
        else:
            text = templates.of_folder(folder) if folder is not None else None
    except InputError:
        return None
    applied = templates.applied(text, assistant_only_loss=job.training.assistant_only_loss)
    return digest.of_text(applied) if applied is not None else None


def _model(job: Job, known: FileDigests) -> str | None:
    folder = model_folder(job.model.name, job.model.revision)
    return None if folder is None else known.of("model", [folder], lambda: model_digest(job))


def model_digest(job: Job, name: str | None = None) -> str | None:
    """Digest of all that loading may read of the model but weights, and of the safetensors headers.

    That is configurations (an adapter's too: transformers follows it), indices, and modelling code.

    Of the job's base model, or of another one by its `name`; None for one that is not on this machine.
    """
    folder = model_folder(name or job.model.name, None if name else job.model.revision)
    if folder is None:
        return None
    code = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.py"))]
    indices = [path.name for path in sorted(folder.glob("*.index.json"))]
    configs = digest.of_named(folder, (*MODEL_FILES, *indices, *code))
    headers = {path.name: _header(path) for path in sorted(folder.glob("*.safetensors"))}
    return digest.of_json([configs, headers])


def _header(path: Path) -> str | None:
    """Digest of a safetensors file's header and of its size; None if it has no readable header."""
    try:
        header, size = raw_header(path)
        bounded.loads(header)
    except (InputError, ValueError):
        return None
    return hashlib.sha256(header + struct.pack("<Q", size)).hexdigest()
