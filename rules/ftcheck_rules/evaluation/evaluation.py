"""Evaluation rules: is the tuned model prompted and stopped as it was trained?"""

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
    Prepared,
    Rows,
    Sample,
    ServingSide,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
    tables,
)
from ftcheck.digest import of_text
from ftcheck.extension.rules import Yield
from ftcheck.inputs import thinking
from ftcheck.inputs.prepared import SampleRow
from ftcheck.inputs.probe_texts import Pair, counts, first_difference
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import NotOfRows
from ftcheck_rules.evaluation import stop_texts
from ftcheck_rules.template.renderings import (
    Talk,
    other_words,
    prompt_as_sent,
    prompt_as_trained,
    talks,
    whole_as_trained,
)
from ftcheck_rules.template.templates import row_switches

NONE = -1
"""The system column of a row without a system prompt."""
LAST = 8
"""How many tokens at a row's end are searched for the one that ends it."""


@dataclass(frozen=True)
class EvaluationParity:
    """Parameters of `evaluation-parity`."""

    different_percent: float = 1.0
    """Share of sample rows, in percent, whose served prompt may differ before that is an error."""
    usual_percent: float = 99.0
    """A system prompt counts as the usual one if at least this share of the rows has it, in percent."""


@rule("evaluation-parity", family="evaluation", cases="ftcheck_rules.evaluation.cases.evaluation")
def evaluation_parity(
    job: Job,
    tokenizer: Tokenizer,
    serving: ServingSide,
    model: ModelConfig,
    rows: Rows,
    sample: Sample,
    prepared: Prepared,
    gold: GoldSet | None,
    evaluation: ServingSide | None,
    params: EvaluationParity,
) -> Iterator[Yield]:
    """Evaluation and serving prompt and stop the model as it was trained; the gold set is usable.

    A model that is prompted in another form than it was trained on looks untrained: scores drop by 10 to 60
    points, and the data gets the blame. If generation does not stop at the token that ends the training rows,
    the model rambles on.

    The served prompt of each sample row must equal the start of the row as it is fed (`template-parity` and
    `tokenizer-parity` say what differs). An `evaluation` section of the policy must prompt as training does,
    and pad on the left where it uses batches. The usual system prompt of the rows must be that of serving and
    evaluation, where the policy states one (null for none). The token that ends rows must stop generation:
    with transformers' generate too, which knows eos_token_id of generation_config.json alone, where no
    ordinary token may be listed. No text of serving.stop may occur inside an answer. Gold items must be
    complete and have unique ids. Parameters: different_percent (default 1), usual_percent (default 99).
    """
    compared = [row for row in sample.rows if 0 < row.prompt_turns < len(row.messages)]
    different = [(row, why) for row in compared if (why := _difference(row, tokenizer, serving)) is not None]
    conversations = bool((rows.turns > 0).any())
    items = len(gold.items) if gold is not None else 0
    yield Measurement("gold_items", items, unit="items", statistic=NotOfRows())
    yield Measurement("prompts_compared", len(compared), unit="rows")
    yield Measurement("prompts_different", len(different), unit="rows", limit="0")
    if different:
        yield _different(job, compared, different, params)
    if conversations and job.states("serving.system_prompt"):
        yield from _system_prompt(job, serving, rows, params, "serving", job.serving.system_prompt)
    elif conversations:
        yield from _prompt_unknown(job, rows, params)
    if job.evaluation is not None and evaluation is not None:
        yield from _evaluated(job, tokenizer, evaluation, rows, sample, params)
    yield from _stop(job, tokenizer, serving, model, sample)
    yield from stop_texts.inside_answers(job, tokenizer, prepared, sample, gold)
    if gold is not None:
        yield from _gold(job, gold, has_template=serving.tokenizer.chat_template is not None)
    if rows.textless is not None and gold is None and job.evaluation is None:
        yield Skip(rows.textless)
    elif not conversations and gold is None and job.evaluation is None:
        yield Skip("the rows are not conversations, and data.gold is not set")
    elif not compared and gold is None and job.evaluation is None:
        yield Skip("no sample row has a prompt with an answer after it: nothing was compared")
    questions = f" · {counted(len(gold.items), 'gold item')}" if gold is not None else ""
    same = len(compared) - len(different)
    are = agreeing(len(compared), "is", "are")
    served = f"{same:,} of {counted(len(compared), 'prompt')} {are} served as trained"
    yield Summary(f"{served if compared else 'no prompt to compare'}{questions}")


