"""Evaluation rules: is the tuned model asked, and stopped, as it was trained?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck import (
    Change,
    Finding,
    GoldSet,
    InputError,
    Job,
    Location,
    Measurement,
    ModelConfig,
    Rows,
    Sample,
    ServingSide,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.digest import of_text
from ftcheck.extension.rules import Yield
from ftcheck.inputs.prepared import SampleRow
from ftcheck.probe_texts import Pair, counts, first_difference
from ftcheck_rules.template.renderings import (
    Talk,
    other_words,
    prompt_as_sent,
    prompt_as_trained,
    talks,
)
from ftcheck_rules.template.templates import row_switches

NONE = -1
"""The system column of a row without a system prompt."""
LAST = 8
"""So many tokens at a row's end are looked at for the one that ends it."""


@dataclass(frozen=True)
class EvaluationParity:
    """Parameters of `evaluation-parity`."""

    different_percent: float = 1.0
    """Share of sample rows, in percent, whose served prompt may differ before that is an error."""
    usual_percent: float = 99.0
    """A system prompt is the usual one if at least this share of the rows has it, in percent."""


@rule("evaluation-parity", family="evaluation", cases="ftcheck_rules.evaluation.cases.evaluation")
def evaluation_parity(
    job: Job,
    tokenizer: Tokenizer,
    serving: ServingSide,
    model: ModelConfig,
    rows: Rows,
    sample: Sample,
    gold: GoldSet | None,
    evaluation: ServingSide | None,
    params: EvaluationParity,
) -> Iterator[Yield]:
    """Evaluation and serving ask the model, and stop it, as it was trained; the gold set can be used.

    A model that is asked in another form than it was trained on looks untrained: scores fall by ten to
    sixty points and the data gets the blame. One whose last trained token stops nobody rambles on.

    The served prompt of each sample row must be how the row's own ids begin (`template-parity` and
    `tokenizer-parity` say what is different); an `evaluation` section of the policy must ask as training
    does, and pad on the left where it asks in batches; the rows' usual system prompt must be the server's
    and evaluation's; the token that ends rows must end generation; gold items must be whole and have ids
    of their own. Parameters: different_percent (default 1), usual_percent (default 99).
    """
    compared = [row for row in sample.rows if 0 < row.prompt_turns < len(row.messages)]
    different = [(row, why) for row in compared if (why := _difference(row, serving)) is not None]
    conversations = bool((rows.turns > 0).any())
    yield Measurement("gold_items", len(gold.items) if gold is not None else 0, unit="items")
    yield Measurement("prompts_compared", len(compared), unit="rows")
    yield Measurement("prompts_different", len(different), unit="rows", limit="0")
    if different:
        yield _different(job, compared, different, params)
    if conversations:
        yield from _system_prompt(job, serving, rows, params, "serving", job.serving.system_prompt)
    if job.evaluation is not None and evaluation is not None:
        yield from _evaluated(job, tokenizer, evaluation, rows, sample, params)
    yield from _stop(job, tokenizer, serving, model, sample)
    if gold is not None:
        yield from _gold(job, gold, has_template=serving.tokenizer.chat_template is not None)
    if not conversations and gold is None and job.evaluation is None:
        yield Skip("the rows are no conversations, and the job names no gold set")
    questions = f" · {len(gold.items):,} gold items" if gold is not None else ""
    same = len(compared) - len(different)
    yield Summary(f"{same:,} of {len(compared):,} prompts are served as trained{questions}")


def _difference(row: SampleRow, serving: ServingSide) -> str | None:
    """How the prompt that the server would make of a row's questions differs from the row's own ids."""
    talk = Talk(row.messages, row.messages[: row.prompt_turns], row_switches(row), at=row.at)
    theirs = prompt_as_sent(serving, talk)
    if theirs.text is None:
        return f"the served prompt cannot be made: {theirs.problem}"
    ids = serving.tokenizer.encode(theirs.text)
    if tuple(ids) == row.ids[: len(ids)]:
        return None
    pairs = zip(ids, row.ids, strict=False)
    same = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(row.ids)))
    return f"the served prompt is not how the row begins, from token {same + 1} of {len(ids)} on"


