"""The kit for people who write rules: small inputs of your own making, and one call that runs a rule."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ftcheck.extension.rules import Case, Rule
from ftcheck.inputs.collated import Collated
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.dry_save import DrySave
from ftcheck.inputs.environment import Environment
from ftcheck.inputs.evaluation import GoldItem, GoldSet, OutputSchema
from ftcheck.inputs.finished_run import (
    Adapter,
    Generation,
    Generations,
    RunArtifacts,
)
from ftcheck.inputs.loader import Loader
from ftcheck.inputs.machine import Gpu, Machine, Packages
from ftcheck.inputs.metric_history import (
    Expected,
    Lines,
    MetricHistory,
    Span,
)
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.modules import Modules
from ftcheck.inputs.prepared import (
    CLOSED,
    Prepared,
    RowError,
    Rows,
    Sample,
    SampleRow,
    TokenStore,
)
from ftcheck.inputs.repository import Repository
from ftcheck.inputs.row_texts import ReadRow, RowTexts
from ftcheck.inputs.run_folder import (
    Metric,
    Note,
    State,
    TrainingRun,
)
from ftcheck.inputs.tokenizer import Message, ServingSide
from ftcheck.inputs.tool_parsers import declared
from ftcheck.inputs.weights import Tensor, Weights
from ftcheck.lock import Lock
from ftcheck.records import Check, Finding, Location, Measurement, Result, Severity
from ftcheck.settings import Job, Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GIB = 1 << 30
Record = TypeVar("Record")


def job(name: str = "job", **sections: Any) -> Job:
    """A job; sections are given as mappings: `job(training={"max_length": 8}, serving={...})`.

    Every setting's place is line 1 of `policy.yaml`, with its YAML path. A `serving` section that is given
    counts as stated, as do its keys.
    """
    types = {f.name: f.default_factory for f in fields(Job) if callable(f.default_factory)}
    made: dict[str, Any] = {"model": Model(name="model")}
    for section, values in sections.items():
        if section == "model":
            made["model"] = Model(**{"name": "model", **values})
        elif isinstance(values, Mapping) and section in types:
            made[section] = _record(type(types[section]()), values)
        else:
            made[section] = values
    place = Location(path="policy.yaml", line=1, column=1)
    stated = {"": place}
    if isinstance(serving := sections.get("serving"), Mapping):
        stated |= dict.fromkeys(("serving", *(f"serving.{one}" for one in serving)), place)
    return Job(name=name, places=stated, **made)


def _record(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """A settings record with nested mappings turned into the records that its fields ask for."""
    from ftcheck.policy.extra_keys import fields, section_of

    nested = {name: inner for name, asked in fields(kind).items() if (inner := section_of(asked))}
    made = {
        key: nested[key](**value) if key in nested and isinstance(value, Mapping) else value
        for key, value in values.items()
    }
    return kind(**made)


def inputs(job: Job | None = None, *, broken: Mapping[str, str] | None = None, **opened: Any) -> Inputs:
    """Inputs for rules that ask for `inputs`: `opened` are at hand, `broken` ones raise `InputError`."""
    from ftcheck.errors import InputError

    def failing(message: str) -> Loader:
        def open_it() -> Any:
            raise InputError(message)

        return Loader("broken", open_it)

    return Inputs({name: failing(text) for name, text in (broken or {}).items()}, opened, job)


def window(
    *,
    eval_loss: Sequence[float | None] = (),
    expected: Mapping[str, Span] | None = None,
    device: str | None = None,
    memory_gib: float | None = None,
    **values: Sequence[float | None],
) -> MetricHistory:
    """Metric lines of a run, one a step: `window(loss=[2.0, 1.9], grad_norm=[1.0, 0.9])`.

    Lines without a `loss` of their own have 1.0. The evaluations are spread over the steps.
    """
    lines, count = Lines(), max((len(one) for one in values.values()), default=0)
    for step in range(1, count + 1):
        logged = {name: one[step - 1] for name, one in values.items() if len(one) >= step}
        lines.add(Metric(step, step, {"step": step, "loss": 1.0, **logged}))
    for number, loss in enumerate(eval_loss, start=1):
        step = max(number, round(number * count / len(eval_loss)))
        lines.add(Metric(step, 0, {"step": step, "eval_loss": loss}))
    return lines.window(expected=Expected(expected or {}), device=device, memory_gib=memory_gib)


def packages(python: str = "3.11.7", **versions: str | None) -> Packages:
    """Installed packages; write `_` for `-`."""
    return Packages(python, {name.replace("_", "-"): version for name, version in versions.items()})


def collated(collator: str = "trl", **counts: Any) -> Collated:
    """Two rows after collating: two stop tokens in the loss and five padding tokens, unless said."""
    return Collated(collator, **{"rows": (0, 1), "stops": 2, "pads": 5, **counts})


def gpu(name: str = "NVIDIA H100", memory_gib: float = 80, capability: tuple[int, int] = (9, 0)) -> Gpu:
    """One GPU, all of its memory free."""
    memory = int(memory_gib * GIB)
    return Gpu(name=name, memory=memory, free=memory, capability=capability, driver="570.1")


def machine(*gpus: Gpu, memory_gib: float = 24, problem: str | None = None) -> Machine:
    """A machine with some GPUs, or none."""
    return Machine(system="Linux", cpus=2, memory=int(memory_gib * GIB), gpus=gpus, problem=problem)


def environment(**fields: Any) -> Environment:
    """A healthy machine: a token, 500 GiB free for the hub's cache, 8 GiB of /dev/shm, wandb not set up."""
    healthy: dict[str, Any] = {
        "hub_token": True,
        "offline": False,
        "hub_cache": "/cache/huggingface/hub",
        "cache_free": 500 * GIB,
        "wandb": None,
        "world_size": None,
        "shm": 8 * GIB,
    }
    return Environment(**{**healthy, **fields})


