"""Vocabulary rules: has every token id a row in the embedding table, and is that row trained?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck import (
    Change,
    Finding,
    Job,
    Measurement,
    ModelConfig,
    Prepared,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.estimate import lora_targets
from ftcheck.extension.rules import Yield
from ftcheck.inputs.modules import Modules
from ftcheck.inputs.weights import Tensor, Weights
from ftcheck.settings import Lora

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 64
"""Proposed tables have a multiple of so many rows."""
MOST = 4_096
"""Rows of a table that are read at most."""


@rule("vocabulary", family="tokens", cases="ftcheck_rules.tokens.cases.vocabulary")
def vocabulary(
    job: Job, model: ModelConfig, weights: Weights | None, tokenizer: Tokenizer, prepared: Prepared
) -> Iterator[Yield]:
    """Every token id that training or generation uses has a row in the embedding table.

    An id beyond the table ends the run with an index error, on a GPU with a device-side assert that names
    nothing. A table that is resized in training does not fit the base that a server has: the adapter
    cannot be loaded.

    Rows of the table are read from the safetensors header, else from config.json. A table with more rows
    than the tokenizer has tokens is normal, and making it smaller is the mistake. No parameters.
    """
    base = tables_of(model, None, weights).rows
    if base is None:
        yield Skip("config.json names no vocab_size, and there are no weights on this machine")
        return
    size = job.model.resize_embeddings_to
    rows = base if size is None else max(size, base)
    used = prepared.tokens.used_ids()
    yield Measurement("max_id", int(used[-1]) if len(used) else None, limit=f"< {rows}")
    yield Measurement("rows", rows)
    yield Measurement("tokenizer_size", tokenizer.size)
    yield Summary(f"largest id {int(used[-1]):,}, table {rows:,}" if len(used) else f"table {rows:,}")
    if size is not None and size != base:
        yield from _resized(job, base, size)
    yield from _beyond(job, prepared, used, rows)
    yield from _stops(job, tokenizer, rows)


def _resized(job: Job, base: int, size: int) -> Iterator[Finding]:
    """A table that was made smaller, or larger than the server's."""
    place, key = job.at("model.resize_embeddings_to"), f"jobs.{job.name}.model.resize_embeddings_to"
    if size < base:
        message = f"resize_embeddings_to {size:,} takes {base - size:,} rows away from a table of {base:,}:"
        message += " more rows than tokens are normal, and no server will load the adapter beside its base"
        yield Finding(message, at=place, fix="take it out", change=Change(key, size, None, safe=False))
    elif job.serving.adapter == "separate":
        message = (
            f"the table grows from {base:,} to {size:,} rows and is saved with the adapter; the server's"
        )
        message += f" base has {base:,}, and loading stops with a size mismatch"
        change = Change(f"jobs.{job.name}.serving.adapter", "separate", "merged", safe=False)
        fix = "serve the merged model, save the resized base beside the adapter, or do not resize"
        yield Finding(message, at=place, fix=fix, change=change)


