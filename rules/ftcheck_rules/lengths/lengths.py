"""Length rules: does every row fit max_length, and the model's context window?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import (
    Change,
    Finding,
    InputError,
    Inputs,
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
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, Count, NotOfRows, Quantile, Total
from ftcheck_rules.lengths.sufficient import Needs, before_truncation, rounded_up, sufficient
from ftcheck_rules.serving.windows import Window, server_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

USUAL = (50, 90, 95, 99)
TRL_DEFAULT = 1024
"""TRL's own max_length, where the policy sets none."""
BINS = 48
"""Bins of the histogram, at most."""
FAR_BELOW = 0.5
"""A percentile below this share of max_length is worth a remark."""


@dataclass(frozen=True)
class PercentileSeqLen:
    """Parameters of `percentile-seq-len`."""

    percentile: float = 95.0
    """The nearest-rank percentile of the lengths that max_length must hold, above 0 and up to 100."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a percentile outside its range."""
        if not 0 < self.percentile <= 100:
            raise ValueError("percentile must be above 0 and at most 100")


def evaluation_rows(job: Job, inputs: Inputs) -> Prepared | None:
    """The evaluation rows, where a training evaluates on them; files that cannot be read: `data-readable`."""
    if not job.evaluates or not inputs.has("prepared_eval"):
        return None
    try:
        found: Prepared | None = inputs.get("prepared_eval")
    except InputError:
        return None
    return found if found is not None and len(found) else None


@rule("percentile-seq-len", family="lengths", cases="ftcheck_rules.lengths.cases.lengths")
def percentile_seq_len(
    job: Job, prepared: Prepared, inputs: Inputs, params: PercentileSeqLen
) -> Iterator[Yield]:
    """Nearly all rows fit into max_length, and max_length lies within the targets.

    Trainers silently cut longer rows at the end, where the answer and its stop token are. TRL's own default
    is 1,024 tokens, whatever the data.

    Measured in tokens per row, before truncation and after the policy's data.outliers, as nearest-rank
    percentiles of exact counts; `histogram` counts the rows in bins of equal width from 0 tokens on; `engine`
    names the tokenizer implementation that produced the ids, and the line says why it is not the fast one
    where that was tried. Parameter: percentile (default 95).
    """
    lengths = before_truncation(prepared)
    if not len(lengths):
        yield Skip("there are no rows to measure")
        return
    counts = Histogram.of(lengths)
    limit, value = job.training.max_length, counts.percentile(params.percentile)
    need = sufficient(job, prepared, Needs(percentile=params.percentile))
    yield from _measured(counts, lengths, params.percentile, limit)
    yield Measurement("engine", prepared.engine, statistic=NotOfRows())
    yield Summary(_in_words(counts, params.percentile, limit) + _slower(prepared))
    if limit is not None and value > limit:
        yield _too_long(job, counts, params.percentile, limit, need)
    if job.targets.max_length is not None:
        yield from _off_target(job, need, job.targets.max_length)
    if limit is not None and value < FAR_BELOW * limit and not job.training.packing:
        yield _room(job, lengths, evaluation_rows(job, inputs), params.percentile, value, limit)


def _measured(
    counts: Histogram, lengths: "NDArray[Any]", percentile: float, limit: int | None
) -> Iterator[Measurement]:
    yield Measurement("rows", counts.sequences, unit="rows", statistic=Count())
    yield Measurement("tokens", counts.tokens, unit="tokens", statistic=Total(lengths))
    for one in sorted({*map(float, USUAL), percentile}):
        bound = f"<= {limit}" if one == percentile and limit is not None else None
        value, ranked = counts.percentile(one), Quantile(lengths, one)
        yield Measurement(f"p{one:g}", value, unit="tokens", limit=bound, statistic=ranked)
    yield Measurement("max", counts.longest, unit="tokens", statistic=AtLeast())
    width, bins = counts.bin_width(BINS), counts.bins(BINS).tolist()
    yield Measurement("histogram", " ".join(map(str, bins)), unit=f"rows per {counted(width, 'token')}")


