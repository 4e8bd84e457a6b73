"""What training left behind, as rules of stage `after` look at it: the run folder, the adapter, answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftcheck import digest
from ftcheck.inputs.run_folder import RUN, State, TrainingRun
from ftcheck.inputs.tool_parsers import FunctionCall
from ftcheck.paths import TOKENIZER_FILES, near
from ftcheck.settings import Job

ADAPTER_CONFIG = "adapter_config.json"
WHOLE_CONFIG = "config.json"
WEIGHTS = ("adapter_model*.safetensors", "model*.safetensors")
BESIDE = (
    ADAPTER_CONFIG,
    WHOLE_CONFIG,
    "generation_config.json",
    "adapter_model.safetensors.index.json",
    "model.safetensors.index.json",
    *TOKENIZER_FILES,
)
PICKLES = ("adapter_model.bin", "pytorch_model.bin")


def folder_of(job: Job) -> Path | None:
    """The folder of a job's run: `run`, else `training.output_dir`; None where neither is set."""
    stated = job.run or job.training.output_dir
    return Path(stated) if stated is not None else None


def weights_in(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of an adapter, or of a whole model, in a folder; sorted."""
    return tuple(sorted(path for pattern in WEIGHTS for path in folder.glob(pattern) if path.is_file()))


def holds_model(folder: Path) -> bool:
    """Whether a folder holds an adapter or a whole model: its configuration or its weights."""
    named = (ADAPTER_CONFIG, WHOLE_CONFIG, *PICKLES)
    return bool(weights_in(folder)) or any((folder / name).is_file() for name in named)


def digest_of(folder: Path) -> str | None:
    """Digest of the bytes that will be deployed: weights, configurations, tokenizer and template beside them.

    None for a folder without weights, or with a file that cannot be read.
    """
    weights = weights_in(folder)
    if not weights:
        return None
    return digest.of_named(folder, {*BESIDE, *(path.name for path in weights)})


@dataclass(frozen=True, slots=True)
class RunArtifacts:
    """A job's run folder. `run` is None where no ftcheck trainer wrote a run.json there.

    `adapter` is the folder of what was trained, None where nothing is there (yet) to look at, and then
    `missing` says why. `whole` is true for a model that was trained whole. `digest` is that of its bytes.
    """

    folder: Path
    run: TrainingRun | None = None
    adapter: Path | None = None
    whole: bool = False
    digest: str | None = None
    missing: str = ""


def opened(job: Job, folder: Path, run: TrainingRun | None) -> RunArtifacts:
    """The record of a folder that is there. A run that goes on is not looked at: its files still change."""
    if run is not None and run.state is State.RUNNING:
        return RunArtifacts(folder, run, missing=f"the run in {near(str(folder))} is still running")
    if not holds_model(folder):
        return RunArtifacts(folder, run, missing=_missing(folder, run))
    whole = not (folder / ADAPTER_CONFIG).is_file() and (folder / WHOLE_CONFIG).is_file()
    return RunArtifacts(folder, run, folder, whole, digest_of(folder))


def _missing(folder: Path, run: TrainingRun | None) -> str:
    said = "" if run is None or run.state is State.FINISHED else f": its run is {run.state}"
    return f"{near(str(folder))} contains no adapter{said}"


def untrained(job: Job) -> str:
    """Why nothing of a job can be looked at after its run: there was none. Says how to train it."""
    folder = folder_of(job)
    where = f"no run in {near(str(folder))}" if folder is not None else "training.output_dir is not set"
    return f"{job.name} was not trained: {where}; train it: ftcheck train POLICY --job {job.name}"


def is_there(folder: Path) -> bool:
    """Whether a folder holds a run or a model."""
    return (folder / RUN).is_file() or (folder.is_dir() and holds_model(folder))


@dataclass(frozen=True, slots=True)
class Adapter:
    """What came of loading base and adapter in a process of its own.

    `problem` says why it did not load; all else is empty then. `config` is adapter_config.json. `device` and
    `bits` are where and how the base was loaded (`cpu`, `4-bit nf4`). Names of tensors: `not_loaded` (the
    model wants them, the file does not have them), `unexpected` (the other way round), `not_finite`.
    `updates` is the number of lora_B tensors, `zero` how many of them are all zero: they change nothing.
    `rows` are the rows of the embedding table. `tokens` is the size of the tokenizer saved beside it, None
    where none is; `beside` says what is not as it was checked, a line each.
    """

    problem: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    bits: str | None = None
    tensors: int = 0
    not_loaded: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    updates: int = 0
    zero: int = 0
    rows: int | None = None
    tokens: int | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """What was answered to one gold question. `tokens` with the stop token; None where nobody counted.

    `finish`: `stop` (by itself, at a token that the server stops at), `template` (at a token that only the
    chat template ends a turn with: the server would go on), `length` (cut at the cap), None (not told).
    `trouble` says why there is no answer. `again` is the answer after one stricter retry, where this one
    breaks the output schema. `marked` is the text with its special tokens, where it has any; `calls` are
    those that a server has parsed, None where none did.
    """

    text: str = ""
    tokens: int | None = None
    finish: str | None = None
    trouble: str | None = None
    again: "Generation | None" = None
    marked: str | None = None
    calls: tuple[FunctionCall, ...] | None = None


@dataclass(frozen=True, slots=True)
class Generations:
    """The answers to the gold questions, in the gold set's order. `cap` is the most tokens of one.

    `source` says who answered. `problem` says why nobody did; `items` is empty then.
    """

    source: str
    cap: int
    items: tuple[Generation, ...] = ()
    problem: str | None = None
