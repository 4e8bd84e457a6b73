"""Template parity: do training, serving and the gold set render a conversation to the same text?"""

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
from ftcheck.inputs import thinking
from ftcheck.inputs.evaluation import GoldItem
from ftcheck.inputs.probe_texts import (
    CONVERSATIONS,
    Pair,
    counts,
    first_difference,
)
from ftcheck.lock import Lock, conversation_ids, template_digest
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import NotOfRows
from ftcheck_rules.template.renderings import (
    Talk,
    gold_set,
    other_words,
    prompt_as_sent,
    prompt_as_trained,
    talks,
)

DATED = 20
"""How many conversations are rendered for two dates."""


@rule("template-parity", family="template", cases="ftcheck_rules.template.cases.parity")
def template_parity(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, sample: Sample, lock: Lock | None, inputs: Inputs
) -> Iterator[Yield]:
    """Training and serving render the same conversation to the same text, today and tomorrow.

    In serving, the tuned model is prompted with text that it never saw in training, and answers like the base
    model: another template on the server, a switch that opens a thinking block, today's date in every prompt.
    There is no error message.

    Built-in conversations, the sample rows' prompts and the gold questions are rendered as training does and
    as the server will, with the template switches that requests send. A served prompt may continue as the row
    itself does, or as a tenth of the rows do, where it differs in a thinking block alone. Twenty
    conversations are rendered for two dates. Where `ftcheck lock` wrote a lock, the template must give its
    ids. Skipped for plain text. No parameters.
    """
    found = talks(sample)
    pairs = list(other_words(tokenizer, serving, found))
    if not pairs:
        why = (
            "neither training nor serving can render a conversation: see the check `chat-template`"
            if found
            else "the rows are plain text, to which no template is applied"
        )
        yield Skip(why)
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
    yield Measurement("probes", len(probes), unit="conversations", statistic=NotOfRows())
    yield Measurement("rows_compared", len(rows), unit="rows")
    yield Measurement("probes_different", sum(probes), "conversations", limit="0", statistic=NotOfRows())
    yield Measurement("rows_different", sum(rows), "rows", limit="0")
    yield Measurement("changing_with_date", len(days), "conversations", limit="0", statistic=NotOfRows())
    if gold:
        differing = sum(pair.differs for pair in gold)
        yield Measurement("gold_different", differing, "questions", limit="0", statistic=NotOfRows())
    sides = "train = gold = serve" if gold else "train = serve"
    equal = not any(pair.differs for pair in (*pairs, *gold))
    said = f"{counted(len(probes), 'conversation')}, {counted(len(rows), 'row')}"
    yield Summary(f"{sides if equal else 'rendered text differs'}, {said}")


def _gold_pair(tokenizer: Tokenizer, item: GoldItem) -> Pair:
    """A gold question: as training renders it, and as the gold set contains it."""
    switches = {} if item.tools is None else {"tools": item.tools}
    ours = prompt_as_trained(tokenizer, Talk(item.messages, item.messages, switches, at=item.at))
    if ours.text is None:
        return Pair(at=item.at, problem=ours.problem)
    if ours.text == item.prompt:
        return Pair(at=item.at)
    return Pair(tokenizer.encode(ours.text), item.prompt_ids, at=item.at)


def _dated(found: Sequence[Talk]) -> Sequence[Talk]:
    """What is rendered for two dates: rows, which may pin a date by their own switches, else probes."""
    rows = [talk for talk in found if talk.probe is None]
    return (rows or found)[:DATED]


def _serving_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, found: Sequence[Talk], pairs: Sequence[Pair]
) -> Finding:
    shown = first_difference(pairs, "serve", tokenizer, serving.tokenizer)
    opens = _opens_thinking(tokenizer, serving, found)
    what = (
        f"serving {'puts an empty' if opens == 'empty' else 'opens a'} thinking block that no row has"
        if opens
        else "serving leaves out the reasoning of earlier turns, which training keeps"
        if _drops_history(tokenizer, serving, found)
        else "serving renders prompts differently than training"
    )
    return Finding(
        f"{what}, on {counts(pairs)}; {shown}",
        at=job.at("serving.chat_template_kwargs") if opens else _place(job, tokenizer, serving),
        fix="send the template switches of training (serving.chat_template_kwargs), or train on rows that"
        " start with reasoning"
        if opens
        else _remedy(tokenizer, serving),
        why="The model is asked in a mode of thinking that it was not trained in: its first tokens, and the"
        " format of its answers, are off."
        if opens
        else None,
    )