def _in_words(counts: Histogram, percentile: float, limit: int | None) -> str:
    shown = " · ".join(f"p{one:g} {counts.percentile(one):,}" for one in sorted({percentile, 99.0}))
    bound = "null" if limit is None else limit
    return f"{shown} · max {counts.longest:,} tokens (max_length {bound})"


def _slower(prepared: Prepared) -> str:
    """Which engine made the ids, where a faster one was tried, and why that one did not."""
    notes = prepared.rows.notes
    return f" · ids by {prepared.engine}: {notes[0]}" if notes else ""


def _too_long(job: Job, counts: Histogram, percentile: float, limit: int, need: int) -> Finding:
    bound = f"max_length is {limit}" if _stated(job) else f"max_length is not set (TRL's default: {limit})"
    longer = counts.above(limit)
    return Finding(
        f"p{percentile:g} is {counts.percentile(percentile):,} tokens, {bound}:"
        f" {longer:,} of {counted(counts.sequences, 'row')} {agreeing(longer, 'is', 'are')} longer"
        " and will be cut",
        at=job.at("training.max_length"),
        fix=_remedy(job, need),
        change=_change(job, need),
    )


def _stated(job: Job) -> bool:
    """Whether the policy sets max_length, or at least a value other than TRL's default."""
    return "training.max_length" in job.places or job.training.max_length != TRL_DEFAULT


def _off_target(job: Job, need: int, target: tuple[int, int]) -> Iterator[Finding]:
    low, high = target
    limit = job.training.max_length
    if limit is None or not low <= limit <= high:
        yield Finding(
            f"max_length {limit} is outside targets.max_length, {low} to {high}"
            if limit is not None
            else f"max_length is null, so no row is cut; targets.max_length is {low} to {high}",
            at=job.at("training.max_length"),
            fix=_remedy(job, need),
            change=_change(job, need),
            why="Memory and tokens per step depend on max_length: they miss what the targets were set for.",
        )


def _proposed(job: Job, need: int) -> int | None:
    """The max_length nearest to the stated one that holds the rows and meets the target, if any."""
    wanted = max(job.training.max_length or 0, need)
    if job.targets.max_length is not None:
        low, high = job.targets.max_length
        wanted = min(max(wanted, low), high)
    return wanted if wanted >= need else None


def _change(job: Job, need: int) -> Change | None:
    new = _proposed(job, need)
    if new is None:
        return None
    return Change(f"jobs.{job.name}.training.max_length", job.training.max_length, new, safe=False)


def _remedy(job: Job, need: int) -> str:
    new = _proposed(job, need)
    if new is not None:
        stated = "null" if job.training.max_length is None else job.training.max_length
        return f"max_length: {stated} -> {new}"
    return (
        f"no max_length within targets.max_length holds {need:,} tokens: shorten the rows,"
        " set data.outliers for the longest ones, or raise targets.max_length"
    )


def _room(
    job: Job,
    lengths: "NDArray[Any]",
    evaluated: Prepared | None,
    percentile: float,
    value: int,
    limit: int,
) -> Finding:
    """What a much larger max_length costs without packing: no compute, but memory that must stay free."""
    fed = lengths.clip(max=limit)
    waste = expected_padding(job, fed)
    said = (
        f"p{percentile:g} is {value:,} tokens, far below max_length {limit}. Batches are padded to their"
        f" longest row, so a lower max_length saves no compute, only the memory for {limit} tokens"
    )
    if waste >= 0.01:
        said += f"; about {100 * waste:.0f} % of the computed tokens are padding, which packing would save"
    fix = "set training.packing: true"
    both = (lengths,) if evaluated is None else (lengths, before_truncation(evaluated))
    longest = max(int(one.max(initial=0)) for one in both)
    if rounded_up(longest) < limit:
        fix += f", or max_length: {rounded_up(longest)}, which holds every row"
    return Finding(said, Severity.INFO, at=job.at("training.max_length"), fix=fix)


