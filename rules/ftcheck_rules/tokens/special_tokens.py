"""Special-token rules: do rows start with the BOS that the model expects, and is the padding token valid?"""

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
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import Count, NotOfRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = ("<unk>", "[UNK]", "<|unk|>")
"""Names of the token for unknown text."""


@rule("special-tokens", family="tokens", cases="ftcheck_rules.tokens.cases.special_tokens")
def special_tokens(job: Job, tokenizer: Tokenizer, prepared: Prepared, model: ModelConfig) -> Iterator[Yield]:
    """Rows start with one BOS where the model expects one, and the padding token is one that the model has.

    With two BOS tokens, or none, training looks normal, but every request differs from the training rows:
    scores drop without a visible cause. A padding token beyond the embedding table ends the run at the first
    batch.

    Counts BOS tokens at the start of rows as they are fed: truncation_mode: keep_end cuts their beginning.
    Rows need none where the tokenizer itself starts no text with one (Qwen). Padding is compared with
    vocab_size, or with model.resize_embeddings_to. Padding with EOS is not an error here: see `collator`. No
    parameters.
    """
    import numpy as np

    good = np.ones(len(prepared), dtype=bool)
    good[list(prepared.row_errors)] = False
    if not good.any():
        yield Skip("no row could be prepared")
        return
    headless = good & prepared.headless(job.training)
    double = good & (prepared.bos > 1) & ~headless
    missing = _without_bos(tokenizer, prepared, good & ~headless)
    cut_off = int((headless & (prepared.bos > 0)).sum())
    for name, found in (
        ("rows_with_two_bos", int(double.sum())),
        ("rows_without_bos", int(missing.sum()) + cut_off),
    ):
        yield Measurement(name, found, unit="rows", limit="0", statistic=Count())
    yield from _double(tokenizer, prepared, double)
    yield from _missing(job, tokenizer, prepared, missing)
    yield from _beheaded(job, tokenizer, prepared, headless)
    yield from _padding(job, tokenizer, model)
    yield Summary(
        f"{_begin(tokenizer, prepared, good, headless)} · padding token {_pad_name(job, tokenizer)}"
    )