def _opens_thinking(tokenizer: Tokenizer, serving: ServingSide, found: Sequence[Talk]) -> str | None:
    """The thinking block, `open` or `empty`, that every prompt has behind the trained one; None without."""
    more = []
    for talk in found:
        ours, theirs = prompt_as_trained(tokenizer, talk).text, prompt_as_sent(serving, talk).text
        if ours is not None and theirs is not None:
            added = theirs.startswith(ours) and not thinking.without(theirs[len(ours) :])
            more.append(thinking.block_at_end(theirs) if added else None)
    return more[0] if more and all(more) else None


def _drops_history(tokenizer: Tokenizer, serving: ServingSide, found: Sequence[Talk]) -> bool:
    """Whether rows' prompts differ in nothing but the reasoning of earlier turns, which only training has."""
    differing = []
    for talk in found:
        ours, theirs = prompt_as_trained(tokenizer, talk).text, prompt_as_sent(serving, talk).text
        if talk.probe is None and ours is not None and theirs is not None and ours != theirs:
            differing.append(len(theirs) < len(ours) and thinking.same_but_thinking(theirs, ours))
    return bool(differing) and all(differing)


def _remedy(tokenizer: Tokenizer, serving: ServingSide) -> str:
    if serving.tokenizer is tokenizer and tokenizer.training_template != tokenizer.chat_template:
        return (
            "training applies TRL's own version of the template, which has generation markers: set"
            " model.chat_template to that version, so that it is saved and served too"
        )
    return (
        "serve with the training template, which is saved beside the adapter as chat_template.jinja, and set"
        " serving.chat_template_kwargs to the template switches of training"
    )


def _place(job: Job, tokenizer: Tokenizer, serving: ServingSide) -> Location:
    """The serving setting that most likely causes the difference: of one template, only the switches can."""
    own_template = tokenizer.training_template in (None, tokenizer.chat_template)
    usual = "chat_template_kwargs" if serving.tokenizer is tokenizer and own_template else "chat_template"
    stated = {
        "chat_template": job.serving.chat_template is not None,
        "chat_template_kwargs": bool(serving.switches),
        "tokenizer": job.serving.tokenizer is not None,
    }
    return job.at("serving." + next((key for key, there in stated.items() if there), usual))


def _gold_differs(job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]) -> Finding:
    shown = first_difference(pairs, "gold", tokenizer, serving.tokenizer)
    count = sum(pair.differs for pair in pairs)
    return Finding(
        f"{count} of {counted(len(pairs), 'gold prompt')} {agreeing(count, 'differs', 'differ')}"
        f" from the text that training renders; {shown}",
        at=job.at("data.gold"),
        fix="render the gold questions with the template and switches of training",
        why="The evaluation prompts the model with text that it was not trained on.",
    )


def _date(job: Job, tokenizer: Tokenizer, count: int, total: int) -> Finding:
    switch = "date_string" in (tokenizer.training_template or "")
    pin = (
        "set the same date_string as a template switch in every row and in serving.chat_template_kwargs"
        if switch
        else "write a fixed date into a copy of the template, and set model.chat_template to it"
    )
    return Finding(
        f"the template writes today's date: {count} of {counted(total, 'conversation')}"
        f" {agreeing(count, 'changes', 'change')} with the date",
        Severity.WARNING,
        at=job.at("model.chat_template"),
        fix=pin,
        why="Prompts served on another day differ from those of training, and the ids are not reproducible.",
    )


def _lock_differs(job: Job, tokenizer: Tokenizer, lock: Lock | None) -> Iterator[Finding]:
    """A template other than the locked one: an error where it renders conversations differently."""
    if lock is None or lock.job is None or template_digest(tokenizer) == lock.job.template:
        return
    held = lock.job.conversations
    now = {one.name: conversation_ids(tokenizer, one.messages) for one in CONVERSATIONS}
    other = [name for name, ids in now.items() if ids != held.get(name)]
    what = f"the chat template is not the one in the lock ({lock.path})"
    again = "restore the locked template; if the change is intended: ftcheck lock POLICY"
    if other:
        differ = agreeing(len(other), "has", "have")
        words = (
            f'{len(other)} of {len(now)} built-in conversations {differ} different ids, first "{other[0]}"'
        )
        why = "The template has changed since the policy was locked: the model learns another format."
        yield Finding(f"{what}: {words}", at=job.at("model.chat_template"), fix=again, why=why)
    else:
        words = "it gives the same ids for the built-in conversations"
        yield Finding(f"{what}: {words}", Severity.INFO, at=job.at("model.chat_template"), fix=again)
