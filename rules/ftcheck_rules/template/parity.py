"""Template parity: do all sides of a job render the same conversation to the same words?"""

from collections.abc import Iterator, Sequence

from ftcheck import (
    Finding,
    Inputs,
    Job,
    Location,
    Measurement,
    Sample,
    ServingSide,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.evaluation import GoldItem
from ftcheck.lock import Lock, conversation_ids, template_digest
from ftcheck.probe_texts import (
    CONVERSATIONS,
    Pair,
    counts,
    first_difference,
)
from ftcheck_rules.template.renderings import (
    Talk,
    gold_set,
    other_words,
    prompt_as_sent,
    prompt_as_trained,
    talks,
)

DATED = 20
"""So many conversations are rendered on two days."""
THINK = "<think>"
"""What opens a thinking block in the templates that have one."""


@rule("template-parity", family="template", cases="ftcheck_rules.template.cases.parity")
def template_parity(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, sample: Sample, lock: Lock | None, inputs: Inputs
) -> Iterator[Yield]:
    """Training and serving render the same conversation to the same words, today and tomorrow.

    The tuned model is asked in words that it never saw in training, and answers like the model it was
    before: another template at the server, a switch that opens a thinking block, today's date in every
    prompt. No error says so.

    Built-in conversations, the sample rows' prompts and the gold questions are rendered as training does
    it and as the server will, with the switches that requests send. A served prompt may go on as the row
    itself does. Twenty conversations are rendered on two days. Where `ftcheck lock` wrote a lock, the
    template must give its ids. Skipped for plain text. No parameters.
    """
    found = talks(sample)
    pairs = list(other_words(tokenizer, serving, found))
    if not pairs:
        why = (
            "no side can render a conversation: `chat-template` says why"
            if found
            else "the rows are plain text"
        )
        yield Skip(f"{why}: there is nothing to compare")
        return
    items = gold_set(job, inputs).items
    gold = [_gold_pair(tokenizer, item) for item in items]
    days = [talk for talk in _dated(found) if tokenizer.changes_with_date(talk.prompt, **talk.switches)]
    yield from _measured(pairs, gold, days)
    if any(pair.differs for pair in pairs):
        yield _serving_differs(job, tokenizer, serving, found, pairs)
    elif any(pair.differs for pair in gold):
        yield _gold_differs(job, tokenizer, serving, gold)
    if days:
        yield _date(job, tokenizer, len(days), len(_dated(found)))
    yield from _lock_differs(job, tokenizer, lock)


def _measured(
    pairs: Sequence[Pair], gold: Sequence[Pair], days: Sequence[Talk]
) -> Iterator[Measurement | Summary]:
    probes = [pair.differs for pair in pairs if pair.probe is not None]
    rows = [pair.differs for pair in pairs if pair.probe is None]
    yield Measurement("probes", len(probes), unit="conversations")
    yield Measurement("rows_compared", len(rows), unit="rows")
    yield Measurement("probes_different", sum(probes), "conversations", limit="0")
    yield Measurement("rows_different", sum(rows), "rows", limit="0")
    yield Measurement("changing_with_date", len(days), "conversations", limit="0")
    if gold:
        yield Measurement("gold_different", sum(pair.differs for pair in gold), "questions", limit="0")
    sides = "train = gold = serve" if gold else "train = serve"
    equal = not any(pair.differs for pair in (*pairs, *gold))
    words = sides if equal else "not the same words everywhere"
    yield Summary(f"{words}, {len(probes)} conversations, {len(rows):,} rows")


def _gold_pair(tokenizer: Tokenizer, item: GoldItem) -> Pair:
    """A gold question: as training renders it, and as the gold set holds it."""
    ours = prompt_as_trained(tokenizer, Talk(item.messages, item.messages, {}, at=item.at))
    if ours.text is None:
        return Pair(at=item.at, problem=ours.problem)
    if ours.text == item.prompt:
        return Pair(at=item.at)
    return Pair(tokenizer.encode(ours.text), item.prompt_ids, at=item.at)


def _dated(found: Sequence[Talk]) -> Sequence[Talk]:
    """What is rendered on two days: rows, which may pin a date by switches of their own, else probes."""
    rows = [talk for talk in found if talk.probe is None]
    return (rows or found)[:DATED]


def _serving_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, found: Sequence[Talk], pairs: Sequence[Pair]
) -> Finding:
    shown = first_difference(pairs, "serve", tokenizer, serving.tokenizer)
    opens = _opens_thinking(tokenizer, serving, found)
    what = (
        "serving opens a thinking block that no training row has"
        if opens
        else "serving renders prompts otherwise than training"
    )
    return Finding(
        f"{what} on {counts(pairs)}; {shown}",
        at=_place(job, serving),
        fix="send the switches that training has, or train on rows that begin with thinking"
        if opens
        else _remedy(tokenizer, serving),
    )