def _different(
    job: Job,
    compared: list[SampleRow],
    different: list[tuple[SampleRow, str]],
    params: EvaluationParity,
) -> Finding:
    """One finding for all rows, at the first. Rows with template switches of their own may differ in part."""
    share = 100 * len(different) / len(compared)
    own = all(row.template_kwargs for row, _ in different) and len(different) < len(compared)
    keys = sorted({key for row, _ in different for key in row.template_kwargs})
    row, why = different[0]
    hint = (
        f"; these rows set {', '.join(keys)}: serving.chat_template_kwargs must say the same" if keys else ""
    )
    return Finding(
        f"{len(different):,} of {len(compared):,} sample rows: {why}{hint}",
        Severity.WARNING if own or share <= params.different_percent else Severity.ERROR,
        at=row.at,
        fix=f"serve with the training tokenizer, template and switches (jobs.{job.name}.serving)",
    )


def _evaluated(
    job: Job,
    tokenizer: Tokenizer,
    evaluation: ServingSide,
    rows: Rows,
    sample: Sample,
    params: EvaluationParity,
) -> Iterator[Finding]:
    """What the policy's `evaluation` section does otherwise than training."""
    stated = job.evaluation
    if stated is None:
        return
    conversations = bool((rows.turns > 0).any())
    if conversations and not stated.apply_chat_template:
        yield Finding(
            "evaluation sends plain questions, and the model is tuned on conversations",
            at=job.at("evaluation.apply_chat_template"),
            fix="evaluate with the chat template (lm-eval: --apply_chat_template)",
            change=Change(f"jobs.{job.name}.evaluation.apply_chat_template", False, True),
        )
    elif conversations:
        yield from _asked_otherwise(job, tokenizer, evaluation, sample)
        if stated.system_prompt is not None:
            yield from _system_prompt(job, evaluation, rows, params, "evaluation", stated.system_prompt)
    if stated.padding_side == "right" and (stated.batch_size or 1) > 1:
        yield Finding(
            f"batches of {stated.batch_size} are padded on the right: generation goes on behind the padding"
            " of every shorter question",
            Severity.WARNING,
            at=job.at("evaluation.padding_side"),
            fix="pad on the left for generation",
            change=Change(f"jobs.{job.name}.evaluation.padding_side", "right", "left"),
        )


def _asked_otherwise(
    job: Job, tokenizer: Tokenizer, evaluation: ServingSide, sample: Sample
) -> Iterator[Finding]:
    """Evaluation's own tokenizer, template and switches, held against training's."""
    stated = job.evaluation
    own = {
        "chat_template": stated is not None and stated.chat_template is not None,
        "tokenizer": stated is not None and stated.tokenizer is not None,
        "chat_template_kwargs": stated is not None and stated.chat_template_kwargs is not None,
    }
    if not any(own.values()):
        return
    found = talks(sample)
    words = list(other_words(tokenizer, evaluation, found, "evaluation"))
    fix = "evaluate with the tokenizer, template and switches that training has"
    if any(pair.differs for pair in words):
        key = next(key for key, there in own.items() if there)
        shown = first_difference(words, "eval", tokenizer, evaluation.tokenizer)
        said = f"evaluation renders prompts otherwise than training on {counts(words)}; {shown}"
        yield Finding(said, at=job.at(f"evaluation.{key}"), fix=fix)
        return
    ids = list(_other_ids(tokenizer, evaluation, found))
    if any(pair.differs for pair in ids):
        shown = first_difference(ids, "eval", tokenizer, evaluation.tokenizer)
        said = f"evaluation turns the same words into other ids than training on {counts(ids)}; {shown}"
        yield Finding(said, at=job.at("evaluation.tokenizer"), fix=fix)


def _other_ids(tokenizer: Tokenizer, evaluation: ServingSide, found: Sequence[Talk]) -> Iterator[Pair]:
    for talk in found:
        text = prompt_as_trained(tokenizer, talk).text
        if text is not None and evaluation.tokenizer is not tokenizer:
            yield Pair(tokenizer.encode(text), evaluation.tokenizer.encode(text), talk.probe, talk.at)


def _system_prompt(
    job: Job, side: ServingSide, rows: Rows, params: EvaluationParity, who: str, sent: str | None
) -> Iterator[Finding]:
    """The rows' system prompt, held against what `who` (serving, evaluation) sends."""
    good = [one for row, one in enumerate(rows.system.tolist()) if row not in rows.row_errors]
    if not good:
        return
    usual, count = Counter(good).most_common(1)[0]
    trained = {_text(rows, one) for one in set(good) if one < len(rows.system_prompts)}
    if 100 * count >= params.usual_percent * len(good) and usual < len(rows.system_prompts):
        if not _same(side, _text(rows, usual), sent):
            yield _other_prompt(job, _text(rows, usual), count, len(good), who, sent)
    elif not any(_same(side, one, sent) for one in trained):
        whose = "the server's" if who == "serving" else "evaluation's"
        yield Finding(
            f"the training rows have {len(trained):,} system prompts, and {whose} is none of them",
            Severity.WARNING,
            at=job.at(f"{who}.system_prompt"),
            fix="take one that the rows were trained with, or let requests bring theirs",
        )


