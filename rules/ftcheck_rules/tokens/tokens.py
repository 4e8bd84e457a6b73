"""Token rules: do all sides of a job turn the same words into the same ids?"""

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
from ftcheck.lock import Lock, LockedJob, conversation_ids, special_of, template_digest
from ftcheck.probe_texts import (
    CONVERSATIONS,
    PROBES,
    Pair,
    counts,
    first_difference,
)
from ftcheck_rules.template.renderings import (
    Talk,
    gold_set,
    prompt_as_trained,
    talks,
)
from ftcheck_rules.template.templates import training_text

FILE_ENGINES = frozenset({"tgi", "llama.cpp", "ollama"})
"""Engines that go by tokenizer.json (or what they make of it), not by transformers' class."""

HARDLY_ROWS = frozenset(p.name for p in PROBES if p.text[0].isspace() or "control tokens" in p.name)
"""Plain probes as rows hardly are: a prefix space alone makes them differ. Rendered ones tell of rows."""

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
    """Training, serving and the gold set turn the same words into the same token ids.

    The tuned model sees a prompt at serving that it never saw in training: it answers like the model it
    was before, and no error says so. A library's new version can do the same overnight.

    64 built-in texts, some conversations and the sample rows' prompts, as training renders them, are
    tokenised on each side; other words are `template-parity`'s. What transformers makes of the files is
    also held against what tokenizer.json says by itself, on whole rows: a warning, or an error where the
    server goes by that file; only noted where just texts that begin with white space or hold control tokens
    differ. Where `ftcheck lock` wrote a lock, the built-in texts must have its ids. Of a
    tokenizer of the Mistral family, ids with and without transformers' mended regex are compared. Long
    sample rows are left out once 200,000 tokens are compared. No parameters.
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
        message = "the gold set was not compared: it does not open, or holds nothing"
        yield Finding(message, Severity.INFO, at=job.at("data.gold"))


def _measured(
    found: Sequence[Talk],
    file: Sequence[Pair],
    served: Sequence[Pair],
    gold: Sequence[Pair],
    golden: Sequence[Pair],
) -> Iterator[Measurement | Summary]:
    """A probe or a row is different if any side has other ids than training."""
    probes = len(PROBES) + sum(talk.probe is not None for talk in found)
    rows = sum(talk.probe is None for talk in found)
    unequal = [pair for pair in (*file, *served, *golden) if pair.differs]
    yield Measurement("probes", probes, unit="probes")
    yield Measurement("rows_compared", rows, unit="rows")
    yield Measurement("probes_different", len({p.probe for p in unequal if p.probe}), "probes", limit="0")
    yield Measurement("rows_different", len({p.at for p in unequal if p.at}), "rows", limit="0")
    yield Measurement("served_rows_different", sum(p.differs and p.at is not None for p in served), "rows")
    if golden:
        yield Measurement("locked_different", sum(pair.differs for pair in golden), "probes", limit="0")
    if gold:
        yield Measurement("gold_different", sum(pair.differs for pair in gold), "questions", limit="0")
    sides = " = ".join(["train", *["lock"] * bool(golden), *["gold"] * bool(gold), "serve"])
    equal = not unequal and not any(pair.differs for pair in gold)
    yield Summary(f"{sides if equal else 'not the same ids everywhere'}, {probes} probes, {rows:,} rows")


def _plain(encode: Encode, other: Encode) -> Iterator[Pair]:
    """The built-in texts on two sides; nothing where the other side has no ids to give."""
    for probe in PROBES:
        ids, others = encode(probe.text), other(probe.text)
        if ids is not None and others is not None:
            yield Pair(ids, others, probe=probe.name)


def _whole(tokenizer: Tokenizer, other: Encode, found: Sequence[Talk]) -> Iterator[Pair]:
    """Whole conversations as training renders them: transformers' ids, and those of another reading."""
    for talk in found:
        try:
            text = training_text(tokenizer, talk.messages, **talk.switches)
        except InputError:
            continue
        others = other(text)
        if others is not None:
            yield Pair(tokenizer.encode(text), others, talk.probe, talk.at)


def _served_ids(job: Job, tokenizer: Tokenizer, serving: ServingSide) -> Encode:
    """How the server tokenises: by tokenizer.json alone where its engine does, if it has files of its own."""
    side = serving.tokenizer

    def by_file(text: str) -> Sequence[int]:
        found = side.reference(text)
        return side.encode(text) if found is None else found

    return by_file if job.serving.engine in FILE_ENGINES and side is not tokenizer else side.encode