@rule("context-window", family="lengths", cases="ftcheck_rules.lengths.cases.lengths")
def context_window(job: Job, model: ModelConfig, prepared: Prepared) -> Iterator[Yield]:
    """Every training sequence fits the context window of the model, and of the server.

    Positions beyond the window were never trained: the loss looks fine, and the model rambles. A server with
    a smaller window rejects or cuts what the model was tuned on.

    Compares the rows after truncation with max_position_embeddings and with serving.max_model_len, or the
    default context of serving.engine where one is known (`tables/serving_engines.json`). A sliding
    window smaller than max_length is `info`, unless training.model_init_kwargs sets an attention
    implementation that is not known to respect it (`tables/attention.json`). No parameters.
    """
    server = server_window(job)
    served = server.tokens if server is not None else None
    windows = {"the model's context": model.context, "the server's": served}
    known = {name: window for name, window in windows.items() if window is not None}
    fed = _positions(job, prepared)
    if not known or not len(fed):
        nothing = "no row is left to train on"
        yield Skip("config.json has no max_position_embeddings" if not known else nothing)
        return
    longest = int(fed.max())
    least = min(known.values())
    yield Measurement("context", model.context, unit="tokens", statistic=NotOfRows())
    yield Measurement("longest", longest, unit="tokens", limit=f"<= {least}", statistic=AtLeast())
    over = int((fed > least).sum())
    yield Measurement("rows_over", over, unit="rows", limit="0", statistic=Count(len(fed)))
    yield Summary(f"longest row {counted(longest, 'token')}, context window {min(known.values()):,}")
    yield from _window(job, model, fed)
    yield from _server(job, model, server, fed)
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
    fix = f"set max_length: {context}, or use a model with a larger context window"
    if over:
        longest = int(fed.max())
        message = f"{over:,} of {counted(len(fed), 'sequence')} {agreeing(over, 'exceeds', 'exceed')}"
        message += f" the model's context window of {context:,} tokens; the longest has {longest:,}"
        yield Finding(message, at=place, fix=fix, change=change)
    elif limit is not None and limit > context and not job.training.packing:
        message = f"max_length {limit} exceeds the model's context window of {context:,} tokens"
        message += "; no row is that long yet"
        yield Finding(message, Severity.WARNING, at=place, fix=fix, change=change)


def _server(job: Job, model: ModelConfig, server: Window | None, fed: "NDArray[Any]") -> Iterator[Finding]:
    if server is None:
        return
    over, place = int((fed > server.tokens).sum()), job.at(server.key)
    if over:
        longest = int(fed.max())
        message = f"{over:,} of {counted(len(fed), 'sequence')} {agreeing(over, 'exceeds', 'exceed')}"
        message += f" {server.name}, {server.tokens:,} tokens; the longest has {longest:,}"
        fix = server.remedy(rounded_up(longest))
        why = "The server rejects or cuts inputs of the length that the model was tuned on."
        yield Finding(message, at=place, fix=fix, why=why)
    stated = job.serving.max_model_len
    if model.context is not None and stated is not None and stated > model.context:
        message = f"serving.max_model_len {stated} exceeds the model's context window of {model.context:,}"
        fix = f"start the server with a max_model_len of at most {model.context}"
        yield Finding(message, at=place, fix=fix)


def _sliding(job: Job, model: ModelConfig, longest: int) -> Iterator[Finding]:
    window = model.shape.window
    if window is None:
        return
    attention = unknown_attention(job)
    if attention is not None and window < longest:
        yield Finding(
            f"the model's sliding_window is {window:,} tokens, the longest row has {longest:,}, and"
            f" attn_implementation {attention!r} is not known to respect the window",
            Severity.WARNING,
            at=job.at("training.model_init_kwargs"),
            fix="set attn_implementation: sdpa, or to a flash attention",
            why="Without the window the model attends to tokens that it never attended to in pretraining.",
        )
        return
    limit = job.training.max_length or longest
    if window < limit:
        message = f"the model's sliding_window is {window:,} tokens, max_length is {limit:,}"
        yield Finding(message, Severity.INFO, at=job.at("training.max_length"))


def unknown_attention(job: Job) -> str | None:
    """The job's attn_implementation, if transformers builds no mask for it (hub kernels are flash)."""
    stated = (job.training.extra.get("model_init_kwargs") or {}).get("attn_implementation")
    known = isinstance(stated, str) and (stated in tables.load("attention")["masked"] or "/" in stated)
    return None if known or not isinstance(stated, str) else stated