def _difference(row: SampleRow, tokenizer: Tokenizer, serving: ServingSide) -> str | None:
    """How the prompt that the server would send for a row differs from the row as it is fed.

    A thinking block that one of them has is reported by `reasoning`, or by `template-parity`.
    """
    if row.start:
        return (
            f"the row is fed from its token {row.start + 1} on: truncation cuts the beginning of the prompt"
        )
    talk = Talk(row.messages, row.messages[: row.prompt_turns], row_switches(row), at=row.at)
    theirs = prompt_as_sent(serving, talk)
    if theirs.text is None:
        return f"serving cannot render the prompt; the template's own message: {theirs.problem}"
    ids = serving.tokenizer.encode(theirs.text)
    if tuple(ids) == row.ids[: len(ids)] or tuple(ids[: len(row.fed)]) == row.fed:
        return None
    whole = whole_as_trained(tokenizer, talk) or theirs.text
    if not whole.startswith(theirs.text) and thinking.same_but_thinking(theirs.text, whole):
        return None
    pairs = zip(ids, row.ids, strict=False)
    same = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(row.ids)))
    return f"the served prompt differs from the start of the row, first at token {same + 1} of {len(ids)}"


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
        f"; these rows set {', '.join(keys)}: serving.chat_template_kwargs must set the same" if keys else ""
    )
    return Finding(
        f"in {len(different):,} of {counted(len(compared), 'sample row')}, {why}{hint}",
        Severity.WARNING if own or share <= params.different_percent else Severity.ERROR,
        at=row.at,
        fix=f"serve with the tokenizer, template and switches of training (jobs.{job.name}.serving)",
    )


def _evaluated(
    job: Job,
    tokenizer: Tokenizer,
    evaluation: ServingSide,
    rows: Rows,
    sample: Sample,
    params: EvaluationParity,
) -> Iterator[Finding]:
    """What the policy's `evaluation` section does differently than training."""
    stated = job.evaluation
    if stated is None:
        return
    conversations = bool((rows.turns > 0).any())
    if conversations and not stated.apply_chat_template:
        yield Finding(
            "evaluation.apply_chat_template is false, but the model is trained on conversations",
            at=job.at("evaluation.apply_chat_template"),
            fix="set evaluation.apply_chat_template: true (lm-eval: --apply_chat_template)",
            change=Change(f"jobs.{job.name}.evaluation.apply_chat_template", False, True),
        )
    elif conversations:
        yield from _asked_otherwise(job, tokenizer, evaluation, sample)
        if stated.system_prompt is not None:
            yield from _system_prompt(job, evaluation, rows, params, "evaluation", stated.system_prompt)
    if stated.padding_side == "right" and (stated.batch_size or 1) > 1:
        yield Finding(
            f"evaluation pads batches of {stated.batch_size} on the right",
            Severity.WARNING,
            at=job.at("evaluation.padding_side"),
            fix="set evaluation.padding_side: left",
            change=Change(f"jobs.{job.name}.evaluation.padding_side", "right", "left"),
            why="Generation continues after the padding of every shorter question, and produces garbage.",
        )


def _asked_otherwise(
    job: Job, tokenizer: Tokenizer, evaluation: ServingSide, sample: Sample
) -> Iterator[Finding]:
    """Evaluation's own tokenizer, template and switches, compared with training's."""
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
    fix = "evaluate with the tokenizer, template and switches of training"
    if any(pair.differs for pair in words):
        key = next(key for key, there in own.items() if there)
        shown = first_difference(words, "eval", tokenizer, evaluation.tokenizer)
        said = f"evaluation renders prompts differently than training, on {counts(words)}; {shown}"
        yield Finding(said, at=job.at(f"evaluation.{key}"), fix=fix)
        return
    ids = list(_other_ids(tokenizer, evaluation, found))
    if any(pair.differs for pair in ids):
        shown = first_difference(ids, "eval", tokenizer, evaluation.tokenizer)
        said = f"evaluation tokenises the same text to different ids than training on {counts(ids)}; {shown}"
        yield Finding(said, at=job.at("evaluation.tokenizer"), fix=fix)


def _other_ids(tokenizer: Tokenizer, evaluation: ServingSide, found: Sequence[Talk]) -> Iterator[Pair]:
    for talk in found:
        text = prompt_as_trained(tokenizer, talk).text
        if text is not None and evaluation.tokenizer is not tokenizer:
            yield Pair(tokenizer.encode(text), evaluation.tokenizer.encode(text), talk.probe, talk.at)


