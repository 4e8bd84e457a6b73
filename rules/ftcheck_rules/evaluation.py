"""Evaluation rules: is the tuned model asked, and stopped, as it was trained?"""

from collections import Counter
from collections.abc import Iterator
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
from ftcheck.inputs import SampleRow
from ftcheck.offers import Yield

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


@rule("evaluation-parity")
def evaluation_parity(
    job: Job,
    tokenizer: Tokenizer,
    serving: ServingSide,
    model: ModelConfig,
    rows: Rows,
    sample: Sample,
    gold: GoldSet | None,
    params: EvaluationParity,
) -> Iterator[Yield]:
    """Evaluation and serving ask the model, and stop it, as it was trained; the gold set can be used.

    A model that is asked in another form than it was trained on looks untrained: scores fall by ten to
    sixty points and the data gets the blame. One whose last trained token stops nobody rambles on.

    The served prompt of each sample row must be how the row's own ids begin; the rows' usual system
    prompt must be the server's; the token that ends rows must end generation; gold items must be whole
    and have ids of their own. Parameters: different_percent (default 1), usual_percent (default 99).
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
        yield from _system_prompt(job, serving, rows, params)
    yield from _stop(job, tokenizer, serving, model, sample)
    if gold is not None:
        yield from _gold(job, gold)
    if not conversations and gold is None:
        yield Skip("the rows are no conversations, and the job names no gold set")
    questions = f" · {len(gold.items):,} gold items" if gold is not None else ""
    same = len(compared) - len(different)
    yield Summary(f"{same:,} of {len(compared):,} prompts are served as trained{questions}")


def _difference(row: SampleRow, serving: ServingSide) -> str | None:
    """How the prompt that the server would make of a row's questions differs from the row's own ids."""
    tools = {} if row.tools is None else {"tools": row.tools}
    switches = {**tools, **serving.switches}
    try:
        prompt = serving.tokenizer.render(row.messages[: row.prompt_turns], prompt=True, **switches)
    except InputError as error:
        return f"the served prompt cannot be made: {error}"
    ids = serving.tokenizer.encode(prompt)
    if tuple(ids) == row.ids[: len(ids)]:
        return None
    pairs = zip(ids, row.ids, strict=False)
    same = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(row.ids)))
    return f"the served prompt is not how the row begins, from token {same + 1} of {len(ids)} on"


def _different(
    job: Job, compared: list[SampleRow], different: list[tuple[SampleRow, str]], params: EvaluationParity
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


def _system_prompt(job: Job, serving: ServingSide, rows: Rows, params: EvaluationParity) -> Iterator[Finding]:
    good = [one for row, one in enumerate(rows.system.tolist()) if row not in rows.troubles]
    if not good:
        return
    usual, count = Counter(good).most_common(1)[0]
    trained = {_text(rows, one) for one in set(good) if one < len(rows.system_prompts)}
    if 100 * count >= params.usual_percent * len(good) and usual < len(rows.system_prompts):
        if not _same(serving, _text(rows, usual), job.serving.system_prompt):
            yield _other_prompt(job, _text(rows, usual), count, len(good))
    elif not any(_same(serving, one, job.serving.system_prompt) for one in trained):
        yield Finding(
            f"the training rows have {len(trained):,} system prompts, and the server's is none of them",
            Severity.WARNING,
            at=job.at("serving.system_prompt"),
            fix="serve with one that the rows were trained with, or let requests bring theirs",
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


def _other_prompt(job: Job, trained: str | None, count: int, total: int) -> Finding:
    served = job.serving.system_prompt
    key = f"jobs.{job.name}.serving.system_prompt"
    return Finding(
        f"{count:,} of {total:,} training rows have {_named(trained)}, the server sends {_named(served)}",
        at=job.at("serving.system_prompt"),
        fix="serve with the system prompt that was trained"
        if trained is not None
        else "take serving.system_prompt out, or train with it",
        change=Change(key, served, trained) if count == total else None,
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


def _gold(job: Job, gold: GoldSet) -> Iterator[Finding]:
    for place, trouble in gold.troubles:
        fix = trouble.fix or "mend the item, or take it out"
        yield Finding(f"this gold item cannot be used: {trouble.message}", at=place, fix=fix)
    if not gold.items and not gold.troubles:
        yield Finding(f"the gold set {gold.path} is empty", at=job.at("data.gold.path"))
    first: dict[str, Location] = {}
    for item in gold.items:
        if item.id in first:
            message = f"the id {item.id} is taken ({first[item.id]}): results cannot be told apart"
            yield Finding(message, at=item.at, fix="give each item an id of its own")
        first.setdefault(item.id, item.at)
