"""Special-token rules: do rows begin with the BOS that the model knows, and is padding a token it has?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftcheck import (
    Finding,
    Job,
    Location,
    Measurement,
    ModelConfig,
    Prepared,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.extension.rules import Yield

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = ("<unk>", "[UNK]", "<|unk|>")
"""How tokenizers write the token for what they do not know."""


@rule("special-tokens", family="tokens", cases="ftcheck_rules.tokens.cases.special_tokens")
def special_tokens(job: Job, tokenizer: Tokenizer, prepared: Prepared, model: ModelConfig) -> Iterator[Yield]:
    """Rows begin with one BOS where the model expects one, and the padding token is one that the model has.

    With two BOS, or none, training goes well and every request looks unlike the rows: scores are lower, and
    nobody sees why. A padding token past the embedding table ends the run at the first batch.

    Counts BOS at the start of rows. None is asked of them where the tokenizer itself does not begin a text
    with one (Qwen). Padding is compared with vocab_size, or with model.resize_embeddings_to. That padding
    is EOS is no fault here: see `collator`. No parameters.
    """
    import numpy as np

    good = np.ones(len(prepared), dtype=bool)
    good[list(prepared.row_errors)] = False
    if not good.any():
        yield Skip("no row could be prepared")
        return
    double = good & (prepared.bos > 1)
    missing = _without_bos(tokenizer, prepared, good)
    yield Measurement("rows_with_two_bos", int(double.sum()), unit="rows", limit="0")
    yield Measurement("rows_without_bos", int(missing.sum()), unit="rows", limit="0")
    yield from _double(tokenizer, prepared, double)
    yield from _missing(job, tokenizer, prepared, missing)
    yield from _padding(job, tokenizer, model)
    yield Summary(f"{_begin(tokenizer, prepared, good)}, padding is {_pad_name(job, tokenizer)}")


def _without_bos(tokenizer: Tokenizer, prepared: Prepared, good: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
    """Rendered conversations without BOS, where the tokenizer begins any other text with one."""
    bos = tokenizer.bos_token_id
    asks = bos is not None and tokenizer.encode("x", special=True)[:1] == [bos]
    conversational = prepared.rows.turns > 0
    found: NDArray[np.bool_] = good & conversational & (prepared.bos == 0) & asks
    return found


def _begin(tokenizer: Tokenizer, prepared: Prepared, good: "NDArray[np.bool_]") -> str:
    if tokenizer.bos_token_id is None:
        return "the tokenizer has no BOS"
    with_one = int((good & (prepared.bos > 0)).sum())
    if not with_one and tokenizer.encode("x", special=True)[:1] != [tokenizer.bos_token_id]:
        return "no BOS: neither the rows nor the tokenizer's own texts begin with one"
    return f"{with_one:,} of {int(good.sum()):,} rows begin with {tokenizer.show([tokenizer.bos_token_id])}"


def _double(tokenizer: Tokenizer, prepared: Prepared, double: "NDArray[np.bool_]") -> Iterator[Finding]:
    if not double.any() or tokenizer.bos_token_id is None:
        return
    name = tokenizer.show([tokenizer.bos_token_id])
    yield Finding(
        f"{int(double.sum()):,} of {len(prepared):,} rows begin with two {name}:"
        " one stands in the text, the tokenizer adds the other",
        at=prepared.at(int(double.argmax())),
        fix=f"take {name} out of the rows' text; in evaluation and serving too",
    )


def _missing(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, missing: "NDArray[np.bool_]"
) -> Iterator[Finding]:
    if not missing.any() or tokenizer.bos_token_id is None:
        return
    name = tokenizer.show([tokenizer.bos_token_id])
    yield Finding(
        f"{int(missing.sum()):,} of {len(prepared):,} rows begin without {name}, with which the tokenizer"
        " begins every other text: the template does not write it",
        Severity.WARNING,
        at=job.at("model.chat_template"),
        fix="begin the template with {{ bos_token }}; or, if the model was trained without, let the tokenizer"
        " add none (add_bos_token: false)",
    )


def _pad(job: Job, tokenizer: Tokenizer) -> int | None:
    """The padding token as training has it: training.pad_token, the tokenizer's own, else None (EOS)."""
    stated = job.training.extra.get("pad_token")
    found = tokenizer.encode(stated) if isinstance(stated, str) else []
    return found[0] if len(found) == 1 else tokenizer.pad_token_id


def _pad_name(job: Job, tokenizer: Tokenizer) -> str:
    pad = _pad(job, tokenizer)
    if pad is not None:
        return tokenizer.show([pad])
    return "not set (TRL takes EOS)" if job.trainer.collator == "trl" else "not set"


def _padding(job: Job, tokenizer: Tokenizer, model: ModelConfig) -> Iterator[Finding | Measurement]:
    pad, rows = _pad(job, tokenizer), _rows(job, model)
    yield Measurement("pad_token", _pad_name(job, tokenizer))
    yield Measurement("pad_token_id", pad, limit=f"< {rows}" if rows is not None else None)
    if pad is None:
        return
    name = tokenizer.show([pad])
    own = pad == model.config.get("pad_token_id")
    if rows is not None and pad >= rows:
        yield Finding(
            f"padding is {name} with id {pad:,}, and the model has {rows:,} embedding rows",
            at=_place(job),
            fix="take a token that the model has (its EOS, or a reserved one) as pad_token, or say in"
            " model.resize_embeddings_to that the table grows",
        )
    elif pad == tokenizer.bos_token_id and pad != tokenizer.eos_token_id and not own:
        yield _odd(job, name, "the token that begins every row", Severity.WARNING)
    elif name in UNKNOWN and not own:
        yield _odd(job, name, "the token for unknown text", Severity.INFO)


def _odd(job: Job, name: str, what: str, severity: Severity) -> Finding:
    return Finding(
        f"padding is {name}, {what}: code that masks padding by its id masks that token as well",
        severity,
        at=_place(job),
        fix="take a reserved token, or EOS with a collator that masks by position (TRL's), as pad_token",
    )


def _place(job: Job) -> Location:
    if "pad_token" in job.training.extra:
        return job.at("training.pad_token")
    return job.at("model.tokenizer" if job.model.tokenizer else "model.name")


def _rows(job: Job, model: ModelConfig) -> int | None:
    """Rows of the embedding table in training."""
    stated = job.model.resize_embeddings_to
    return model.shape.vocabulary if stated is None else stated
