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
    served = job.serving.system_prompt
    trained = {_text(rows, one) for one in set(good)}
    if 100 * count >= params.usual_percent * len(good):
        if not _same(serving, _text(rows, usual), served):
            yield _other_prompt(job, _text(rows, usual), count, len(good), len(trained) == 1)
    elif not any(_same(serving, one, served) for one in trained):
        yield Finding(
            f"the training rows have {len(trained):,} system prompts, and the server's is none of them",
            at=job.at("serving.system_prompt"),
            fix="serve with one that the rows were trained with",
        )


def _text(rows: Rows, index: int) -> str | None:
    return rows.system_prompts[index] if 0 <= index < len(rows.system_prompts) else None


def _same(serving: ServingSide, one: str | None, other: str | None) -> bool:
    """Whether two system prompts come out the same; many templates strip what surrounds them."""
    if one == other or None in (one, other):
        return one == other
    if (one or "").strip() != (other or "").strip():
        return False
    asked = {"role": "user", "content": "?"}
    try:
        texts = {
            serving.tokenizer.render([{"role": "system", "content": prompt}, asked], prompt=True)
            for prompt in (one, other)
        }
    except InputError:
        return False
    return len(texts) == 1


def _other_prompt(job: Job, trained: str | None, count: int, total: int, only: bool) -> Finding:
    served = job.serving.system_prompt
    key = f"jobs.{job.name}.serving.system_prompt"
    return Finding(
        f"{count:,} of {total:,} training rows have {_named(trained)}, the server sends {_named(served)}",
        at=job.at("serving.system_prompt"),
        fix="serve with the system prompt that was trained"
        if trained is not None
        else "take serving.system_prompt out, or train with it",
        change=Change(key, served, trained) if only else None,
    )


def _named(prompt: str | None) -> str:
    """A system prompt by its length and digest: it is not repeated."""
    if prompt is None:
        return "no system prompt"
    return f"a system prompt of {len(prompt):,} characters ({of_text(prompt)[:11]}…)"


def _stop(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, model: ModelConfig, sample: Sample
) -> Iterator[Finding]:
    """The stop tokens that end rows must be among those that end generation.

    Rows that end in no stop token at all are another rule's.
    """
    stops = model.stop_ids | {one for one in (serving.tokenizer.eos_token_id,) if one is not None}
    ends = Counter(_end(row.ids, tokenizer) for row in sample.rows)
    for token, count in ends.most_common():
        if token in tokenizer.stop_ids and token not in stops:
            ends_generation = ", ".join(_shown(tokenizer, one) for one in sorted(stops)) or "nothing"
            yield Finding(
                f"training ends turns with {_shown(tokenizer, token)} ({count:,} of {len(sample.rows):,} sample"
                f" rows), generation stops at {ends_generation}",
                at=job.at("model.name"),
                fix=f"add {token} to eos_token_id in generation_config.json, or set training.eos_token",
            )


def _end(ids: tuple[int, ...], tokenizer: Tokenizer) -> int | None:
    """The row's last token that is not white space."""
    return next((one for one in reversed(ids[-LAST:]) if tokenizer.show([one]).strip()), None)


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
