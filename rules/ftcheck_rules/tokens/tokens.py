"""Token rules: do training, serving and the gold set tokenise the same text to the same ids?"""

from collections.abc import Callable, Iterator, Sequence

from ftcheck import (
    Finding,
    InputError,
    Inputs,
    Job,
    Measurement,
    Packages,
    Sample,
    ServingSide,
    Severity,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.probe_texts import (
    CONVERSATIONS,
    PROBES,
    Pair,
    counts,
    first_difference,
)
from ftcheck.lock import Lock, LockedJob, conversation_ids, special_of, template_digest
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import NotOfRows
from ftcheck_rules.template.renderings import (
    Talk,
    gold_set,
    prompt_as_trained,
    talks,
)
from ftcheck_rules.template.templates import training_text

FILE_ENGINES = frozenset({"tgi", "llama.cpp", "ollama"})
"""Engines that read tokenizer.json (or convert it), not transformers' tokenizer class."""

HARDLY_ROWS = frozenset(p.name for p in PROBES if p.text[0].isspace() or "control tokens" in p.name)
"""Plain probes unlike rows: a prefix space alone makes them differ. Rendered probes stand for rows."""

Encode = Callable[[str], Sequence[int] | None]


@rule("tokenizer-parity", family="tokens", cases="ftcheck_rules.tokens.cases.tokens")
def tokenizer_parity(
    job: Job,
    tokenizer: Tokenizer,
    serving: ServingSide,
    sample: Sample,
    lock: Lock | None,
    packages: Packages,
    inputs: Inputs,
) -> Iterator[Yield]:
    """Training, serving and the gold set tokenise the same text to the same token ids.

    In serving, the tuned model sees a prompt that it never saw in training, and answers like the base model,
    without any error. A new library version can cause the same overnight.

    64 built-in texts, some conversations and the sample rows' prompts, as training renders them, are
    tokenised on each side; different text is reported by `template-parity`. The ids of transformers are also
    compared with those of tokenizer.json alone, on whole rows: a difference is a warning, an error where the
    server reads that file, and `info` where only texts that start with whitespace or contain control tokens
    differ. Where `ftcheck lock` wrote a lock, the built-in texts must have its ids. For tokenizers of the
    Mistral family, the ids with and without transformers' fix_mistral_regex are compared. Long sample rows
    are skipped once 200,000 tokens have been compared. No parameters.
    """
    found = talks(sample)
    encode = _served_ids(job, tokenizer, serving)
    file = [*_plain(tokenizer.encode, tokenizer.reference), *_whole(tokenizer, tokenizer.reference, found)]
    served = [*_plain(tokenizer.encode, encode), *_prompts(tokenizer, serving, encode, found)]
    held = gold_set(job, inputs).items if found else ()
    gold = [Pair(tokenizer.encode(one.prompt), one.prompt_ids, at=one.at) for one in held]
    golden = list(_golden(tokenizer, lock.job)) if lock is not None and lock.job is not None else []
    yield from _measured(found, file, served, gold, golden)
    yield from _serving_differs(job, tokenizer, serving, served)
    yield from _lock_differs(job, tokenizer, lock, packages, golden)
    yield from _gold_differs(job, tokenizer, serving, gold)
    yield from _file_differs(job, tokenizer, serving, file)
    yield from _regex_differs(job, tokenizer, found)
    if found and job.data.gold is not None and not gold:
        message = "the gold set was not compared: it cannot be read, or is empty"
        yield Finding(message, Severity.INFO, at=job.at("data.gold"))


def _measured(
    found: Sequence[Talk],
    file: Sequence[Pair],
    served: Sequence[Pair],
    gold: Sequence[Pair],
    golden: Sequence[Pair],
) -> Iterator[Measurement | Summary]:
    """A probe or a row is different if any side has different ids than training."""
    probes = len(PROBES) + sum(talk.probe is not None for talk in found)
    rows = sum(talk.probe is None for talk in found)
    unequal = [pair for pair in (*file, *served, *golden) if pair.differs]
    yield Measurement("probes", probes, unit="probes", statistic=NotOfRows())
    yield Measurement("rows_compared", rows, unit="rows")
    of_probes, differing = NotOfRows(), len({p.probe for p in unequal if p.probe})
    yield Measurement("probes_different", differing, "probes", limit="0", statistic=of_probes)
    yield Measurement("rows_different", len({p.at for p in unequal if p.at}), "rows", limit="0")
    yield Measurement("served_rows_different", sum(p.differs and p.at is not None for p in served), "rows")
    if golden:
        differing = sum(pair.differs for pair in golden)
        yield Measurement("locked_different", differing, "probes", limit="0", statistic=of_probes)
    if gold:
        differing = sum(pair.differs for pair in gold)
        yield Measurement("gold_different", differing, "questions", limit="0", statistic=of_probes)
    sides = " = ".join(["train", *["lock"] * bool(golden), *["gold"] * bool(gold), "serve"])
    equal = not unequal and not any(pair.differs for pair in gold)
    said = f"{counted(probes, 'probe')}, {counted(rows, 'row')}"
    yield Summary(f"{sides if equal else 'token ids differ'}, {said}")


def _plain(encode: Encode, other: Encode) -> Iterator[Pair]:
    """The built-in texts on two sides; nothing where the other side gives no ids."""
    for probe in PROBES:
        ids, others = encode(probe.text), other(probe.text)
        if ids is not None and others is not None:
            yield Pair(ids, others, probe=probe.name)


def _whole(tokenizer: Tokenizer, other: Encode, found: Sequence[Talk]) -> Iterator[Pair]:
    """Whole conversations as training renders them: transformers' ids, and those of another tokenizer."""
    for talk in found:
        try:
            text = training_text(tokenizer, talk.messages, **talk.switches)
        except InputError:
            continue
        others = other(text)
        if others is not None:
            yield Pair(tokenizer.encode(text), others, talk.probe, talk.at)


def _served_ids(job: Job, tokenizer: Tokenizer, serving: ServingSide) -> Encode:
    """How the server tokenises: with tokenizer.json alone where its engine does, if it has its own files."""
    side = serving.tokenizer

    def by_file(text: str) -> Sequence[int]:
        found = side.reference(text)
        return side.encode(text) if found is None else found

    return by_file if job.serving.engine in FILE_ENGINES and side is not tokenizer else side.encode


def _prompts(
    tokenizer: Tokenizer, serving: ServingSide, encode: Encode, found: Sequence[Talk]
) -> Iterator[Pair]:
    """Each prompt as training renders it, tokenised for training and by the server."""
    for talk in found:
        text = prompt_as_trained(tokenizer, talk).text
        if text is not None:
            same = serving.tokenizer is tokenizer
            ids, others = ((), ()) if same else (tokenizer.encode(text), encode(text) or ())
            yield Pair(ids, others, talk.probe, talk.at)


def _golden(tokenizer: Tokenizer, locked: LockedJob) -> Iterator[Pair]:
    """The built-in texts, and where the template is the locked one the conversations: ids now and then."""
    for probe in PROBES:
        if probe.name in locked.probes:
            yield Pair(tokenizer.encode(probe.text), locked.probes[probe.name], probe=probe.name)
    if template_digest(tokenizer) != locked.template:
        return
    for one in CONVERSATIONS:
        ids = conversation_ids(tokenizer, one.messages)
        if ids is not None and one.name in locked.conversations:
            yield Pair(ids, locked.conversations[one.name], probe=one.name)


def _serving_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    if not any(pair.differs for pair in pairs):
        return
    shown = first_difference(pairs, "serve", tokenizer, serving.tokenizer)
    by_engine = job.serving.tokenizer is None and job.serving.engine in FILE_ENGINES
    yield Finding(
        f"serving tokenises the same text to different ids than training on {counts(pairs)}; {shown}",
        at=job.at("serving.engine" if by_engine else "serving.tokenizer"),
        fix=f"serve with the training tokenizer: {tokenizer.path}",
    )


def _lock_differs(
    job: Job, tokenizer: Tokenizer, lock: Lock | None, packages: Packages, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    """Different ids than in the lock, and the library versions; versions alone are worth knowing."""
    if lock is None:
        return
    place = job.at(_model_key(job))
    if lock.job is None:
        message = f"the lock {lock.path} does not contain this job: nothing was compared with it"
        yield Finding(message, Severity.INFO, at=place, fix="write the lock again: ftcheck lock POLICY")
        return
    versions = _versions(lock, packages)
    again = "restore the versions and files of the lock; if the change is intended: ftcheck lock POLICY"
    why = "A library upgrade or another file changed the ids since the policy was locked."
    if any(pair.differs for pair in pairs):
        shown = first_difference(pairs, "lock", tokenizer, tokenizer)
        yield Finding(
            f"the ids differ from those in the lock on {counts(pairs)}, with {versions}; {shown}",
            at=place,
            fix=again,
            why=why,
        )
        return
    now = special_of(tokenizer)
    then = lock.job.special
    other = [f"{name} {one} -> {now[name]}" for name, one in then.items() if now.get(name, one) != one]
    if other:
        yield Finding(
            f"the special token ids differ from those in the lock: {', '.join(other)} ({versions})",
            at=place,
            fix=again,
            why=why,
        )
    elif "->" in versions:
        message = f"the library versions differ from those in the lock, the ids are the same: {versions}"
        yield Finding(message, Severity.INFO, at=place)


def _versions(lock: Lock, packages: Packages) -> str:
    """`transformers 5.22.0 -> 5.23.0, tokenizers 0.23.3`."""
    found = []
    for name, then in sorted(lock.versions.items()):
        now = packages.versions.get(name)
        found.append(f"{name} {then}" if now == then else f"{name} {then} -> {now}")
    return ", ".join(found) or "versions unknown"


def _model_key(job: Job) -> str:
    return "model.tokenizer" if job.model.tokenizer else "model.name"


def _gold_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    if any(pair.differs for pair in pairs):
        shown = first_difference(pairs, "gold", tokenizer, serving.tokenizer)
        count = sum(pair.differs for pair in pairs)
        yield Finding(
            f"{count} of {counted(len(pairs), 'gold prompt')} {agreeing(count, 'has', 'have')} different ids"
            f" than in training; {shown}",
            at=job.at("data.gold"),
            fix=f"tokenise the gold questions with the training tokenizer: {tokenizer.path}",
            why="The evaluation asks the model with token ids that it was not trained on.",
        )


def _file_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    if not any(pair.differs for pair in pairs):
        return
    by_file = job.serving.engine in FILE_ENGINES and serving.tokenizer is tokenizer
    who = f" ({job.serving.engine} reads tokenizer.json)" if by_file else ""
    shown = first_difference(pairs, "json", tokenizer, tokenizer)
    usual = (
        Severity.INFO
        if all(pair.probe in HARDLY_ROWS for pair in pairs if pair.differs)
        else Severity.WARNING
    )
    what = f"transformers ({tokenizer.class_name}) gives different ids than tokenizer.json"
    yield Finding(
        f"{what} on {counts(pairs)}{who}; {shown}",
        Severity.ERROR if by_file else usual,
        at=job.at("serving.engine" if by_file else _model_key(job)),
        fix="put the model's config.json beside the tokenizer files if it is missing, and set the right"
        " tokenizer_class in tokenizer_config.json (transformers chooses its class by these); otherwise serve"
        " the tokenizer that training saves, whose tokenizer.json agrees",
        why="Programs that read tokenizer.json see different ids than training does.",
    )


def _regex_differs(job: Job, tokenizer: Tokenizer, found: Sequence[Talk]) -> Iterator[Finding]:
    """The Mistral family's regex, fixed or not: reported only where ids of this job change."""
    fixed = tokenizer.with_fixed_regex()
    if fixed is None:
        return
    pairs = [*_plain(tokenizer.encode, fixed.encode), *_whole(tokenizer, fixed.encode, found)]
    if any(pair.differs for pair in pairs):
        shown = first_difference(pairs, "fixed", tokenizer, fixed)
        yield Finding(
            f"this Mistral tokenizer has the incorrect regex: with transformers' fix_mistral_regex,"
            f" the ids differ on {counts(pairs)}; {shown}",
            Severity.WARNING,
            at=job.at(_model_key(job)),
            fix='set "fix_mistral_regex": true in tokenizer_config.json, or use the tokenizer.json that'
            " mistralai publishes now; the same in training and in serving",
            why="The model was pretrained with the correct regex: it splits these texts differently.",
        )
