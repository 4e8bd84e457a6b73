"""Label rules: which tokens of each row are in the loss, and which does truncation remove?"""

import re
from collections.abc import Iterator, Sequence
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
    Sample,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
    tables,
    templates,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs import thinking
from ftcheck.inputs.prepared import SampleRow
from ftcheck.packing.truncation import of_evaluation
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import Count, NotOfRows, OfSample, Ratio, Share, Total
from ftcheck_rules.lengths.lengths import evaluation_rows
from ftcheck_rules.lengths.sufficient import (
    Needs,
    could_be_fed,
    dropped_outliers,
    rounded_up,
    share_kept,
    sufficient,
)
from ftcheck_rules.template.templates import other_prompt, row_switches, training_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LAST = 8
"""How many tokens at a row's end are searched for the one that ends it."""
FEW = 3
"""A row with at most this many tokens in the loss may have no answer besides its stop token."""


@dataclass(frozen=True)
class TrainedTokens:
    """Parameters of `trained-tokens`."""

    min_stop_share: float = 0.99
    """Share of the rows that are not truncated that must end with a stop token in the loss, 0 to 1."""


@rule("trained-tokens", family="labels", cases="ftcheck_rules.labels.cases.labels")
def trained_tokens(
    job: Job,
    tokenizer: Tokenizer,
    prepared: Prepared,
    sample: Sample,
    inputs: Inputs,
    model: ModelConfig,
    params: TrainedTokens,
) -> Iterator[Yield]:
    """Every row has tokens in the loss, and the token that ends the answer is among them.

    A row without a token in the loss costs compute and teaches nothing. A model that never sees its stop
    token in the loss never stops, and goes on to invent the next question. With the questions in the loss it
    learns to ask them.

    Counts the tokens in the loss as the trainer will set the labels. Stop tokens are looked for in rows that
    are not truncated: the tokenizer's EOS, what the template writes after an answer, and eos_token_id of the
    model's generation_config.json (gpt-oss' `<|call|>`, Llama 3.1's `<|eom_id|>`). Questions in the loss are
    reported where the policy does not set assistant_only_loss or completion_only_loss: false;
    completion_only_loss: true has no effect on rows without a prompt and a completion, which is an error. So
    is an answer in the loss whose message says that it shall not be (weight: 0 and such keys, which TRL does
    not read). Where assistant_only_loss includes tokens of the prompt, as TRL's mask does with some
    tokenizers, the sample rows show it. Evaluation rows that have no token in the loss are reported too.
    Parameter: min_stop_share (default 0.99).
    """
    import numpy as np

    good = np.ones(len(prepared), dtype=bool)
    good[list(prepared.row_errors)] = False
    if not good.any():
        yield Skip("no row could be prepared")
        return
    never = good & (prepared.trained + prepared.trained_lost == 0)
    by_cut = good & (prepared.trained == 0) & (prepared.trained_lost > 0) & ~dropped_outliers(job, prepared)
    kept, trained = int(prepared.kept.sum()), int(prepared.trained.sum())
    share = trained / kept if kept else 0.0
    of_kept = Ratio(prepared.trained, prepared.kept)
    yield Measurement("trained_share", round(share, 6), statistic=of_kept)
    untrained = int((never | by_cut).sum())
    yield Measurement("rows_untrained", untrained, unit="rows", limit="0", statistic=Count())
    yield Summary(f"{trained:,} of {kept:,} tokens in the loss ({100 * share:.1f} %)")
    fix = "add an answer to the row, or remove the row"
    why = "The row costs compute and teaches nothing."
    for row in prepared.rows_where(never):
        message = f"none of the row's {counted(row.length, 'token')} is in the loss"
        yield Finding(message, at=row.at, fix=fix, why=why)
    yield from _stop_alone(tokenizer, prepared, good & ~never)
    yield from _cut_away(job, by_cut)
    yield from _stops(tokenizer, prepared, model, good, params)
    yield from _no_effect(job, tokenizer, prepared)
    yield from _switched_off(job, tokenizer, prepared)
    yield from _all_in_loss(job, tokenizer, prepared, good)
    yield from _prompt_in_loss(job, tokenizer, prepared, sample)
    yield from _untrained_evaluation(job, inputs)


