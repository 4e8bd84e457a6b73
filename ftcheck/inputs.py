"""What rules may ask for by argument name, and the container that opens it lazily.

Inputs (argument names): `job`, `jobs`, `machine`, `packages`, `surroundings`, `rows`, `prepared`,
`prepared_eval`, `sample`, `tokenizer`, `serving`, `evaluation`, `lock`, `collated`, `saved`, `model`,
`weights`, `modules`, `repository`, `gold`, `benchmarks`, `output_schema`, `endpoint`, `run`. Rules see these
records and protocols only; tokenizer, data set and model libraries are opened by loaders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ftcheck.errors import FtcheckError, InputError
from ftcheck.offers import Loader
from ftcheck.records import Location, Progress
from ftcheck.settings import Job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GIVEN = frozenset({"job", "jobs", "run", "inputs"})
"""Inputs that need no loader."""

Jobs = tuple[Job, ...]
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run lends to its loaders: a work folder that all its workers share, and switches.

    `folder` outlives a worker: what a loader writes there, the next worker maps again. `policy` is the
    file that was named on the command line. With `cache`, preparations are kept for later runs and taken
    from earlier ones; `digests` are those of data files that were digested already (`mapper.train`), and
    `cached` is told which of them came out of the cache, `note` what the report should say beside results.
    """

    folder: Path
    offline: bool = False
    workers: int | None = None
    report: Callable[[Progress], None] = lambda progress: None
    policy: str | None = None
    cache: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)
    cached: Callable[[str], None] = lambda name: None
    note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, slots=True)
class Packages:
    """The Python version and the versions of installed packages (None: not installed)."""

    python: str
    versions: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver reports it. Memory in bytes; `capability` such as (9, 0)."""

    name: str
    memory: int
    free: int
    capability: tuple[int, int] | None
    driver: str


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine. Memory in bytes; `problem` says why the GPUs could not be asked."""

    system: str
    cpus: int
    memory: int
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with one row of data: a code (`encoding`, `json`, `schema`, `template`) and words."""

    code: str
    message: str
    fix: str | None = None
    column: int | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a data set before any tokenizer: columns over all rows, in data order.

    `file` (int32, index into `files`), `line` (int64, from 1; the row's position in files that have
    no lines), `offset` (int64, bytes), `turns` (int32, messages in the row), `troubles` by row
    index (from 0). `records` are sha256 hex digests of each row's bytes. `format` is the layout that
    was found. `system` holds, for each row, an index into `system_prompts` (-1: none). `remarks` are
    rows that a trainer would take but hardly anybody means, by code: `role`, `null-content`,
    `empty-answer`, `no-answer`, `text-arguments`. `asked` and `said` (int64) are the fingerprints of what
    is asked in a row and of all that is said in it (`ftcheck.likeness`; 0: nothing). `marks` are the
    special tokens that stand in rows as text, each with its rows.
    """

    files: tuple[str, ...]
    file: NDArray[np.int32]
    line: NDArray[np.int64]
    offset: NDArray[np.int64]
    turns: NDArray[np.int32]
    records: Sequence[str]
    troubles: Mapping[int, Trouble]
    format: str
    system: NDArray[np.int32]
    system_prompts: tuple[str, ...] = ()
    remarks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    asked: NDArray[np.int64] = field(default_factory=lambda: _nothing())
    said: NDArray[np.int64] = field(default_factory=lambda: _nothing())
    marks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows, the broken ones among them."""
        return len(self.line)

    def at(self, row: int, column: int | None = None) -> Location:
        """The place of a row (index from 0): clickable, and named by its digest."""
        return Location(
            path=self.files[int(self.file[row])],
            line=int(self.line[row]),
            column=column or 1,
            row=row + 1,
            record=self.records[row],
        )


def _nothing() -> NDArray[np.int64]:
    import numpy as np

    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Row:
    """One prepared row, as rules look at it: `index` from 0, lengths in tokens."""

    index: int
    length: int
    kept: int
    trained: int
    trained_lost: int
    at: Location


@dataclass(frozen=True)
class Prepared:
    """The rows as the trainer will feed them: columns over all rows, in data order.

    All arrays have one entry a row (int32 unless said): `length` tokens before truncation; `kept`
    tokens that are fed (0: dropped, broken); `trained` tokens in the loss; `trained_lost` tokens
    that would be in the loss but for truncation; `bos` number of BOS tokens; `answer` tokens of the
    last stretch in the loss before truncation; `ends_in_stop` (bool) the row's last token that is
    not blank is a stop token, before truncation; `stop_trained` (bool) a stop token is in the loss
    at the end of the fed row.
    `boundary` tokens of the prompt alone with which the row does not begin (0: the prompt is its prefix);
    the mask is off by so many.
    `outlier` (bool) marks rows that the policy's `outliers` changed or dropped; `used` (bool) marks
    rows that are fed. A row that TRL drops (fully masked, not packing) is not used.
    `sequences` are what is fed: a row index, a start and a stop into the row's tokens (int64, shape
    (n, 3)); one a used row, several where `outliers.action` is `chunk`.
    `digest` is sha256 over ids and labels of all sequences, in order; None if a row is in trouble.
    """

    rows: Rows
    length: NDArray[np.int32]
    kept: NDArray[np.int32]
    trained: NDArray[np.int32]
    trained_lost: NDArray[np.int32]
    bos: NDArray[np.int32]
    answer: NDArray[np.int32]
    boundary: NDArray[np.int32]
    ends_in_stop: NDArray[np.bool_]
    stop_trained: NDArray[np.bool_]
    outlier: NDArray[np.bool_]
    used: NDArray[np.bool_]
    sequences: NDArray[np.int64]
    troubles: Mapping[int, Trouble]
    digest: str | None
    tokens: TokenStore
    engine: str = "tokenizers"
    masked: bool = True

    def __len__(self) -> int:
        """Number of rows, the broken ones among them."""
        return len(self.length)

    def at(self, row: int) -> Location:
        """The place of a row (index from 0)."""
        return self.rows.at(row)

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence that will be fed, before truncation to max_length (outliers applied)."""
        stops: NDArray[np.int64] = self.sequences[:, 2] - self.sequences[:, 1]
        return stops

    def fed(self, max_length: int | None, *, cut: bool = True) -> NDArray[np.int64]:
        """Tokens of each sequence as fed: cut to `max_length` where the trainer cuts."""
        lengths = self.lengths()
        return lengths if max_length is None or not cut else lengths.clip(max=max_length)

    def rows_where(self, mask: NDArray[np.bool_]) -> Iterator[Row]:
        """The rows that `mask` (one bool a row) selects, in data order."""
        for index in mask.nonzero()[0].tolist():
            yield Row(
                index=index,
                length=int(self.length[index]),
                kept=int(self.kept[index]),
                trained=int(self.trained[index]),
                trained_lost=int(self.trained_lost[index]),
                at=self.at(index),
            )


