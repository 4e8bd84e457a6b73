"""Vocabulary rules: does every token id have a row in the embedding table, and is that row trained?"""

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
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, NotOfRows
from ftcheck.settings import Lora

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 64
"""Proposed table sizes are multiples of this."""
MOST = 4_096
"""The most rows of a table that are read."""


@rule("vocabulary", family="tokens", cases="ftcheck_rules.tokens.cases.vocabulary")
def vocabulary(
    job: Job, model: ModelConfig, weights: Weights | None, tokenizer: Tokenizer, prepared: Prepared
) -> Iterator[Yield]:
    """Every token id that training or generation uses has a row in the embedding table.

    An id beyond the table ends the run with an index error, on a GPU with a device-side assert that names
    nothing. A table that is resized in training does not fit the server's base model: the adapter cannot be
    loaded.

    The rows of the table are read from the safetensors header, else from config.json. A table with more rows
    than the tokenizer has tokens is normal; shrinking it is the mistake. No parameters.
    """
    base = tables_of(model, None, weights).rows
    if base is None:
        yield Skip("config.json has no vocab_size, and the weights are not on this machine")
        return
    size = job.model.resize_embeddings_to
    rows = base if size is None else max(size, base)
    used = prepared.tokens.used_ids()
    most = int(used[-1]) if len(used) else None
    yield Measurement("max_id", most, limit=f"< {rows}", statistic=AtLeast() if len(used) else None)
    yield Measurement("rows", rows, statistic=NotOfRows())
    yield Measurement("tokenizer_size", tokenizer.size, statistic=NotOfRows())
    table = f"embedding table of {counted(rows, 'row')}"
    yield Summary(f"largest id {int(used[-1]):,}, {table}" if len(used) else table)
    if size is not None and size != base:
        yield from _resized(job, base, size)
    yield from _beyond(job, prepared, used, rows)
    yield from _stops(job, tokenizer, rows)


def _resized(job: Job, base: int, size: int) -> Iterator[Finding]:
    """A table that was made smaller, or larger than the server's."""
    place, key = job.at("model.resize_embeddings_to"), f"jobs.{job.name}.model.resize_embeddings_to"
    if size < base:
        message = (
            f"resize_embeddings_to {size:,} removes {counted(base - size, 'row')} from a table of {base:,}"
        )
        why = (
            "More rows than tokens are normal; no server can load the adapter beside a table of another size."
        )
        fix = "remove resize_embeddings_to"
        change = Change(key, size, None, safe=False)
        yield Finding(message, at=place, fix=fix, change=change, why=why)
    elif job.serving.adapter == "separate":
        message = (
            f"resize_embeddings_to grows the table from {base:,} to {size:,} rows, and it is saved with the"
            f" adapter; the server's base has {base:,} rows"
        )
        change = Change(f"jobs.{job.name}.serving.adapter", "separate", "merged", safe=False)
        fix = "serve the merged model, save the resized base beside the adapter, or do not resize"
        why = "The server cannot load the adapter: it stops with a size mismatch."
        yield Finding(message, at=place, fix=fix, change=change, why=why)