def repository(**fields: Any) -> Repository:
    """A model on the hub that anybody may download, 16 GiB, not in the cache yet."""
    healthy: dict[str, Any] = {
        "name": "owner/model",
        "local": False,
        "cached": False,
        "found": True,
        "gated": False,
        "size": 16 * GIB,
    }
    return Repository(**{**healthy, **fields})


def model_config(
    context: int | None = 4096, generation: Mapping[str, Any] | None = None, **config: Any
) -> ModelConfig:
    """A base model's configuration; `context` is max_position_embeddings."""
    base = {"max_position_embeddings": context} if context is not None else {}
    return ModelConfig(path="model", config={**base, **config}, generation=generation or {})


@dataclass(frozen=True)
class _Tables(Weights):
    """Weights whose tables are made up: every row another one, but for `zero` and `equal` ones."""

    zero: Sequence[int] = ()
    equal: Sequence[int] = ()

    def rows(self, tensor: Tensor, ids: Sequence[int]) -> "NDArray[np.float32] | None":
        import numpy as np

        made = np.array([[1 + (-1 if one in self.equal else one)] for one in ids], dtype=np.float32)
        made = np.tile(made + 1, (1, tensor.shape[1]))
        made[[one in self.zero for one in ids]] = 0
        return made if tensor.dtype in ("BF16", "F16", "F32") else None


def weights(
    rows: int = 2_000_000,
    *,
    tied: bool = True,
    dtype: str = "BF16",
    zero: Sequence[int] = (),
    equal: Sequence[int] = (),
) -> Weights:
    """Weights with an embedding table of so many rows, some of them `zero` or `equal` to one another."""
    names = ["model.embed_tokens.weight"] + ([] if tied else ["lm_head.weight"])
    size = rows * 8
    tables = {
        name: Tensor(name, dtype, (rows, 4), "model.safetensors", number * size, (number + 1) * size)
        for number, name in enumerate(names)
    }
    return _Tables(tables, zero, equal)