def _system_prompt(
    job: Job, side: ServingSide, rows: Rows, params: EvaluationParity, who: str, sent: str | None
) -> Iterator[Finding]:
    """The rows' system prompt, compared with what `who` (serving, evaluation) sends."""
    good = [one for row, one in enumerate(rows.system.tolist()) if row not in rows.row_errors]
    if not good:
        return
    usual, count = Counter(good).most_common(1)[0]
    trained = {_text(rows, one) for one in set(good) if one < len(rows.system_prompts)}
    if 100 * count >= params.usual_percent * len(good) and usual < len(rows.system_prompts):
        if not _same(side, _text(rows, usual), sent):
            yield _other_prompt(job, _text(rows, usual), count, len(good), who, sent)
    elif not any(_same(side, one, sent) for one in trained):
        prompts = counted(len(trained), "system prompt")
        yield Finding(
            f"the training rows have {prompts}, but {who}.system_prompt is none of them",
            Severity.WARNING,
            at=job.at(f"{who}.system_prompt"),
            fix="use a system prompt of the training rows, or let requests bring their own",
            why="The model answers under instructions that it was not trained with.",
        )


def _prompt_unknown(job: Job, rows: Rows, params: EvaluationParity) -> Iterator[Finding]:
    """Nothing is said of the served system prompt: requests may bring it, so only what is needed is said."""
    good = [one for row, one in enumerate(rows.system.tolist()) if row not in rows.row_errors]
    with_one = sum(one != NONE for one in good)
    if good and 100 * with_one >= params.usual_percent * len(good):
        have = agreeing(with_one, "has", "have")
        yield Finding(
            f"{with_one:,} of {counted(len(good), 'training row')} {have} a system prompt; whether the server"
            " sends one is unknown (serving.system_prompt is not set)",
            Severity.INFO,
            at=job.at("serving.system_prompt"),
            fix="set serving.system_prompt to what the server or the requests send, or to null for none",
            why="Without its instructions the model answers otherwise than it was trained to.",
        )


def _text(rows: Rows, index: int) -> str | None:
    return None if index == NONE else rows.system_prompts[index]


def _same(serving: ServingSide, one: str | None, other: str | None) -> bool:
    """Whether two system prompts render the same; many templates strip surrounding whitespace."""
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
        f"{count:,} of {counted(total, 'training row')} {agreeing(count, 'has', 'have')} {_named(trained)},"
        f" but {sender} sends {_named(sent)}{_where_they_part(trained, sent)}",
        at=job.at(f"{who}.system_prompt"),
        fix=f"{verb} with the system prompt of the training rows"
        if trained is not None
        else f"remove {who}.system_prompt, or train with it",
        change=Change(key, sent, trained) if count == total else None,
        why="The model answers under instructions that it was not trained with.",
    )


def _where_they_part(trained: str | None, sent: str | None) -> str:
    """Where two prompts that are nearly the same differ; neither is shown."""
    if not trained or not sent:
        return ""
    first = _alike(trained, sent)
    same = first + _alike(trained[first:][::-1], sent[first:][::-1])
    longer = max(len(trained), len(sent))
    if 2 * same < longer:
        return ""
    other = longer - same
    return f"; they differ in {counted(other, 'character')} from character {first + 1} on"