def _beyond(job: Job, prepared: Prepared, used: "NDArray[np.int64]", rows: int) -> Iterator[Finding]:
    """Ids of rows that the table has no row for, at the first row that has one."""
    ids = [int(one) for one in used[used >= rows]]
    found = [int(row) for row in prepared.tokens.rows_with(ids) if prepared.used[row]] if ids else []
    if not found:
        return
    more = f" and {len(ids) - 1} more ids" if len(ids) > 1 else ""
    message = f"token id {ids[0]}{more} in {counted(len(found))}, and the embedding table has {rows:,} rows"
    new = -(-(ids[-1] + 1) // STEP) * STEP
    key = f"jobs.{job.name}.model.resize_embeddings_to"
    yield Finding(
        message,
        at=prepared.at(found[0]),
        fix=f"model.resize_embeddings_to: {new}, or a tokenizer without added tokens",
        change=Change(key, job.model.resize_embeddings_to, new, safe=False),
    )


def counted(rows: int) -> str:
    """So many rows, in words."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _stops(job: Job, tokenizer: Tokenizer, rows: int) -> Iterator[Finding]:
    """BOS, EOS and stop tokens without a row: the model can neither read nor write them."""
    named = {"BOS": tokenizer.bos_token_id, "EOS": tokenizer.eos_token_id}
    wanted = {one: name for name, one in named.items() if one is not None}
    wanted.update({one: "a stop token" for one in sorted(tokenizer.stop_ids) if one not in wanted})
    for one, name in wanted.items():
        if one >= rows:
            message = (
                f"{name} is {tokenizer.show([one])}, id {one}, and the embedding table has {rows:,} rows"
            )
            yield Finding(message, at=job.at("model.name"), fix="take the tokenizer of this model")
    if tokenizer.size > rows:
        message = f"the tokenizer has {tokenizer.size:,} tokens, the embedding table {rows:,} rows"
        yield Finding(message, Severity.INFO, at=job.at("model.name"))


@dataclass(frozen=True)
class AddedTokens:
    """Parameters of `added-tokens`."""

    zero: float = 1e-6
    """A row whose norm is not above this was never trained."""


@dataclass(frozen=True)
class Tables:
    """The names of the input embedding and the output layer, whether they are one, and rows of the base."""

    embedding: str
    head: str
    tied: bool
    rows: int | None


@rule("added-tokens", family="tokens", cases="ftcheck_rules.tokens.cases.vocabulary")
def added_tokens(
    job: Job,
    model: ModelConfig,
    modules: Modules | None,
    weights: Weights | None,
    tokenizer: Tokenizer,
    prepared: Prepared,
    params: AddedTokens,
) -> Iterator[Yield]:
    """Every token of the rows has an embedding that the base model trained, or that is trained here.

    The rows of new tokens are random, those of reserved ones are often zero, and LoRA leaves the table as
    it is: the model reads noise where the token stands, and never learns to write it, so it does not stop.

    New tokens are ids beyond the base's table, which model.resize_embeddings_to makes room for. Of the
    base's table only the rows of special tokens that are used, and of stop tokens, are read: are they zero,
    or equal to one another? Parameter: zero (default 1e-6), the largest norm of a row that counts as zero.
    """
    lora = job.training.lora
    if lora is None:
        yield Skip("all weights are trained, the embedding table among them")
        return
    known = tables_of(model, modules, weights)
    used = prepared.tokens.used_ids()
    new = _new_ids(job, known, used)
    looked = _special(known, weights, tokenizer, used)
    if not new and not looked:
        yield Skip("no new token in the rows, and no weights on this machine to look at special tokens in")
        return
    yield Measurement("new_tokens", len(new), unit="tokens")
    untrained = [one for one in new if not _trained(lora, known, one, head=False)]
    in_loss = set(prepared.tokens.used_ids(trained=True).tolist())
    silent = [
        one
        for one in new
        if one in in_loss and one not in untrained and not _trained(lora, known, one, head=True)
    ]
    dead = _dead(weights, looked, params.zero) if weights is not None else {}
    dead = {one: why for one, why in dead.items() if not _trained(lora, known, one, head=False)}
    yield Measurement("new_tokens_untrained", len(untrained) + len(silent), unit="tokens", limit="0")
    yield Measurement("special_tokens_read", len(looked), unit="tokens")
    yield Measurement("special_tokens_untrained", len(dead), unit="tokens", limit="0")
    yield Summary(f"{len(new)} new tokens, {len(looked)} special ones read")
    if untrained or silent:
        yield _not_trained(job, known, tokenizer, untrained, silent)
    if dead:
        yield _never_trained(job, known, tokenizer, dead)


def tables_of(model: ModelConfig, modules: Modules | None, weights: Weights | None) -> Tables:
    """What is known of the base's embedding table and output layer: files before config.json."""
    stored = weights.embedding if weights is not None else None
    rows = stored.shape[0] if stored is not None else model.shape.vocabulary
    if modules is not None and modules.embedding is not None:
        return Tables(modules.embedding, modules.head or "lm_head", modules.tied, rows)
    name = stored.name.removesuffix(".weight") if stored is not None else "embed_tokens"
    return Tables(name, "lm_head", model.shape.tied, rows)


def _new_ids(job: Job, known: Tables, used: "NDArray[np.int64]") -> list[int]:
    """Ids of the rows that only a resized table has."""
    size = job.model.resize_embeddings_to
    if size is None or known.rows is None:
        return []
    return [int(one) for one in used[(used >= known.rows) & (used < size)]]


def _special(
    known: Tables, weights: Weights | None, tokenizer: Tokenizer, used: "NDArray[np.int64]"
) -> list[int]:
    """Special tokens that the rows use, and stop tokens, as far as the base has rows that can be read."""
    table = weights.embedding if weights is not None else None
    if weights is None or table is None or weights.rows(table, []) is None:
        return []
    wanted = (tokenizer.special_ids & set(used.tolist())) | tokenizer.stop_ids
    return sorted(one for one in wanted if 0 <= one < table.shape[0])[:MOST]


def _trained(lora: Lora, known: Tables, token: int, *, head: bool) -> bool:
    """Whether the row of a token is trained here: in the embedding, or in the output layer."""
    sides = (known.embedding, known.head) if known.tied else (known.head if head else known.embedding,)
    for name in sides:
        if lora_targets.trained_whole(lora, name) or lora_targets.adapted(lora, name):
            return True
    rows = lora_targets.token_indices(lora, known.embedding)
    return any(
        f".{side}".endswith(f".{name}") and token in ids for name, ids in rows.items() for side in sides
    )


def _dead(weights: Weights, ids: Sequence[int], zero: float) -> dict[int, str]:
    """Rows of the input embedding that were never trained, with the reason."""
    found: dict[int, str] = {}
    table = weights.embedding
    rows = weights.rows(table, ids) if isinstance(table, Tensor) and ids else None
    if rows is None:
        return found
    import numpy as np

    norms = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    _, group, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    for number, token in enumerate(ids):
        if not norms[number] > zero:
            found[token] = "zero"
        elif counts[group.reshape(-1)[number]] > 1:
            found[token] = "equal"
    return found


def _not_trained(
    job: Job, known: Tables, tokenizer: Tokenizer, untrained: Sequence[int], silent: Sequence[int]
) -> Finding:
    ids = sorted({*untrained, *silent})
    where = f"the {len(ids)} new tokens of the rows" if len(ids) > 1 else "the new token of the rows"
    part = "embeddings" if untrained else "rows in the output layer"
    message = f"{where}, {_tokens(tokenizer, ids)}, will have random {part}: LoRA does not train the table"
    fix, change = _remedy(job, known, ids)
    return Finding(message, at=job.at("training.lora"), fix=fix, change=change)


def _never_trained(job: Job, known: Tables, tokenizer: Tokenizer, dead: Mapping[int, str]) -> Finding:
    ids = sorted(dead)
    zero, equal = ([one for one in ids if dead[one] == why] for why in ("zero", "equal"))
    parts = [f"all zero for {_tokens(tokenizer, zero)}"] if zero else []
    parts += [f"one and the same for {_tokens(tokenizer, equal)}"] if equal else []
    message = f"the base model never trained {len(ids)} of the special tokens that the rows use:"
    message += f" the embedding is {' and '.join(parts)}"
    fix, change = _remedy(job, known, ids)
    return Finding(message, at=job.at("model.name"), fix=fix, change=change)


def _remedy(job: Job, known: Tables, ids: Sequence[int]) -> tuple[str, Change]:
    """Train the rows: all that are trained already, and these; in both tables where there are two."""
    lora = job.training.lora or Lora()
    path = f"jobs.{job.name}.training.lora"
    sides = [known.embedding] if known.tied else [known.embedding, known.head]
    left = [name.rpartition(".")[2] for name in sides if not lora_targets.trained_whole(lora, name)]
    if lora.modules_to_save and len(left) < len(sides):
        saved = [*lora.modules_to_save, *left]
        change = Change(f"{path}.modules_to_save", list(lora.modules_to_save), saved, safe=False)
        return f"modules_to_save: {saved}", change
    now = lora_targets.token_indices(lora, left[0])
    rows = {name: sorted({*now.get(name, ()), *ids}) for name in {**now, **dict.fromkeys(left)}}
    new: object = rows[left[0]] if list(rows) == left[:1] else rows
    old = lora.extra.get("trainable_token_indices")
    shown = str(new) if len(ids) <= 8 else f"these {len(ids)} ids"
    return f"trainable_token_indices: {shown}", Change(
        f"{path}.trainable_token_indices", old, new, safe=False
    )


def _tokens(tokenizer: Tokenizer, ids: Sequence[int], most: int = 4) -> str:
    """Special tokens by name, others by id alone."""
    shown = [
        f"{tokenizer.show([one])} ({one})" if one in tokenizer.special_ids else str(one) for one in ids[:most]
    ]
    return ", ".join(shown) + (f" and {len(ids) - most} more" if len(ids) > most else "")