def modules(
    layers: int = 2,
    hidden: int = 64,
    *,
    vocabulary: int = 1_000,
    tied: bool = False,
    fused: bool = False,
    experts: int = 0,
    every: int = 1,
    model_type: str = "llama",
) -> Modules:
    """A small decoder: Llama's names, Phi-3's where `fused`, with so many fused `experts` instead of an MLP.

    Only `every` so many layers have attention, as in hybrid models.
    """
    attention = ["qkv_proj", "o_proj"] if fused else ["q_proj", "k_proj", "v_proj", "o_proj"]
    mlp = [] if experts else ["gate_up_proj", "down_proj"] if fused else ["gate_proj", "up_proj", "down_proj"]
    linear = {
        f"model.layers.{layer}.{block}.{name}": (hidden, hidden)
        for layer in range(layers)
        for block, names in (("self_attn", attention if layer % every == 0 else []), ("mlp", mlp))
        for name in names
    }
    parameters: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in linear.items()}
    parameters["model.embed_tokens.weight"] = (vocabulary, hidden)
    for layer in range(layers if experts else 0):
        for name in ("gate_up_proj", "down_proj"):
            parameters[f"model.layers.{layer}.mlp.experts.{name}"] = (experts, hidden, hidden)
    if not tied:
        parameters["lm_head.weight"] = (vocabulary, hidden)
    linear["lm_head"] = (hidden, vocabulary)
    inner = [name.rpartition(".")[0] for name in parameters]
    names = {".".join(name.split(".")[:depth]) for name in [*inner, *linear] for depth in range(1, 9)}
    return Modules(
        linear=linear,
        parameters=parameters,
        embeddings={"model.embed_tokens": (vocabulary, hidden)},
        total=sum(math.prod(shape) for shape in parameters.values()),
        source="config.json",
        names=tuple(sorted(names)),
        head="lm_head",
        tied=tied,
        model_type=model_type,
    )


def rows(
    count: int = 3,
    *,
    row_errors: Mapping[int, RowError] | None = None,
    remarks: Mapping[str, Sequence[int]] | None = None,
    layout: str = "messages",
    system_prompts: Sequence[str] = (),
    system: Sequence[int] | None = None,
    turns: Sequence[int] | None = None,
    asked: Sequence[int] | None = None,
    said: Sequence[int] | None = None,
    answered: Sequence[int] | None = None,
    spelled: Sequence[int] | None = None,
    ending: Sequence[int] | None = None,
    marks: Mapping[str, Sequence[int]] | None = None,
    texts: Sequence[Sequence[tuple[str, str]]] | None = None,
) -> Rows:
    """Rows of `train.jsonl`, one a line. Row numbers in `row_errors`, `remarks` and `marks` count from 0.

    `asked`, `said` and `answered` are fingerprints, `spelled` are checksums; by default every row has others.
    `ending` tells how answers end; by default all are complete. `texts` are role and text of each row's
    messages, as `Rows.texts` gives them.
    """
    import numpy as np

    return Rows(
        files=("train.jsonl",),
        file=np.zeros(count, dtype=np.int32),
        line=np.arange(1, count + 1, dtype=np.int64),
        offset=np.arange(count, dtype=np.int64) * 100,
        turns=np.array(turns if turns is not None else [3] * count, dtype=np.int32),
        records=[hashlib.sha256(str(n).encode()).hexdigest() for n in range(count)],
        row_errors=dict(row_errors or {}),
        format=layout,
        system=np.array(system if system is not None else [-1] * count, dtype=np.int32),
        system_prompts=tuple(system_prompts),
        remarks={code: tuple(found) for code, found in (remarks or {}).items()},
        asked=np.array(asked if asked is not None else range(1, count + 1), dtype=np.int64),
        said=np.array(said if said is not None else range(1, count + 1), dtype=np.int64),
        answered=np.array(answered if answered is not None else range(1, count + 1), dtype=np.int64),
        ending=np.array(ending if ending is not None else [CLOSED] * count, dtype=np.int32),
        spelled=np.array(spelled if spelled is not None else range(1, count + 1), dtype=np.int64),
        marks={mark: tuple(found) for mark, found in (marks or {}).items()},
        reader=_GivenTexts(texts) if texts is not None else None,
    )