def _alike(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _named(prompt: str | None) -> str:
    """A system prompt by its length and digest: its text is not shown."""
    if prompt is None:
        return "no system prompt"
    return f"a system prompt of {counted(len(prompt), 'character')} ({of_text(prompt)[:11]}…)"


def _stop(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, model: ModelConfig, sample: Sample
) -> Iterator[Finding]:
    """The first stop token that ends a row must stop generation: a later one may not be in the loss.

    Rows without any stop token are left to `trained-tokens`.
    """
    foreign = _ordinary_stops(serving.tokenizer, model)
    yield from _foreign(job, serving.tokenizer, model, foreign)
    eos = serving.tokenizer.eos_token_id
    stops = model.stop_ids | {one for one in (eos,) if one is not None}
    endings = Counter(_ending(row.fed, tokenizer) for row in sample.rows)
    for ending, count in endings.most_common():
        if ending and ending[0] not in stops:
            yield _runs_on(job, tokenizer, ending[0], count, sample, stops, bool(stops.intersection(ending)))
        elif ending and model.stop_ids and not model.stop_ids.intersection(ending) and _as_loaded(job):
            yield _by_tokenizer_alone(job, tokenizer, model, ending[0], (count, len(sample.rows)), foreign)


def _runs_on(
    job: Job,
    tokenizer: Tokenizer,
    ending: int,
    count: int,
    sample: Sample,
    stops: frozenset[int],
    later: bool,
) -> Finding:
    known = ", ".join(_shown(tokenizer, one) for one in sorted(stops)) or "nothing"
    return Finding(
        f"training ends turns with {_shown(tokenizer, ending)} ({count:,} of"
        f" {counted(len(sample.rows), 'sample row')}), but generation stops at {known}",
        Severity.WARNING if later else Severity.ERROR,
        at=job.at("model.name"),
        fix=f"add {ending} to eos_token_id in generation_config.json, or set training.eos_token",
        why="The served model does not stop at the end of its answer, and rambles on to the cap.",
    )


def _as_loaded(job: Job) -> bool:
    """Whether the generation config stays what the base model has: a Trainer aligns it where all is saved."""
    return job.training.lora is not None and job.training.extra.get("eos_token") is None


def _by_tokenizer_alone(
    job: Job,
    tokenizer: Tokenizer,
    model: ModelConfig,
    ending: int,
    counts: tuple[int, int],
    foreign: Sequence[int],
) -> Finding:
    """The trained stop is the tokenizer's EOS, which not every engine stops at."""
    table = tables.load("serving_engines")["stops"]
    stops_too = job.serving.engine in (None, *table["adds_tokenizer_eos"])
    known = ", ".join(_shown(tokenizer, one) for one in sorted(model.stop_ids))
    count, total = counts
    return Finding(
        f"training ends turns with {_shown(tokenizer, ending)} ({count:,} of {counted(total, 'sample row')}),"
        f" which is the tokenizer's EOS, but {_stated_in(model)} lists {known} alone: transformers'"
        " generate does not stop there",
        Severity.WARNING if stops_too and not foreign else Severity.ERROR,
        at=job.at("model.name"),
        fix=f"add {ending} to eos_token_id in generation_config.json",
        why="What generates with transformers rambles on to the cap: scripts, evaluation harnesses, servers.",
    )


def _stated_in(model: ModelConfig) -> str:
    return "generation_config.json" if "eos_token_id" in model.generation else "config.json"


def _ordinary_stops(tokenizer: Tokenizer, model: ModelConfig) -> tuple[int, ...]:
    """Listed stops that the tokenizer has as ordinary text: the file is another model's."""
    special = tokenizer.special_ids | {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id}
    return tuple(one for one in sorted(model.stop_ids) if 0 <= one < tokenizer.size and one not in special)


def _foreign(job: Job, tokenizer: Tokenizer, model: ModelConfig, foreign: Sequence[int]) -> Iterator[Finding]:
    for one in foreign:
        eos = tokenizer.eos_token_id
        instead = f"set it to {eos}, as the tokenizer has it" if eos is not None else "correct it"
        yield Finding(
            f"eos_token_id {one} in {_stated_in(model)} is the ordinary token {tokenizer.show([one])!r} of"
            " this tokenizer: the file belongs to another model",
            at=job.at("model.name"),
            fix=f"{instead}, in {_stated_in(model)}",
            why="Every engine that reads the file ends answers in the middle, at that text.",
        )


def _ending(ids: tuple[int, ...], tokenizer: Tokenizer) -> tuple[int, ...]:
    """The stop tokens at a row's end, in order; whitespace around them does not count."""
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
    """Items that cannot be used; a missing template is reported by `chat-template`."""
    for place, trouble in gold.row_errors:
        if trouble.code == "template" and not has_template:
            continue
        fix = trouble.fix or "fix the item, or remove it"
        why = "A score over the other items alone looks complete."
        message = f"this gold item cannot be used: {trouble.message}"
        yield Finding(message, at=place, fix=fix, why=why, content=trouble.content)
    if not gold.items and not gold.row_errors:
        fix = "add gold items, or remove data.gold"
        yield Finding(f"the gold set {gold.path} is empty", at=job.at("data.gold.path"), fix=fix)
    first: dict[str, Location] = {}
    for item in gold.items:
        if item.id in first:
            message = f"this item's id is already used at {first[item.id]}"
            why = "Results of items with the same id cannot be distinguished."
            fix = "give each item a unique id"
            yield Finding(message, at=item.at, fix=fix, why=why, content=f"id: {item.id}")
        first.setdefault(item.id, item.at)