def _stop_alone(tokenizer: Tokenizer, prepared: Prepared, good: "NDArray[np.bool_]") -> Iterator[Finding]:
    """Rows that only teach to stop at once; empty answers of conversations are left to `data-schema`."""
    remarks = prepared.rows.remarks
    told = {row for code in ("empty-answer", "null-content") for row in remarks.get(code, ())}
    few = good & (prepared.trained + prepared.trained_lost <= FEW)
    fix = "check how prompt and answer are split: the answer is empty, or part of the prompt"
    for row in prepared.rows_where(few):
        ids = prepared.tokens.ids(row.index)[prepared.tokens.mask(row.index)].tolist()
        words = [one for one in ids if one not in tokenizer.stop_ids and tokenizer.show([one]).strip()]
        if row.index not in told and not words and tokenizer.stop_ids & set(ids):
            message = f"only the stop token is in the loss, of the row's {counted(row.length, 'token')}"
            why = "The row teaches the model to answer with nothing."
            yield Finding(message, at=row.at, fix=fix, why=why)


def _cut_away(job: Job, by_cut: "NDArray[np.bool_]") -> Iterator[Finding]:
    """Only a warning: how much may be cut is judged by `truncation`."""
    if by_cut.any():
        count = int(by_cut.sum())
        yield Finding(
            f"max_length leaves {count:,} of {counted(len(by_cut), 'row')} without a token in the loss",
            Severity.WARNING,
            at=job.at("training.max_length"),
            fix="see the check `truncation`",
            why="TRL silently drops rows without a token in the loss.",
        )


def _stops(
    tokenizer: Tokenizer,
    prepared: Prepared,
    model: ModelConfig,
    good: "NDArray[np.bool_]",
    params: TrainedTokens,
) -> Iterator[Finding | Measurement]:
    uncut = good & prepared.used & (prepared.trained > 0) & (prepared.kept >= prepared.length)
    count = int(uncut.sum())
    ends, taught = _with_stops_of(model, tokenizer, prepared, uncut)
    ending = Share(int((ends & uncut).sum()), count)
    yield Measurement("ends_in_stop", _share(ends & uncut, uncut), statistic=ending)
    share, stopping = _share(taught & uncut, uncut), Share(int((taught & uncut).sum()), count)
    limit = f">= {params.min_stop_share:g}"
    yield Measurement("stop_trained", share, limit=limit, statistic=stopping)
    missing = uncut & ~taught
    if not missing.any():
        return
    by_token = _endings(tokenizer, prepared, missing & ~ends)
    for token, rows in sorted(by_token.items()):
        yield _unknown_stop(tokenizer, prepared, model, token, rows, count)
        missing[rows] = False
    left = _share(uncut & ~missing, uncut)
    severity = Severity.ERROR if left is not None and left < params.min_stop_share else Severity.WARNING
    for absent, said, fix in (
        (True, ("does not end with a stop token", "do not end with a stop token"), _ending(tokenizer)),
        (
            False,
            (
                "ends with a stop token that is not in the loss",
                "end with a stop token that is not in the loss",
            ),
            "move it into the template's {% generation %} block",
        ),
    ):
        rows_of_kind = missing & (ends != absent)
        if rows_of_kind.any():
            found = int(rows_of_kind.sum())
            message = f"{found:,} of {counted(count, 'row')} that are not truncated {agreeing(found, *said)}"
            why = "The model does not learn to stop: it goes on to invent the next question."
            at = prepared.at(int(rows_of_kind.argmax()))
            yield Finding(message, severity, at=at, fix=fix, why=why)


def _with_stops_of(
    model: ModelConfig, tokenizer: Tokenizer, prepared: Prepared, uncut: "NDArray[np.bool_]"
) -> "tuple[NDArray[np.bool_], NDArray[np.bool_]]":
    """Rows that end in a stop token, and those with one in the loss: the generation config's count too."""
    ends, taught = prepared.ends_in_stop.copy(), prepared.stop_trained.copy()
    more = model.stop_ids - tokenizer.stop_ids
    for row in (uncut & ~ends).nonzero()[0].tolist() if more else ():
        place = _last_of(tokenizer, prepared, row)
        if place is not None and int(prepared.tokens.ids(row)[place]) in more:
            ends[row], taught[row] = True, bool(prepared.tokens.mask(row)[place])
    return ends, taught


def _last_of(tokenizer: Tokenizer, prepared: Prepared, row: int) -> int | None:
    """The place of the row's last token that is not blank."""
    ids = prepared.tokens.ids(row)
    tail = range(len(ids) - 1, max(len(ids) - 1 - LAST, -1), -1)
    return next((n for n in tail if tokenizer.show([int(ids[n])]).strip()), None)


