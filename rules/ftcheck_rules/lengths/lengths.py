"""Length rules: does every row fit the length it is trained in, and the window the model has?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    rule,
    tables,
)
from ftcheck.extension.rules import Yield
from ftcheck.packing.lengths import Histogram
from ftcheck.packing.padding import expected_padding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

USUAL = (50, 90, 95, 99)
STEP = 64
"""Proposed lengths are multiples of this."""
TRL_DEFAULT = 1024
"""TRL's own max_length, where the policy sets none."""
FAR_BELOW = 0.5
"""A percentile below this share of max_length is worth a remark."""


@dataclass(frozen=True)
class PercentileSeqLen:
    """Parameters of `percentile-seq-len`."""

    percentile: float = 95.0
    """The nearest-rank percentile of the lengths that max_length must hold, above 0 and up to 100."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what is no percentile."""
        if not 0 < self.percentile <= 100:
            raise ValueError("percentile must lie above 0 and not above 100")


def before_truncation(prepared: Prepared) -> "NDArray[np.int64]":
    """Tokens of every sequence before truncation: with the rows that truncation alone kept from being fed."""
    import numpy as np

    return np.concatenate([prepared.lengths(), prepared.length[cut_to_nothing(prepared)].astype(np.int64)])


def cut_to_nothing(prepared: Prepared) -> "NDArray[np.bool_]":
    """Rows that are not fed because truncation left nothing in the loss (outliers are not among them)."""
    cut: NDArray[np.bool_] = ~prepared.used & (prepared.trained_lost > 0) & ~prepared.outlier
    cut[list(prepared.row_errors)] = False
    return cut