class TokenStore(Protocol):
    """Token ids and loss mask of rows, before truncation; mapped from disk, not held in memory."""

    def ids(self, row: int) -> NDArray[np.int32]:
        """Token ids of a row (index from 0)."""

    def mask(self, row: int) -> NDArray[np.bool_]:
        """Which of them are in the loss."""

    def used_ids(self, *, trained: bool = False) -> NDArray[np.int64]:
        """Ids that occur in the rows, each once, in order; with `trained` only those in the loss."""

    def rows_with(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """The rows (indices from 0) that have any of these ids, in order."""


class Tokenizer(Protocol):
    """A tokenizer with its chat template, as one side of a job (training, serving) uses it."""

    @property
    def path(self) -> str:
        """Folder or hub id."""

    @property
    def class_name(self) -> str:
        """Class that transformers made of it."""

    @property
    def size(self) -> int:
        """Number of tokens, added ones among them."""

    @property
    def chat_template(self) -> str | None:
        """The template it is saved and served with."""

    @property
    def training_template(self) -> str | None:
        """The template that training applies (TRL's patched one where the loss needs it)."""

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that begins a sequence."""

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a sequence."""

    @property
    def pad_token_id(self) -> int | None:
        """Id of the padding token."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a turn: EOS, and what the template puts after an answer."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of special and added tokens: a tokenizer never makes them of ordinary text."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text; `special` adds the special tokens that the tokenizer adds on its own."""

    def reference(self, text: str) -> list[int] | None:
        """Ids of a text as `tokenizer.json` alone gives them; None where there is no such file."""

    def render(self, messages: Sequence[Message], *, prompt: bool = False, **switches: Any) -> str:
        """The conversation as text; `prompt` opens the assistant's turn. Raises InputError."""

    def show(self, ids: Sequence[int]) -> str:
        """Tokens as text, special tokens kept."""

    def changes_with_date(self, messages: Sequence[Message], **switches: Any) -> bool:
        """Whether training's template renders this prompt otherwise on another day."""

    def with_fixed_regex(self) -> Tokenizer | None:
        """The tokenizer with transformers' mended regex for the Mistral family; None for any other."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One row's conversation, kept for rules that compare renderings."""

    index: int
    messages: tuple[Message, ...]
    prompt_turns: int
    ids: tuple[int, ...]
    at: Location
    tools: Any = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows drawn from the data (seeded) plus the longest ones; `total` rows stood to choose from."""

    rows: tuple[SampleRow, ...]
    total: int


@dataclass(frozen=True, slots=True)
class ServingSide:
    """What the server loads and sends: a tokenizer with its template, and the request switches.

    `same` is true where nothing but the training side is named, so that both are one object.
    """

    tokenizer: Tokenizer
    same: bool
    switches: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The base model's config.json and generation_config.json, and where they lie; weights unread."""

    path: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> int | None:
        """Positions the model can take: max_position_embeddings, scaled where rope scaling says so."""
        config = self.config.get("text_config", self.config)
        base = config.get("max_position_embeddings", config.get("n_positions"))
        return _scaled(config, base) if isinstance(base, int) else None

    @property
    def stop_ids(self) -> frozenset[int]:
        """eos_token_id of the generation config, else of the config: one or several."""
        found = self.generation.get("eos_token_id", self.config.get("eos_token_id"))
        return frozenset(found if isinstance(found, list) else [found] if found is not None else [])


def _scaled(config: Mapping[str, Any], base: int) -> int:
    """`base` times the factor of linear, dynamic and yarn scaling; other kinds, and Gemma 3, count it in."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if not isinstance(factor, int | float) or str(config.get("model_type")).startswith("gemma3"):
        return base
    if kind == "yarn":
        return max(base, int(rope.get("original_max_position_embeddings", base) * factor))
    return int(base * factor) if kind in ("linear", "dynamic") else base


@dataclass(frozen=True, slots=True)
class GoldItem:
    """One question with its answer: `messages` as served, `answer` as text, its length in tokens."""

    id: str
    messages: tuple[Message, ...]
    prompt: str
    prompt_ids: tuple[int, ...]
    expected: Any
    answer: str
    answer_tokens: int
    at: Location


@dataclass(frozen=True, slots=True)
class GoldSet:
    """Questions with known answers, rendered as the server will render them."""

    path: str
    items: tuple[GoldItem, ...]
    system_prompt: str | None = None
    troubles: tuple[tuple[Location, Trouble], ...] = ()


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The JSON Schema of the answers, and a function that lists what is wrong with one."""

    path: str
    schema: Mapping[str, Any]
    errors: Callable[[Any], list[str]]


class Inputs:
    """Opens inputs by name, once each; remembers what could not be opened, and says so again."""

    def __init__(
        self,
        loaders: Mapping[str, Loader],
        base: Mapping[str, Any],
        job: Job | None,
        shared: dict[str, Any] | None = None,
        opening: Callable[[str, bool], None] = lambda name, done: None,
        poisoned: Sequence[str] = (),
    ) -> None:
        """`base` are values that need no loader (`run`, `jobs`); `shared` holds host inputs of all jobs.

        `opening(name, done)` is told before and after a loader runs. `poisoned` inputs killed workers
        before, and are not opened.
        """
        self._loaders = loaders
        self._base = {**base, "job": job}
        self._job = job
        self._shared = shared if shared is not None else {}
        self._opened: dict[str, Any] = {}
        self._failed: dict[str, FtcheckError] = {name: _poison(name) for name in poisoned}
        self._opening = opening

    def get(self, name: str) -> Any:
        """The input `name`, opened now if it was not. Raises `InputError`, each time the same."""
        if name == "inputs":
            return self
        if name in self._base:
            return self._base[name]
        if name in self._failed:
            raise self._failed[name]
        store = self._opened if self.of_job(name) else self._shared
        if name not in store:
            store[name] = self._open(name)
        return store[name]

    def opened(self, name: str) -> Any | None:
        """The input `name` if it is open already, else None."""
        return self._opened.get(name, self._shared.get(name))

    def has(self, name: str) -> bool:
        """Whether anything could open `name`."""
        return name in self._base or name in self._loaders or name == "inputs"

    def of_job(self, name: str) -> bool:
        """Whether `name` is about one job (it needs `job`, itself or through what it needs)."""
        return needs_job(self._loaders, name)

    def _open(self, name: str) -> Any:
        opener = self._loaders.get(name)
        if opener is None:
            raise InputError(f"no loader offers the input '{name}'")
        arguments = [self.get(need) for need in opener.needs]
        self._opening(name, False)
        try:
            return opener.open(*arguments)
        except FtcheckError as error:
            self._failed[name] = error
            raise
        except Exception as error:
            failure = InputError(f"input '{name}' could not be opened: {type(error).__name__}: {error}")
            self._failed[name] = failure
            raise failure from error
        finally:
            self._opening(name, True)


def _poison(name: str) -> InputError:
    return InputError(f"input '{name}' killed two workers and is not opened again")


def needs_job(loaders: Mapping[str, Loader], name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether an input is about one job: it is `job`, or its loader needs one that is."""
    if name in ("job", "inputs"):
        return True
    if name in seen or name not in loaders:
        return False
    return any(needs_job(loaders, need, seen | {name}) for need in loaders[name].needs)


def closure(loaders: Mapping[str, Loader], names: Sequence[str]) -> frozenset[str]:
    """All inputs that `names` stand on, themselves included."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(loaders[name].needs if name in loaders else ())
    return frozenset(found)