def _endings(tokenizer: Tokenizer, prepared: Prepared, rows: "NDArray[np.bool_]") -> dict[int, list[int]]:
    """Rows that end in a special token which is in the loss and in the template, but is no known stop."""
    template = tokenizer.training_template or tokenizer.chat_template or ""
    found: dict[int, list[int]] = {}
    for row in rows.nonzero()[0].tolist():
        place = _last_of(tokenizer, prepared, row)
        token = int(prepared.tokens.ids(row)[place]) if place is not None else -1
        if token in tokenizer.special_ids and prepared.tokens.mask(row)[place]:
            name = tokenizer.show([token])
            if name and name in template:
                found.setdefault(token, []).append(row)
    return found


def unknown_stops(tokenizer: Tokenizer, prepared: Prepared) -> set[int]:
    """Special tokens that end rows, in the loss, and are no known stop: `trained-tokens` tells them."""
    uncut = prepared.used & (prepared.trained > 0) & (prepared.kept >= prepared.length)
    return {*_endings(tokenizer, prepared, uncut & ~prepared.ends_in_stop)}


def _unknown_stop(
    tokenizer: Tokenizer, prepared: Prepared, model: ModelConfig, token: int, rows: list[int], count: int
) -> Finding:
    """A turn that ends otherwise, such as one with a tool call: the token is right, the stop is missing."""
    name, end = tokenizer.show([token]), agreeing(len(rows), "ends", "end")
    listed = "does not list it" if model.stop_ids else "is not known: whether generation stops there is open"
    return Finding(
        f"{len(rows):,} of {counted(count, 'row')} that are not truncated {end} with {name}, which the"
        f" template writes there, but eos_token_id of generation_config.json {listed}",
        Severity.WARNING if model.stop_ids else Severity.INFO,
        at=prepared.at(rows[0]),
        fix=f"add {token} ({name}) to eos_token_id in generation_config.json; do not change the rows",
        why="Generation does not stop after it: the model goes on past a tool call that nobody has answered.",
    )


def _share(some: "NDArray[np.bool_]", all_of_them: "NDArray[np.bool_]") -> float | None:
    count = int(all_of_them.sum())
    return round(int(some.sum()) / count, 6) if count else None


def _ending(tokenizer: Tokenizer) -> str:
    names = ", ".join(tokenizer.show([one]) for one in sorted(tokenizer.stop_ids)) or "none is known"
    return f"end each answer with a stop token ({names}), in the template or with training.eos_token"


def _without_effect(job: Job, prepared: Prepared) -> bool:
    """Whether completion_only_loss is true, and nothing in the rows is a completion (TRL 1.16: no mask)."""
    training = job.training
    split = prepared.rows.format in ("prompt-completion", "alpaca", "prepared", "unknown")
    return bool(training.completion_only_loss) and not training.assistant_only_loss and not split


def _no_effect(job: Job, tokenizer: Tokenizer, prepared: Prepared) -> Iterator[Finding]:
    if not _without_effect(job, prepared):
        return
    whole = int((prepared.used & (prepared.trained == prepared.kept)).sum())
    if prepared.rows.format == "text":
        fix = "split the rows into prompt and completion, or remove completion_only_loss"
        change = None
    else:
        template = templates.applied(tokenizer.chat_template, assistant_only_loss=True) or ""
        can = templates.has_markers(template)
        fix = "set assistant_only_loss: true instead, or split the rows into prompt and completion"
        fix = fix if can else f"add {{% generation %}} markers to the template and {fix}"
        key = f"jobs.{job.name}.training.assistant_only_loss"
        change = Change(key, False, True, safe=False) if can else None
    yield Finding(
        f"completion_only_loss: true has no effect on {prepared.rows.format} rows: {whole:,} of"
        f" {counted(int(prepared.used.sum()), 'row')} {agreeing(whole, 'is', 'are')} in the loss with every"
        " token",
        at=job.at("training.completion_only_loss"),
        fix=fix,
        change=change,
        why="TRL masks prompts only in rows with the columns prompt and completion; here the model also"
        " learns to write the questions.",
    )