@dataclass(frozen=True)
class _GivenTexts:
    """Texts of rows that are given."""

    given: Sequence[Sequence[tuple[str, str]]]

    def texts(self, row: int) -> Sequence[tuple[str, str]]:
        return self.given[row]


@dataclass(frozen=True)
class _RowTexts:
    """Rows that can be read again."""

    rows: Mapping[int, ReadRow]

    def said(self, rows: Sequence[int]) -> list[str]:
        return ["\n".join(str(one.get("content") or "") for one in self.rows[row].messages) for row in rows]

    def read(self, rows: Sequence[int]) -> list[ReadRow]:
        return [self.rows[row] for row in rows]


def row_texts(*rows: ReadRow) -> "RowTexts":
    """The input `row_texts`, for `inputs(row_texts=...)`: rows that a rule may read again, by their index."""
    return _RowTexts({row.index: row for row in rows})


@dataclass
class _Tokens:
    """Token ids of rows that count up from 0, and masks whose last `trained` tokens are in the loss."""

    lengths: Sequence[int]
    trained: Sequence[int]

    def ids(self, row: int) -> "NDArray[np.int32]":
        import numpy as np

        return np.arange(self.lengths[row], dtype=np.int32)

    def mask(self, row: int) -> "NDArray[np.bool_]":
        import numpy as np

        mask: NDArray[np.bool_] = np.arange(self.lengths[row]) >= self.lengths[row] - self.trained[row]
        return mask

    def used_ids(self, *, trained: bool = False) -> "NDArray[np.int64]":
        import numpy as np

        parts = [
            self.ids(row)[self.mask(row)] if trained else self.ids(row) for row in range(len(self.lengths))
        ]
        return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *parts])).astype(np.int64)

    def rows_with(self, ids: Sequence[int]) -> "NDArray[np.int64]":
        import numpy as np

        found = [row for row in range(len(self.lengths)) if set(ids) & set(self.ids(row).tolist())]
        return np.array(found, dtype=np.int64)


@dataclass
class _Given(_Tokens):
    """Rows whose token ids are given."""

    rows: Sequence[Sequence[int]] = ()

    def ids(self, row: int) -> "NDArray[np.int32]":
        import numpy as np

        return np.array(self.rows[row], dtype=np.int32)


def token_store(*rows: Sequence[int], trained: Sequence[int] | None = None) -> "TokenStore":
    """Rows of these ids, for `prepared(..., tokens=...)`; the last `trained` of each are in the loss."""
    lengths = [len(row) for row in rows]
    return _Given(lengths, lengths if trained is None else trained, rows)


def prepared(
    lengths: Sequence[int],
    *,
    trained: Sequence[int] | None = None,
    max_length: int | None = None,
    packing: bool = False,
    row_errors: Mapping[int, RowError] | None = None,
    of: Rows | None = None,
    **columns: Any,
) -> Prepared:
    """Prepared rows of these lengths, in tokens. The last `trained` tokens of each are in the loss.

    Rows are cut to `max_length`; without `packing`, a row that is left with nothing in the loss is
    not used, as with TRL. Any other column of `ftcheck.Prepared` can be given by name.
    """
    import numpy as np

    count = len(lengths)
    length = np.array(lengths, dtype=np.int32)
    in_loss = np.array(lengths if trained is None else trained, dtype=np.int32)
    kept = length if max_length is None else np.minimum(length, max_length).astype(np.int32)
    lost = np.minimum(length - kept, in_loss).astype(np.int32)
    good = np.ones(count, dtype=bool)
    good[list(row_errors or {})] = False
    used = good & (packing | (max_length is None) | (in_loss - lost > 0))
    index = used.nonzero()[0].astype(np.int64)
    spans = np.stack([index, np.zeros_like(index), length[index].astype(np.int64)], axis=1)
    made: dict[str, Any] = {
        "rows": of or rows(count, row_errors=row_errors),
        "length": length,
        "kept": np.where(used, kept, 0).astype(np.int32),
        "trained": np.where(used, in_loss - lost, 0).astype(np.int32),
        "trained_lost": np.where(used, lost, in_loss).astype(np.int32),
        "bos": np.ones(count, dtype=np.int32),
        "answer": in_loss,
        "boundary": np.zeros(count, dtype=np.int32),
        "ends_in_stop": good,
        "stop_trained": used & (lost == 0),
        "outlier": np.zeros(count, dtype=bool),
        "used": used,
        "sequences": spans,
        "row_errors": dict(row_errors or {}),
        "digest": None if row_errors else "sha256:" + "0" * 64,
        "tokens": _Tokens(lengths, in_loss.tolist()),
        "masked": bool((in_loss < length).any()),
    }
    return Prepared(**{**made, **columns})