def _text(rows: Rows, index: int) -> str | None:
    return None if index == NONE else rows.system_prompts[index]


def _same(serving: ServingSide, one: str | None, other: str | None) -> bool:
    """Whether two system prompts come out the same; many templates strip what surrounds them."""
    if one == other or None in (one, other):
        return one == other
    if (one or "").strip() != (other or "").strip():
        return False
    asked = {"role": "user", "content": "?"}
    try:
        texts = {
            serving.tokenizer.render(
                [{"role": "system", "content": prompt}, asked], prompt=True, **serving.switches
            )
            for prompt in (one, other)
        }
    except InputError:
        return False
    return len(texts) == 1


def _other_prompt(
    job: Job, trained: str | None, count: int, total: int, who: str, sent: str | None
) -> Finding:
    key = f"jobs.{job.name}.{who}.system_prompt"
    sender = "the server" if who == "serving" else "evaluation"
    verb = "serve" if who == "serving" else "evaluate"
    return Finding(
        f"{count:,} of {total:,} training rows have {_named(trained)}, {sender} sends {_named(sent)}",
        at=job.at(f"{who}.system_prompt"),
        fix=f"{verb} with the system prompt that was trained"
        if trained is not None
        else f"take {who}.system_prompt out, or train with it",
        change=Change(key, sent, trained) if count == total else None,
    )


def _named(prompt: str | None) -> str:
    """A system prompt by its length and digest: it is not repeated."""
    if prompt is None:
        return "no system prompt"
    return f"a system prompt of {len(prompt):,} characters ({of_text(prompt)[:11]}…)"


def _stop(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, model: ModelConfig, sample: Sample
) -> Iterator[Finding]:
    """The first stop token that ends a row must end generation: a later one may not be in the loss.

    Rows that end in no stop token at all are another rule's.
    """
    stops = model.stop_ids | {one for one in (serving.tokenizer.eos_token_id,) if one is not None}
    endings = Counter(_ending(row.ids, tokenizer) for row in sample.rows)
    for ending, count in endings.most_common():
        if ending and ending[0] not in stops:
            known = ", ".join(_shown(tokenizer, one) for one in sorted(stops)) or "nothing"
            yield Finding(
                f"training ends turns with {_shown(tokenizer, ending[0])} ({count:,} of"
                f" {len(sample.rows):,} sample rows), generation stops at {known}",
                Severity.WARNING if stops.intersection(ending) else Severity.ERROR,
                at=job.at("model.name"),
                fix=f"add {ending[0]} to eos_token_id in generation_config.json, or set training.eos_token",
            )


def _ending(ids: tuple[int, ...], tokenizer: Tokenizer) -> tuple[int, ...]:
    """The stop tokens at a row's end, in order; white space around them does not count."""
    found: list[int] = []
    for one in reversed(ids[-LAST:]):
        if one in tokenizer.stop_ids:
            found.insert(0, one)
        elif tokenizer.show([one]).strip():
            break
    return tuple(found)


def _shown(tokenizer: Tokenizer, token: int) -> str:
    known = 0 <= token < tokenizer.size
    return f"{tokenizer.show([token])} ({token})" if known else f"token {token}"


def _gold(job: Job, gold: GoldSet, *, has_template: bool) -> Iterator[Finding]:
    """Items that cannot be used; that there is no template at all is `chat-template`'s to say."""
    for place, trouble in gold.row_errors:
        if trouble.code == "template" and not has_template:
            continue
        fix = trouble.fix or "mend the item, or take it out"
        yield Finding(f"this gold item cannot be used: {trouble.message}", at=place, fix=fix)
    if not gold.items and not gold.row_errors:
        yield Finding(f"the gold set {gold.path} is empty", at=job.at("data.gold.path"))
    first: dict[str, Location] = {}
    for item in gold.items:
        if item.id in first:
            message = f"the id {item.id} is taken ({first[item.id]}): results cannot be told apart"
            yield Finding(message, at=item.at, fix="give each item an id of its own")
        first.setdefault(item.id, item.at)