def _switched_off(job: Job, tokenizer: Tokenizer, prepared: Prepared) -> Iterator[Finding]:
    """Answers in the loss whose message says that they shall not be."""
    table = tables.load("message_switches")
    names = (*table["off_when_false"], *table["off_when_true"])
    template = tokenizer.chat_template or ""
    if any(re.search(rf"\b{name}\b", template) for name in names):
        return  # the template may read the key itself
    remarks = prepared.rows.remarks
    codes = ["switched-off"]
    if job.training.completion_only_loss is False or prepared.rows.format not in (
        "prompt-completion",
        "alpaca",
    ):
        codes.append("switched-off-prompt")
    rows = sorted({row for code in codes for row in remarks.get(code, ()) if prepared.trained[row]})
    if not rows:
        return
    command = job.trainer.use == "command"
    have = agreeing(len(rows), "has an answer", "have answers")
    yield Finding(
        f"{len(rows):,} of {counted(len(prepared), 'row')} {have} that a key of the message keeps out of the"
        " loss (weight: 0, train: false or the like), and TRL trains on all the same: it does not read such"
        " keys",
        Severity.WARNING if command else Severity.ERROR,
        at=prepared.at(rows[0]),
        fix="make sure that the command reads this key, or split the rows so that these answers are in the"
        " prompt"
        if command
        else "split the rows so that these answers are in the prompt and the others are completions, or"
        " remove the rows",
        why="The model is trained on answers that were marked as not to be learned.",
    )


def _untrained_evaluation(job: Job, inputs: Inputs) -> Iterator[Finding]:
    """Evaluation rows without a token in the loss before truncation; what it removes is `truncation`'s."""
    evaluated = evaluation_rows(job, inputs)
    if evaluated is None:
        return
    good = _usable(job, evaluated)
    never = good & (evaluated.trained + evaluated.trained_lost == 0)
    if never.any():
        count, total = int(never.sum()), int(good.sum())
        are = agreeing(count, "has no token", "have no token")
        yield Finding(
            f"{count:,} of {counted(total, 'evaluation row')} {are} in the loss",
            Severity.ERROR if count == total else Severity.WARNING,
            at=evaluated.at(int(never.argmax())),
            fix="add an answer to the row, or remove the row",
            why="TRL silently drops these rows: eval_loss is measured on the others alone.",
        )


def _usable(job: Job, prepared: Prepared) -> "NDArray[np.bool_]":
    import numpy as np

    good = np.ones(len(prepared), dtype=bool)
    good[list(prepared.row_errors)] = False
    return good


def _all_in_loss(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, good: "NDArray[np.bool_]"
) -> Iterator[Finding]:
    """Conversations whose questions are in the loss although the policy does not ask for it."""
    asked = good & (prepared.rows.turns > 1) & prepared.used
    whole = asked & (prepared.trained == prepared.kept)
    stated = "training.completion_only_loss" in job.places and not job.training.completion_only_loss
    said = stated or "training.assistant_only_loss" in job.places or _without_effect(job, prepared)
    if said or job.training.assistant_only_loss or not asked.any() or not whole[asked].all():
        return
    template = templates.applied(tokenizer.chat_template, assistant_only_loss=True) or ""
    change = Change(f"jobs.{job.name}.training.assistant_only_loss", False, True, safe=False)
    can = templates.has_markers(template)
    yield Finding(
        f"the questions of {counted(int(whole.sum()), 'conversation')} are in the loss:"
        " training.assistant_only_loss is not set, and that is TRL's default",
        Severity.WARNING,
        at=job.at("training.assistant_only_loss"),
        fix="set assistant_only_loss: true, or false if this is intended"
        if can
        else "add {% generation %} markers to the template and set assistant_only_loss: true, or false if"
        " this is intended",
        change=change if can else None,
        why="The model also learns to write the users' questions.",
    )


def _prompt_in_loss(
    job: Job, tokenizer: Tokenizer, prepared: Prepared, sample: Sample
) -> Iterator[Finding | Measurement]:
    """The labels follow TRL; reports where its assistant mask starts before the answer does."""
    if not job.training.assistant_only_loss or not sample.rows:
        return
    early = [(row, count) for row in sample.rows if (count := _too_early(tokenizer, prepared, row))]
    yield Measurement("prompt_tokens_trained", sum(count for _, count in early), unit="tokens", limit="0")
    if early:
        blank = not any(_early_words(tokenizer, row, count, prepared) for row, count in early)
        thinks = any(_early_tokens(tokenizer, row, count, prepared).strip() for row, count in early)
        kind = "token" if not blank else "token of a thinking block" if thinks else "whitespace token"
        many = "tokens of a thinking block" if blank and thinks else None
        tokens = counted(early[0][1], kind, many)
        yield Finding(
            f"the assistant mask starts {tokens} early, within the prompt; so it does in"
            f" {len(early):,} of {counted(len(sample.rows), 'sample row')}",
            Severity.INFO if blank else Severity.WARNING,
            at=early[0][0].at,
            fix=None
            if blank
            else "remove leading whitespace from the answers, or train on prompt and completion",
            why=None if blank else "The model is also trained to write the end of the prompt.",
        )