def _without_bos(tokenizer: Tokenizer, prepared: Prepared, good: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
    """Rendered conversations without BOS, where the tokenizer starts any other text with one.

    Rows that were read prepared count as such: nobody tokenised them as plain text here.
    """
    bos = tokenizer.bos_token_id
    asks = bos is not None and tokenizer.encode("x", special=True)[:1] == [bos]
    conversational = (prepared.rows.turns > 0) | (prepared.rows.textless is not None)
    found: NDArray[np.bool_] = good & conversational & (prepared.bos == 0) & asks
    return found


def _beheaded(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, headless: "NDArray[np.bool_]"
) -> Iterator[Finding]:
    """Rows that lose their beginning: BOS, where there is one, and a conversation's system prompt."""
    rows = headless & ((prepared.bos > 0) | (prepared.rows.system >= 0))
    count = int(rows.sum())
    if not count:
        return
    lost = []
    if (headless & (prepared.bos > 0)).any() and tokenizer.bos_token_id is not None:
        lost.append(f"{tokenizer.show([tokenizer.bos_token_id])}")
    if (headless & (prepared.rows.system >= 0)).any():
        lost.append("the system prompt")
    key = "truncation_mode" if job.training.truncation_mode == "keep_end" else "max_length"
    yield Finding(
        f"{count:,} of {counted(len(prepared), 'row')} {agreeing(count, 'is', 'are')} fed without"
        f" {agreeing(count, 'its', 'their')} beginning ({' and '.join(lost)}): {key} cuts it off",
        Severity.WARNING,
        at=job.at(f"training.{key}"),
        fix="raise max_length, set truncation_mode: keep_start, or drop the longest rows (data.outliers)",
        why="No request begins in the middle of a row: the model is asked differently than it was trained.",
    )


def _begin(
    tokenizer: Tokenizer, prepared: Prepared, good: "NDArray[np.bool_]", headless: "NDArray[np.bool_]"
) -> str:
    if tokenizer.bos_token_id is None:
        return "the tokenizer has no BOS"
    with_one = int((good & (prepared.bos > 0) & ~headless).sum())
    if (
        not with_one
        and not headless.any()
        and tokenizer.encode("x", special=True)[:1] != [tokenizer.bos_token_id]
    ):
        return "no BOS expected: the tokenizer adds none"
    total = int(good.sum())
    start = agreeing(total, "starts", "start")
    bos = tokenizer.show([tokenizer.bos_token_id])
    return f"{with_one:,} of {counted(total, 'row')} {start} with {bos}"


def _double(tokenizer: Tokenizer, prepared: Prepared, double: "NDArray[np.bool_]") -> Iterator[Finding]:
    if not double.any() or tokenizer.bos_token_id is None:
        return
    name, row = tokenizer.show([tokenizer.bos_token_id]), int(double.argmax())
    count, many = int(double.sum()), int(prepared.bos[double].max())
    sources, fix = _sources(tokenizer, prepared, row, name)
    tokens = f"two {name} tokens" if many == 2 else f"up to {many} {name} tokens"
    yield Finding(
        f"{count:,} of {counted(len(prepared), 'row')} {agreeing(count, 'starts', 'start')} with {tokens}:"
        f" {sources}",
        at=prepared.at(row),
        fix=f"{fix}; in evaluation and serving too",
        why="Served requests start with one BOS, so the model is asked differently than it was trained.",
    )


def _sources(tokenizer: Tokenizer, prepared: Prepared, row: int, name: str) -> tuple[str, str]:
    """Where the BOS tokens of a row come from, in words, and what to remove."""
    if prepared.rows.textless is not None:
        fix = "tokenise rendered text with add_special_tokens=False, and prepare the rows again"
        return "its template writes one, and its tokenizer adds another", fix
    in_text = row in prepared.rows.marks.get(name, ())
    rendered = bool(prepared.rows.turns[row] > 0)
    begins = tokenizer.encode("x", special=True)
    added = next((n for n, one in enumerate(begins) if one != tokenizer.bos_token_id), 0)
    if in_text:
        other = "the template writes the other" if rendered else "the tokenizer adds the other"
        return f"one is in the text, {other}", f"remove {name} from the text of the rows"
    if rendered:
        return "the text has none, the template writes them", f"let the template write {name} once"
    if added > 1:
        return f"the text has none, the tokenizer adds {added}", "let the tokenizer's post-processor add one"
    return "one is in the text, the tokenizer adds the other", f"remove {name} from the text of the rows"


def _missing(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, missing: "NDArray[np.bool_]"
) -> Iterator[Finding]:
    if not missing.any() or tokenizer.bos_token_id is None:
        return
    name = tokenizer.show([tokenizer.bos_token_id])
    count = int(missing.sum())
    stored = prepared.rows.textless is not None
    by = "they were prepared without it" if stored else "the template does not write it"
    yield Finding(
        f"{count:,} of {counted(len(prepared), 'row')} {agreeing(count, 'does', 'do')} not start with {name},"
        f" which the tokenizer adds to every other text: {by}",
        Severity.WARNING,
        at=job.at("data.prepared" if stored else "model.chat_template"),
        fix="start the template with {{ bos_token }}; or, if the model was trained without BOS, set"
        " add_bos_token: false in tokenizer_config.json",
        why="A model that was pretrained with BOS scores far worse without it.",
    )


def _pad(job: Job, tokenizer: Tokenizer) -> int | None:
    """The padding token in training: training.pad_token, else the tokenizer's own, else None (EOS)."""
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
    yield Measurement("pad_token", _pad_name(job, tokenizer), statistic=NotOfRows())
    limit = f"< {rows}" if rows is not None else None
    yield Measurement("pad_token_id", pad, limit=limit, statistic=NotOfRows())
    if pad is None:
        return
    name = tokenizer.show([pad])
    own = pad == model.config.get("pad_token_id")
    if rows is not None and pad >= rows:
        yield Finding(
            f"the padding token {name} has id {pad:,}, but the embedding table has {rows:,} rows",
            at=_place(job),
            fix="set pad_token to a token that the model has (EOS, or a reserved token), or set"
            " model.resize_embeddings_to",
            why="The first padded batch ends with an index error, on a GPU with a device-side assert.",
        )
    elif pad == tokenizer.bos_token_id and pad != tokenizer.eos_token_id and not own:
        yield _odd(job, name, "the BOS token of every row", Severity.WARNING)
    elif name in UNKNOWN and not own:
        yield _odd(job, name, "the token for unknown text", Severity.INFO)


def _odd(job: Job, name: str, what: str, severity: Severity) -> Finding:
    return Finding(
        f"the padding token is {name}, {what}: code that masks padding by its id masks that token too",
        severity,
        at=_place(job),
        fix="set pad_token to a reserved token, or to EOS with a collator that masks by position (TRL's)",
    )


def _place(job: Job) -> Location:
    if "pad_token" in job.training.extra:
        return job.at("training.pad_token")
    return job.at("model.tokenizer" if job.model.tokenizer else "model.name")


def _rows(job: Job, model: ModelConfig) -> int | None:
    """Rows of the embedding table in training."""
    stated = job.model.resize_embeddings_to
    return model.shape.vocabulary if stated is None else stated