def _beyond(job: Job, prepared: Prepared, used: "NDArray[np.int64]", rows: int) -> Iterator[Finding]:
    """Ids that the table has no row for, at the first data row that has one."""
    ids = [int(one) for one in used[used >= rows]]
    found = [int(row) for row in prepared.tokens.rows_with(ids) if prepared.used[row]] if ids else []
    if not found:
        return
    more = f" and {counted(len(ids) - 1, 'other id')}" if len(ids) > 1 else ""
    message = (
        f"token id {ids[0]}{more} in {counted(len(found), 'row')} {agreeing(len(ids), 'lies', 'lie')} beyond"
        f" the embedding table, which has {counted(rows, 'row')}"
    )
    new = -(-(ids[-1] + 1) // STEP) * STEP
    key = f"jobs.{job.name}.model.resize_embeddings_to"
    yield Finding(
        message,
        at=prepared.at(found[0]),
        fix=f"set model.resize_embeddings_to: {new}, or use a tokenizer without added tokens",
        change=Change(key, job.model.resize_embeddings_to, new, safe=False),
    )


def _stops(job: Job, tokenizer: Tokenizer, rows: int) -> Iterator[Finding]:
    """BOS, EOS and stop tokens without a row: the model can neither read nor write them."""
    named = {"BOS": tokenizer.bos_token_id, "EOS": tokenizer.eos_token_id}
    wanted = {one: name for name, one in named.items() if one is not None}
    wanted.update({one: "a stop token" for one in sorted(tokenizer.stop_ids) if one not in wanted})
    for one, name in wanted.items():
        if one >= rows:
            message = f"{name} is {tokenizer.show([one])} with id {one:,},"
            message += f" but the embedding table has {rows:,} rows"
            yield Finding(message, at=job.at("model.name"), fix="use the tokenizer of this model")
    if tokenizer.size > rows:
        message = f"the tokenizer has {tokenizer.size:,} tokens, the embedding table has {rows:,} rows"
        yield Finding(message, Severity.INFO, at=job.at("model.name"))


@dataclass(frozen=True)
class AddedTokens:
    """Parameters of `added-tokens`."""

    zero: float = 1e-6
    """A row counts as untrained if its norm is not above this."""


@dataclass(frozen=True)
class Tables:
    """Names of the input embedding and the output layer, whether they are tied, and the base's rows."""

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
    """Every token of the rows has an embedding that was trained with the base model, or is trained here.

    The embeddings of new tokens are random, those of reserved tokens are often zero, and LoRA does not change
    the table: the model reads noise at the token and never learns to write it, so it does not stop.

    New tokens are ids beyond the base's table, for which model.resize_embeddings_to makes room. Of the base's
    table, only the rows of special tokens in use and of stop tokens are read, and checked for being zero or
    equal to one another. Parameter: zero (default 1e-6), the largest norm of a row that counts as zero.
    """
    lora = job.training.lora
    if lora is None:
        yield Skip("all weights are trained, including the embedding table")
        return
    known = tables_of(model, modules, weights)
    used = prepared.tokens.used_ids()
    new = _new_ids(job, known, used)
    looked = _special(known, weights, tokenizer, used)
    if not new and not looked:
        yield Skip("the rows contain no new token, and the weights are not on this machine")
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
    special = counted(len(looked), "special token")
    yield Summary(f"{counted(len(new), 'new token')} · embeddings of {special} checked")
    if untrained or silent:
        yield _not_trained(job, known, tokenizer, untrained, silent)
    if dead:
        yield _never_trained(job, known, tokenizer, dead)


def tables_of(model: ModelConfig, modules: Modules | None, weights: Weights | None) -> Tables:
    """What is known of the base's embedding table and output layer; files go before config.json."""
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
    where = f"the {len(ids):,} new tokens of the rows" if len(ids) > 1 else "the new token of the rows"
    part = agreeing(len(ids), "a random embedding", "random embeddings")
    if not untrained:
        part = agreeing(len(ids), "a random row", "random rows") + " in the output layer"
    message = f"{where}, {_tokens(tokenizer, ids)}, will keep {part}: LoRA does not train the table"
    fix, change = _remedy(job, known, ids)
    return Finding(message, at=job.at("training.lora"), fix=fix, change=change)


def _never_trained(job: Job, known: Tables, tokenizer: Tokenizer, dead: Mapping[int, str]) -> Finding:
    ids = sorted(dead)
    zero, equal = ([one for one in ids if dead[one] == why] for why in ("zero", "equal"))
    parts = [f"all zero for {_tokens(tokenizer, zero)}"] if zero else []
    parts += [f"identical for {_tokens(tokenizer, equal)}"] if equal else []
    message = f"the base model never trained {counted(len(ids), 'special token')} that the rows use:"
    message += f" the embedding is {' and '.join(parts)}"
    fix, change = _remedy(job, known, ids)
    why = "The model reads noise where such a token stands: the loss is NaN, or the model never stops."
    return Finding(message, at=job.at("model.name"), fix=fix, change=change, why=why)


def _remedy(job: Job, known: Tables, ids: Sequence[int]) -> tuple[str, Change]:
    """Train these rows and those trained already; in both tables where there are two."""
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
    """Special tokens by name and id, others by id alone."""
    shown = [
        f"{tokenizer.show([one])} ({one})" if one in tokenizer.special_ids else str(one) for one in ids[:most]
    ]
    return ", ".join(shown) + (f" and {len(ids) - most} more" if len(ids) > most else "")