def _too_early(tokenizer: Tokenizer, prepared: Prepared, row: SampleRow) -> int:
    """Prompt tokens in the row's last run of tokens in the loss; none where the prompt is no part of it."""
    start = _last_stretch(prepared, row)
    if start is None or other_prompt(tokenizer, row):
        return 0
    asked = row.messages[: row.prompt_turns]
    try:
        prompt = tokenizer.encode(training_text(tokenizer, asked, prompt=True, **row_switches(row)))
    except InputError:
        return 0
    return max(0, _shared(prompt, row.ids) - start)


def _last_stretch(prepared: Prepared, row: SampleRow) -> int | None:
    """Where the row's last run of tokens in the loss starts."""
    inside = prepared.tokens.mask(row.index).nonzero()[0]
    if not len(inside):
        return None
    breaks = (inside[1:] != inside[:-1] + 1).nonzero()[0]
    return int(inside[breaks[-1] + 1]) if len(breaks) else int(inside[0])


def _early_words(tokenizer: Tokenizer, row: SampleRow, count: int, prepared: Prepared) -> bool:
    """Whether the prompt's tokens in the loss are more than whitespace and the start of a thinking block."""
    return bool(thinking.without(_early_tokens(tokenizer, row, count, prepared)).strip())


def _early_tokens(tokenizer: Tokenizer, row: SampleRow, count: int, prepared: Prepared) -> str:
    start = _last_stretch(prepared, row) or 0
    return tokenizer.show(row.ids[start : start + count])


def _shared(ids: Sequence[int], others: Sequence[int]) -> int:
    pairs = enumerate(zip(ids, others, strict=False))
    return next((n for n, (one, other) in pairs if one != other), min(len(ids), len(others)))


@dataclass(frozen=True)
class Truncation:
    """Parameters of `truncation`."""

    max_lost_share: float = 0.01
    """Share of all trained tokens that may be cut away, 0 to 1."""
    max_untrained: int = 0
    """Number of rows that may be left without a token in the loss."""
    keep: float = 0.99
    """Share of the trained tokens that the proposed max_length keeps, 0 to 1."""


@rule("truncation", family="labels", cases="ftcheck_rules.labels.cases.labels")
def truncation(job: Job, prepared: Prepared, inputs: Inputs, params: Truncation) -> Iterator[Yield]:
    """Cutting rows to max_length removes hardly any token from the loss.

    A row without a token in the loss costs compute and teaches nothing; TRL silently drops it. A row whose
    answer is cut teaches an answer without an end.

    Counts as the trainer cuts; packing by bfd_split or wrapped cuts nothing. The proposed max_length assumes
    that a row's trained tokens are its last ones. Evaluation rows that truncation leaves without a token in
    the loss are a warning, and an error where none is left. Parameters: max_lost_share (default 0.01),
    max_untrained (0), keep (0.99).
    """
    import numpy as np

    good = could_be_fed(job, prepared)
    if not good.any():
        yield Skip("no row could be prepared")
        return
    lost = np.where(good, prepared.trained_lost, 0)
    cut = good & np.where(prepared.used, prepared.kept < prepared.length, lost > 0)
    none_left = good & (prepared.trained == 0) & (lost > 0)
    gone = int(lost.sum())
    everything = int(prepared.trained.sum(where=good)) + gone
    share = gone / everything if everything else 0.0
    bad = share > params.max_lost_share or int(none_left.sum()) > params.max_untrained
    yield from _cut_counts(cut, none_left, lost, params, everything)
    yield from _cut_evaluation(job, inputs)
    if not cut.any():
        yield Summary("no training row is cut" if job.evaluates else "no row is cut")
        return
    said = f"{int(cut.sum()):,} of {counted(int(good.sum()), 'row')} cut · "
    said += f"{counted(gone, 'trained token')} lost ({100 * share:.1f} %)"
    alone = int(none_left.sum())
    said += f" · {counted(alone, 'row')} left with none" if alone else ""
    yield Summary(said)
    if bad:
        yield _too_much(job, prepared, good, params, said)
    for row in _worst(cut, lost):
        yield _cut_row(job, prepared, row, bad)