@dataclass
class FakeTokenizer:
    """A tokenizer of characters: ids are code points, ids from 1,000,000 on are special tokens.

    `marks` are the texts of special tokens, in order. Conversations are rendered as
    `<|role|>content<|end|>`; `shift` is added to the ids of ordinary characters, which makes it
    another tokenizer. `loses` drops roles from what it renders, as some templates do. `dated` says that
    it writes today's date; `fixed_shift` is the shift of the tokenizer with the mended regex, if any.
    Tool calls are rendered as `call`, with their function's JSON in place of `%s`; by default not at all.
    """

    path: str = "tokenizer"
    class_name: str = "FakeTokenizer"
    size: int = 1_000_100
    chat_template: str | None = "{% for m in messages %}…{% endfor %}"
    training_template: str | None = "{% for m in messages %}…{% endfor %}"
    bos_token_id: int | None = None
    eos_token_id: int | None = 1_000_000
    pad_token_id: int | None = 1_000_001
    stop_ids: frozenset[int] = frozenset({1_000_000})
    marks: tuple[str, ...] = ("<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
    shift: int = 0
    reference_shift: int | None = 0
    loses: tuple[str, ...] = ()
    opening: str = "<|assistant|>"
    dated: bool = False
    fixed_shift: int | None = None
    call: str = ""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the marks."""
        return frozenset(range(1_000_000, 1_000_000 + len(self.marks)))

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text."""
        return self._encode(text, self.shift)

    def reference(self, text: str) -> list[int] | None:
        """Ids as `tokenizer.json` alone would give them; None if there is no such file."""
        return None if self.reference_shift is None else self._encode(text, self.reference_shift)

    def _encode(self, text: str, shift: int) -> list[int]:
        ids, position = [], 0
        while position < len(text):
            mark = next((m for m in self.marks if text.startswith(m, position)), None)
            ids.append(ord(text[position]) + shift if mark is None else 1_000_000 + self.marks.index(mark))
            position += 1 if mark is None else len(mark)
        return ids

    def render(self, messages: Sequence[Message], *, prompt: bool = False, **switches: Any) -> str:
        """The conversation as text."""
        kept = [m for m in messages if m["role"] not in self.loses]
        text = "".join(f"<|{m['role']}|>{m.get('content') or ''}{self._calls(m)}<|end|>" for m in kept)
        return text + (self.opening if prompt else "")

    def _calls(self, message: Message) -> str:
        """A message's tool calls, as `call` says."""
        import json

        calls = message.get("tool_calls") or () if self.call else ()
        return "".join(self.call.replace("%s", json.dumps(one["function"])) for one in calls)

    def show(self, ids: Sequence[int]) -> str:
        """Tokens as text."""
        return "".join(self.marks[i - 1_000_000] if i >= 1_000_000 else chr(i - self.shift) for i in ids)

    def plain(self, ids: Sequence[int]) -> str:
        """Tokens as text without the marks."""
        return self.show([one for one in ids if one < 1_000_000])

    def changes_with_date(self, messages: Sequence[Message], **switches: Any) -> bool:
        """Whether the date is written, and no switch pins it."""
        return self.dated and "date_string" not in switches

    def with_fixed_regex(self) -> "FakeTokenizer | None":
        """The same tokenizer with the mended regex; None if it is not of that family."""
        return None if self.fixed_shift is None else replace(self, shift=self.fixed_shift, fixed_shift=None)


def tokenizer(**changes: Any) -> FakeTokenizer:
    """A small tokenizer of characters; any of its fields can be given."""
    return FakeTokenizer(**changes)


def serving_side(training: FakeTokenizer | None = None, **changes: Any) -> ServingSide:
    """The serving side: the training tokenizer itself, or one that differs by `changes`."""
    base = training or FakeTokenizer()
    same = not changes
    return ServingSide(tokenizer=base if same else replace(base, **changes), same=same)


def lock(
    using: FakeTokenizer | None = None,
    *,
    versions: Mapping[str, str | None] | None = None,
    defaults: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
    conversations: Mapping[str, tuple[Message, ...]] | None = None,
    of_another_job: bool = False,
    **changes: Any,
) -> Lock:
    """What `ftcheck lock` wrote when `using` was the tokenizer; `changes` are fields of `LockedJob`."""
    from ftcheck.lock import of_job, today

    texts, conversations = texts or {}, conversations or {}
    part = of_job(using or FakeTokenizer(), "sha256:" + "0" * 64, texts.items(), conversations.items())
    return Lock(
        path="policy.yaml.lock",
        versions=versions or {},
        defaults=today() if defaults is None else defaults,
        job=None if of_another_job else replace(part, **changes),
    )


def sample(*conversations: Sequence[Message], using: FakeTokenizer | None = None) -> Sample:
    """Rows with these conversations, tokenised by `using`; the last message is the answer."""
    maker = using or FakeTokenizer()
    where = rows(len(conversations))
    made = [
        SampleRow(n, tuple(turns), len(turns) - 1, tuple(maker.encode(maker.render(turns))), where.at(n))
        for n, turns in enumerate(conversations)
    ]
    return Sample(rows=tuple(made), total=len(made))


def gold(
    *pairs: tuple[str, Any],
    system_prompt: str | None = None,
    using: FakeTokenizer | None = None,
    tools: Any = None,
    call_format: str | None = None,
) -> GoldSet:
    """Questions with answers; an answer that is no text is written as JSON. Lengths count the stop token.

    An answer {"tool_calls": [...]} is calls; all questions offer `tools`; calls are read as `call_format`.
    """
    import json

    maker = using or FakeTokenizer()
    opening: list[Message] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    items = []
    for number, (question, expected) in enumerate(pairs, start=1):
        answer = expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)
        turns = (*opening, {"role": "user", "content": question})
        prompt = maker.render(turns, prompt=True)
        at = Location(path="gold.json", line=number, row=number)
        ids = tuple(maker.encode(prompt))
        tokens = len(maker.encode(answer)) + 1
        message = expected if isinstance(expected, dict) and "tool_calls" in expected else None
        calls = declared(message) if message is not None else ()
        made = (f"gold-{number}", turns, prompt, ids, expected, answer, tokens, at)
        items.append(GoldItem(*made, tools=tools, calls=calls, call_message=message))
    return GoldSet("gold.json", tuple(items), system_prompt, call_format=call_format)