def _opens_thinking(tokenizer: Tokenizer, serving: ServingSide, found: Sequence[Talk]) -> bool:
    """Whether every prompt is the trained one with a thinking block opened behind it."""
    more = []
    for talk in found:
        ours, theirs = prompt_as_trained(tokenizer, talk).text, prompt_as_sent(serving, talk).text
        if ours is not None and theirs is not None:
            more.append(theirs.removeprefix(ours) if theirs.startswith(ours) else "")
    return bool(more) and all(one.strip().startswith(THINK) for one in more)


def _remedy(tokenizer: Tokenizer, serving: ServingSide) -> str:
    if serving.tokenizer is tokenizer and tokenizer.training_template != tokenizer.chat_template:
        return (
            "training applies TRL's own version of the template, which has markers: name that version in"
            " model.chat_template, so that it is saved and served too"
        )
    return (
        "serve with the training template: it is saved beside the adapter as chat_template.jinja;"
        " send the switches (chat_template_kwargs) that training has"
    )


def _place(job: Job, serving: ServingSide) -> Location:
    """The serving setting that most likely makes the difference."""
    stated = {
        "chat_template": job.serving.chat_template is not None,
        "chat_template_kwargs": bool(serving.switches),
        "tokenizer": job.serving.tokenizer is not None,
    }
    return job.at("serving." + next((key for key, there in stated.items() if there), "chat_template"))


def _gold_differs(job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]) -> Finding:
    shown = first_difference(pairs, "gold", tokenizer, serving.tokenizer)
    count = sum(pair.differs for pair in pairs)
    return Finding(
        f"{count} of {len(pairs)} gold prompts are rendered otherwise than training renders them; {shown}",
        at=job.at("data.gold"),
        fix="ask the gold questions as training renders them: same template and switches",
    )


def _date(job: Job, tokenizer: Tokenizer, count: int, total: int) -> Finding:
    switch = "date_string" in (tokenizer.training_template or "")
    pin = (
        "give every row the same date_string as a template switch, and serve with it"
        if switch
        else ("write a fixed date into a copy of the template, and name it in model.chat_template")
    )
    return Finding(
        f"the template writes today's date: {count} of {total} conversations come out otherwise on another"
        " day, so what is served is not what was trained",
        Severity.WARNING,
        at=job.at("model.chat_template"),
        fix=pin,
    )


def _lock_differs(job: Job, tokenizer: Tokenizer, lock: Lock | None) -> Iterator[Finding]:
    """Another template than the locked one: an error where it renders conversations otherwise."""
    if lock is None or lock.job is None or template_digest(tokenizer) == lock.job.template:
        return
    held = lock.job.conversations
    now = {one.name: conversation_ids(tokenizer, one.messages) for one in CONVERSATIONS}
    other = [name for name, ids in now.items() if ids != held.get(name)]
    what = f"another chat template than when the policy was locked ({lock.path})"
    again = "go back to the locked template; if the change is meant: ftcheck lock POLICY"
    if other:
        words = f'{len(other)} of {len(now)} built-in conversations have other ids, the first "{other[0]}"'
        yield Finding(f"{what}: {words}", at=job.at("model.chat_template"), fix=again)
    else:
        words = "it gives the same ids on the built-in conversations"
        yield Finding(f"{what}: {words}", Severity.INFO, at=job.at("model.chat_template"), fix=again)