def _cut_evaluation(job: Job, inputs: Inputs) -> Iterator[Finding | Measurement]:
    evaluated = evaluation_rows(job, inputs)
    if evaluated is None:
        return
    good = _usable(job, evaluated)
    gone = good & (evaluated.trained == 0) & (evaluated.trained_lost > 0)
    count, total = int(gone.sum()), int(good.sum())
    whole = NotOfRows() if evaluated.sample is None else OfSample()
    yield Measurement("eval_rows_untrained", count, unit="rows", limit="0", statistic=whole)
    if not count:
        return
    left = int((good & evaluated.used).sum())
    packed = bool(of_evaluation(job.training).packing)
    drops = "these rows add nothing to" if packed else "TRL silently drops these rows from"
    why = f"{drops} the evaluation, and eval_loss is measured on the others alone."
    if not left or (packed and not evaluated.trained.any()):
        best = job.training.extra.get("load_best_model_at_end")
        why = "The evaluation has no row: eval_loss is never logged, and nothing says so."
        why += " load_best_model_at_end then ends in a KeyError." if best else ""
    needed = rounded_up(int(evaluated.length[gone].max()))
    yield Finding(
        f"max_length {job.training.max_length} leaves {count:,} of {counted(total, 'evaluation row')} without"
        " a token in the loss",
        Severity.WARNING if left and evaluated.trained.any() else Severity.ERROR,
        at=evaluated.at(int(gone.argmax())),
        fix=f"raise max_length (the longest of them needs {needed}), or shorten the prompts of data.eval",
        why=why[0].upper() + why[1:],
    )


def _cut_counts(
    cut: "NDArray[np.bool_]",
    none_left: "NDArray[np.bool_]",
    lost: "NDArray[np.int32]",
    params: Truncation,
    everything: int,
) -> Iterator[Measurement]:
    gone, allowed = int(lost.sum()), f"<= {int(params.max_lost_share * everything)}"
    of_all = Total(lost, limit_of_drawn=True)
    yield Measurement("rows_cut", int(cut.sum()), unit="rows", statistic=Count())
    yield Measurement("trained_tokens_lost", gone, unit="tokens", limit=allowed, statistic=of_all)
    untrained, limit = int(none_left.sum()), f"<= {params.max_untrained}"
    yield Measurement("rows_untrained", untrained, unit="rows", limit=limit, statistic=Count())


def _worst(cut: "NDArray[np.bool_]", lost: "NDArray[Any]") -> Iterator[int]:
    """Rows that are cut, those that lose most tokens first."""
    rows = cut.nonzero()[0]
    return map(int, rows[(-lost[rows]).argsort(kind="stable")])


def _cut_row(job: Job, prepared: Prepared, row: int, bad: bool) -> Finding:
    length, left = int(prepared.length[row]), int(prepared.trained[row])
    lost = int(prepared.trained_lost[row])
    what = "the answer" if lost else "the prompt"
    keeps = "none" if not left else f"{left:,}"
    cutter = "data.outliers" if prepared.outlier[row] else f"max_length {job.training.max_length}"
    message = f"{what} is cut: of {counted(length, 'token')}, {cutter} keeps {keeps} of the"
    message += f" {counted(left + lost, 'trained token')}"
    severity = Severity.ERROR if bad and not left else Severity.INFO
    return Finding(message, severity, at=prepared.at(row))


def _too_much(
    job: Job, prepared: Prepared, good: "NDArray[np.bool_]", params: Truncation, said: str
) -> Finding:
    old, place, outliers = job.training.max_length, job.at("training.max_length"), job.data.outliers
    if outliers is not None and outliers.action == "truncate" and prepared.outlier[good].any():
        fix = "set data.outliers to drop the longest rows instead of truncating them, or raise max_length"
        return Finding(said, at=job.at("data.outliers"), fix=fix)
    needs = Needs(keep=max(params.keep, 1 - params.max_lost_share), max_untrained=params.max_untrained)
    new = max(sufficient(job, prepared, needs), old or 0)
    if job.targets.max_length is not None and new > job.targets.max_length[1]:
        fix = (
            f"no max_length within targets.max_length keeps {100 * params.keep:g} % of the trained tokens:"
            " shorten the prompts, or set data.outliers for the longest rows"
        )
        return Finding(said, at=place, fix=fix)
    kept = 100 * share_kept(job, prepared, new)
    fix = f"max_length: {old} -> {new} (keeps {kept:.1f} % of trained tokens)"
    change = Change(f"jobs.{job.name}.training.max_length", old, new, safe=False)
    return Finding(said, at=place, fix=fix, change=change)