def row_conversations(*conversations: Sequence[Message], tools: Any = None) -> RowTexts:
    """The input `row_texts` of rows with these conversations, all with the same tools."""
    return row_texts(*(ReadRow(n, tuple(turns), 0, tools) for n, turns in enumerate(conversations)))


def output_schema(schema: Mapping[str, Any]) -> OutputSchema:
    """A JSON Schema as the `output_schema` input."""
    from jsonschema.validators import validator_for

    validator = validator_for(schema)(schema)
    return OutputSchema(
        path="output_schema.json",
        schema=schema,
        errors=lambda value: [error.message for error in validator.iter_errors(value)],
    )


def saved(*, tokenizer_class: str = "TokenizersBackend", **changes: Any) -> DrySave:
    """What saving the tokenizer left behind, all well; takes any field of `inputs.dry_save.DrySave`."""
    made: dict[str, Any] = {
        "files": ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"),
        "tokenizer_config": {"tokenizer_class": tokenizer_class},
        "template_file": "chat_template.jinja",
        "probes": 8,
        "transformers": "5.23.0",
    }
    return DrySave(**{**made, **changes})


def run_artifacts(
    losses: Sequence[float | None] = (2.0, 1.5, 1.0, 0.8, 0.7, 0.6),
    *,
    eval_losses: Sequence[float | None] = (),
    state: State = State.FINISHED,
    notes: Sequence[str] = (),
    missing: str = "",
    digest: str | None = "sha256:" + "1" * 64,
    **values: Any,
) -> RunArtifacts:
    """A finished run of the job `job` in `run/`, a metric line a step; `values` go into its run.json.

    Its ids are those of `prepared(...)`; the evaluations are spread over the steps. `missing`: no adapter.
    """
    steps = len(losses)
    lines = [Metric(step, step, {"step": step, "loss": loss}) for step, loss in enumerate(losses, start=1)]
    for number, loss in enumerate(eval_losses, start=1):
        step = round(number * steps / len(eval_losses))
        lines.append(Metric(step, steps + number, {"step": step, "eval_loss": loss}))
    folder = Path("run")
    stated = {"job": "job", "trainer": "qlora", "ids": "sha256:" + "0" * 64, "steps": steps, **values}
    unread = tuple(Note("run/metrics.jsonl", steps, text) for text in notes)
    made = TrainingRun(folder, state, stated, tuple(lines), unread)
    return RunArtifacts(folder, made, None if missing else folder, digest=digest, missing=missing)