def _prompts(
    tokenizer: Tokenizer, serving: ServingSide, encode: Encode, found: Sequence[Talk]
) -> Iterator[Pair]:
    """Each prompt as training renders it, tokenised by training and by the server."""
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
        f"serving turns the same words into other ids than training on {counts(pairs)}; {shown}",
        at=job.at("serving.engine" if by_engine else "serving.tokenizer"),
        fix=f"serve the tokenizer that training has: {tokenizer.path}",
    )


def _lock_differs(
    job: Job, tokenizer: Tokenizer, lock: Lock | None, packages: Packages, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    """Other ids than the lock holds, under which versions; versions alone are worth knowing."""
    if lock is None:
        return
    place = job.at(_model_key(job))
    if lock.job is None:
        message = f"the lock {lock.path} does not know this job: nothing was compared with it"
        yield Finding(message, Severity.INFO, at=place, fix="write it again: ftcheck lock POLICY")
        return
    versions = _versions(lock, packages)
    again = "go back to the versions and files of the lock; if the change is meant: ftcheck lock POLICY"
    if any(pair.differs for pair in pairs):
        shown = first_difference(pairs, "lock", tokenizer, tokenizer)
        yield Finding(
            f"other ids than when the policy was locked on {counts(pairs)} ({versions}); {shown}",
            at=place,
            fix=again,
        )
        return
    now = special_of(tokenizer)
    then = lock.job.special
    other = [f"{name} {one} -> {now[name]}" for name, one in then.items() if now.get(name, one) != one]
    if other:
        yield Finding(
            f"other special ids than when the policy was locked: {', '.join(other)} ({versions})",
            at=place,
            fix=again,
        )
    elif "->" in versions:
        message = f"other library versions than when the policy was locked, and the same ids: {versions}"
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
            f"{count} of {len(pairs)} gold prompts have other ids than training gives them; {shown}",
            at=job.at("data.gold"),
            fix=f"ask the gold questions with the tokenizer that training has: {tokenizer.path}",
        )


def _file_differs(
    job: Job, tokenizer: Tokenizer, serving: ServingSide, pairs: Sequence[Pair]
) -> Iterator[Finding]:
    if not any(pair.differs for pair in pairs):
        return
    by_file = job.serving.engine in FILE_ENGINES and serving.tokenizer is tokenizer
    who = f" ({job.serving.engine} goes by tokenizer.json)" if by_file else ""
    shown = first_difference(pairs, "json", tokenizer, tokenizer)
    usual = (
        Severity.INFO
        if all(pair.probe in HARDLY_ROWS for pair in pairs if pair.differs)
        else Severity.WARNING
    )
    what = f"transformers ({tokenizer.class_name}) gives other ids than tokenizer.json"
    yield Finding(
        f"{what} on {counts(pairs)}{who}; {shown}",
        Severity.ERROR if by_file else usual,
        at=job.at("serving.engine" if by_file else _model_key(job)),
        fix="put the model's config.json beside the tokenizer files if it is missing, and the right"
        " tokenizer_class into tokenizer_config.json: by these transformers takes its class; else serve the"
        " tokenizer that training saves, whose tokenizer.json agrees",
    )


def _regex_differs(job: Job, tokenizer: Tokenizer, found: Sequence[Talk]) -> Iterator[Finding]:
    """The Mistral family's regex, mended or not: told only where ids of this job change."""
    mended = tokenizer.with_fixed_regex()
    if mended is None:
        return
    pairs = [*_plain(tokenizer.encode, mended.encode), *_whole(tokenizer, mended.encode, found)]
    if any(pair.differs for pair in pairs):
        shown = first_difference(pairs, "fixed", tokenizer, mended)
        yield Finding(
            f"the regex of this Mistral tokenizer is the wrong one: with transformers' fix_mistral_regex,"
            f" ids differ on {counts(pairs)}; {shown}",
            Severity.WARNING,
            at=job.at(_model_key(job)),
            fix='put "fix_mistral_regex": true into tokenizer_config.json, or take the tokenizer.json that'
            " mistralai publishes now; in training and in serving alike",
        )