def rounded_up(length: int) -> int:
    """The next multiple of `STEP`."""
    return -(-length // STEP) * STEP


@rule("percentile-seq-len", family="lengths", cases="ftcheck_rules.lengths.cases.lengths")
def percentile_seq_len(job: Job, prepared: Prepared, params: PercentileSeqLen) -> Iterator[Yield]:
    """Nearly all rows fit into max_length, and max_length lies where the targets want it.

    Trainers cut longer rows without a word: what is lost is the end, the answer and its stop token.
    TRL's own default is 1,024 tokens, whatever the data.

    Measured in tokens a row, before truncation and after the policy's outliers, nearest-rank, on exact
    counts; `engine` names what made the token ids. Parameter: percentile (default 95).
    """
    lengths = before_truncation(prepared)
    if not len(lengths):
        yield Skip("there is no row to measure")
        return
    counts = Histogram.of(lengths)
    limit, value = job.training.max_length, counts.percentile(params.percentile)
    yield from _measured(counts, params.percentile, limit)
    yield Measurement("engine", prepared.engine)
    yield Summary(_in_words(counts, params.percentile, limit))
    if limit is not None and value > limit:
        yield _too_long(job, counts, params.percentile, value, limit)
    if job.targets.max_length is not None:
        yield from _off_target(job, value, job.targets.max_length)
    if limit is not None and value < FAR_BELOW * limit and not job.training.packing:
        yield _room(job, lengths, params.percentile, value, limit)


def _measured(counts: Histogram, percentile: float, limit: int | None) -> Iterator[Measurement]:
    yield Measurement("rows", counts.sequences, unit="rows")
    yield Measurement("tokens", counts.tokens, unit="tokens")
    for one in sorted({*map(float, USUAL), percentile}):
        bound = f"<= {limit}" if one == percentile and limit is not None else None
        yield Measurement(f"p{one:g}", counts.percentile(one), unit="tokens", limit=bound)
    yield Measurement("max", counts.longest, unit="tokens")


def _in_words(counts: Histogram, percentile: float, limit: int | None) -> str:
    shown = " · ".join(f"p{one:g} {counts.percentile(one):,}" for one in sorted({percentile, 99.0}))
    return f"{shown} · max {counts.longest:,} tokens (max_length {limit})"


def _too_long(job: Job, counts: Histogram, percentile: float, value: int, limit: int) -> Finding:
    bound = f"max_length {limit}" if _stated(job) else f"TRL's default max_length {limit:,} (none is set)"
    return Finding(
        f"p{percentile:g} is {value:,} tokens, {bound}:"
        f" {counts.above(limit):,} of {counts.sequences:,} rows are longer and will be cut",
        at=job.at("training.max_length"),
        fix=_remedy(job, value),
        change=_change(job, value),
    )


def _stated(job: Job) -> bool:
    """Whether the policy sets max_length, or at least another than TRL's own."""
    return "training.max_length" in job.places or job.training.max_length != TRL_DEFAULT


def _off_target(job: Job, value: int, target: tuple[int, int]) -> Iterator[Finding]:
    low, high = target
    limit = job.training.max_length
    if limit is None or not low <= limit <= high:
        yield Finding(
            f"max_length {limit} lies outside targets.max_length, {low} to {high}"
            if limit is not None
            else f"max_length is null, so no row is cut; targets.max_length asks for {low} to {high}",
            at=job.at("training.max_length"),
            fix=_remedy(job, value),
            change=_change(job, value),
        )


def _proposed(job: Job, value: int) -> int | None:
    """The max_length nearest to the stated one that holds the percentile and meets the target, if any."""
    stated = job.training.max_length or 0
    wanted = stated if stated >= value else rounded_up(value)
    if job.targets.max_length is not None:
        low, high = job.targets.max_length
        wanted = min(max(wanted, low), high)
    return wanted if wanted >= value else None


def _change(job: Job, value: int) -> Change | None:
    new = _proposed(job, value)
    if new is None:
        return None
    return Change(f"jobs.{job.name}.training.max_length", job.training.max_length, new, safe=False)


def _remedy(job: Job, value: int) -> str:
    new = _proposed(job, value)
    if new is not None:
        return f"max_length: {job.training.max_length} -> {new}"
    return (
        f"no max_length in the targets' range holds {value:,} tokens: shorten the rows,"
        " say in data.outliers what becomes of the longest, or raise targets.max_length"
    )


def _room(job: Job, lengths: "NDArray[Any]", percentile: float, value: int, limit: int) -> Finding:
    """What a much larger max_length costs without packing: no computing, but memory to keep free."""
    fed = lengths.clip(max=limit)
    waste = expected_padding(job, fed)
    said = (
        f"p{percentile:g} is {value:,} tokens, far below max_length {limit}. Batches are padded to their"
        f" longest row, so a lower max_length saves no computing, only the memory {limit} tokens may need"
    )
    if waste >= 0.01:
        said += f"; about {100 * waste:.0f} % of what is computed is padding, which packing saves"
    fix = f"training.packing: true; or max_length: {rounded_up(int(fed.max()))}, which holds every row"
    return Finding(said, Severity.INFO, at=job.at("training.max_length"), fix=fix)


@rule("context-window", family="lengths", cases="ftcheck_rules.lengths.cases.lengths")
def context_window(job: Job, model: ModelConfig, prepared: Prepared) -> Iterator[Yield]:
    """Every row that is fed fits the model's context window, and the server's.

    Positions past the window were never trained: the loss looks fine, and the model rambles. A server
    with a smaller window refuses or cuts what the model was tuned on.

    Looks at max_position_embeddings, at serving.max_model_len and at the rows after truncation. A sliding
    window that is smaller than max_length is only noted, unless training.model_init_kwargs names an
    attention that is not known to keep to it (`tables/attention.json`). No parameters.
    """
    windows = {"the model's context": model.context, "serving.max_model_len": job.serving.max_model_len}
    known = {name: window for name, window in windows.items() if window is not None}
    fed = _positions(job, prepared)
    if not known or not len(fed):
        yield Skip("config.json names no max_position_embeddings" if not known else "no row is fed")
        return
    longest = int(fed.max())
    yield Measurement("context", model.context, unit="tokens")
    yield Measurement("longest", longest, unit="tokens", limit=f"<= {min(known.values())}")
    yield Measurement("rows_over", int((fed > min(known.values())).sum()), unit="rows", limit="0")
    yield Summary(f"longest row {longest:,} tokens, window {min(known.values()):,}")
    yield from _window(job, model, fed)
    yield from _server(job, model, fed)
    yield from _sliding(job, model, longest)


def _positions(job: Job, prepared: Prepared) -> "NDArray[Any]":
    """How many positions each sequence takes up; `wrapped` packing counts on through the whole block."""
    import numpy as np

    training = job.training
    if training.packing and training.packing_strategy == "wrapped" and training.max_length is not None:
        return np.full(min(len(prepared.sequences), 1), training.max_length)
    return prepared.fed(training.max_length)


def _window(job: Job, model: ModelConfig, fed: "NDArray[Any]") -> Iterator[Finding]:
    context, limit = model.context, job.training.max_length
    if context is None:
        return
    over, place = int((fed > context).sum()), job.at("training.max_length")
    change = Change(f"jobs.{job.name}.training.max_length", limit, context, safe=not over)
    fix = f"max_length: {limit} -> {context}, or a model with a larger window"
    if over:
        longest = int(fed.max())
        message = f"{over:,} of {len(fed):,} sequences are above the model's context of {context:,} tokens"
        message += f", the longest has {longest:,}"
        yield Finding(message, at=place, fix=fix, change=change)
    elif limit is not None and limit > context and not job.training.packing:
        message = f"max_length {limit} is above the model's context of {context:,}; no row is that long yet"
        yield Finding(message, Severity.WARNING, at=place, fix=fix, change=change)


def _server(job: Job, model: ModelConfig, fed: "NDArray[Any]") -> Iterator[Finding]:
    served, place = job.serving.max_model_len, job.at("serving.max_model_len")
    if served is None:
        return
    over = int((fed > served).sum())
    if over:
        longest = int(fed.max())
        message = (
            f"{over:,} of {len(fed):,} sequences are above the server's max_model_len of {served:,} tokens"
        )
        message += f", the longest has {longest:,}"
        yield Finding(message, at=place, fix=f"start the server with at least {rounded_up(longest)}")
    if model.context is not None and served > model.context:
        message = f"max_model_len {served} is above the model's context of {model.context:,}"
        yield Finding(message, at=place, fix=f"start the server with at most {model.context}")


def _sliding(job: Job, model: ModelConfig, longest: int) -> Iterator[Finding]:
    window = model.shape.window
    if window is None:
        return
    attention = unknown_attention(job)
    if attention is not None and window < longest:
        yield Finding(
            f"the model attends {window:,} tokens back (sliding_window), the longest row has {longest:,},"
            f" and attention {attention!r} is not known to keep to the window",
            Severity.WARNING,
            at=job.at("training.model_init_kwargs"),
            fix="attn_implementation: sdpa, or a flash attention",
        )
        return
    limit = job.training.max_length or longest
    if window < limit:
        message = f"the model attends {window:,} tokens back (sliding_window), max_length is {limit:,}"
        yield Finding(message, Severity.INFO, at=job.at("training.max_length"))


def unknown_attention(job: Job) -> str | None:
    """The attention that the job names, if transformers makes no mask for it (hub kernels are flash)."""
    stated = (job.training.extra.get("model_init_kwargs") or {}).get("attn_implementation")
    known = isinstance(stated, str) and (stated in tables.load("attention")["masked"] or "/" in stated)
    return None if known or not isinstance(stated, str) else stated