def adapter(**changes: Any) -> Adapter:
    """An adapter that loads, and was trained; takes any field of `inputs.finished_run.Adapter`."""
    made: dict[str, Any] = {"tensors": 56, "updates": 28, "rows": 2048, "tokens": 2048}
    return Adapter(**{**made, "config": {"base_model_name_or_path": "model", "r": 16}, **changes})


def generations(*texts: str | Generation, cap: int = 64, problem: str | None = None) -> Generations:
    """Answers to gold questions, in order; a text stopped by itself, and has as many tokens as characters."""
    made = [one if isinstance(one, Generation) else Generation(one, len(one) + 1, "stop") for one in texts]
    source = "transformers" if problem is None else "nobody"
    return Generations(source, cap, tuple(made), problem)


@dataclass(frozen=True)
class Ran:
    """What a rule said: its findings, its measurements by name, why it skipped, and the whole result."""

    result: Result
    findings: tuple[Finding, ...]
    measured: Mapping[str, Any] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    skipped: str | None = None

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings."""
        return max((f.severity for f in self.findings), key=lambda s: s.rank, default=None)


def run(rule: Rule, params: Mapping[str, Any] | None = None, **inputs: Any) -> Ran:
    """Run a rule on these inputs, judged as a check of a policy would be.

    Inputs that the rule does not ask for are an error, and so are those that are missing.
    """
    from ftcheck.ledger import judge
    from ftcheck.runner.worker import collect

    unknown = sorted(set(inputs) ^ set(rule.inputs))
    if unknown:
        raise TypeError(f"rule '{rule.id}' takes {', '.join(rule.inputs)}; wrong or missing: {unknown}")
    arguments = dict(inputs)
    if rule.params_type is not None:
        arguments["params"] = rule.params_type(**(params or {}))
    check = Check(id=f"job::{rule.id}", name=rule.id, rule=rule.id, job="job", stage=rule.stage)
    result = judge(collect(check, rule, arguments), Severity.ERROR)
    skipped = result.reason if result.outcome == "skipped" else None
    measured = {one.name: one.value for one in result.measurements}
    return Ran(result, result.findings, measured, result.measurements, skipped)


__all__ = [
    "Case",
    "FakeTokenizer",
    "Ran",
    "adapter",
    "generations",
    "collated",
    "gold",
    "gpu",
    "inputs",
    "job",
    "lock",
    "machine",
    "model_config",
    "modules",
    "output_schema",
    "packages",
    "prepared",
    "repository",
    "row_texts",
    "rows",
    "run",
    "sample",
    "saved",
    "serving_side",
    "environment",
    "token_store",
    "tokenizer",
    "run_artifacts",
    "weights",
]
