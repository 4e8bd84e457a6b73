"""Rows that another program prepared: are they of this tokenizer, these settings and this data?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import groupby, islice

from ftcheck import (
    Finding,
    InputError,
    Inputs,
    Job,
    Measurement,
    Prepared,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.prepared_folder import StoredRows
from ftcheck.paths import near
from ftcheck.plurals import agreeing, counted
from ftcheck_rules.prepared.compared import UNSEEN, Compared, newer
from ftcheck_rules.prepared.difference_words import AGAIN
from ftcheck_rules.prepared.row_pairs import Side, pairs

READ_BACK = 20
"""Rows whose ids are decoded and encoded again."""
OF_EACH = 256
"""Tokens of each of them."""
LEAST = 8
"""Shorter runs of tokens between special ones say little of how they were encoded."""
SAME_TOKENIZER = 0.95
"""Least likeness of ids that are decoded and encoded again. With the right tokenizer 1.000, with another one
0.00 to 0.94 (8 tokenizers against each other); 0.98 for messages encoded one by one, 0.76 for sentences.
"""
LEAKED = 0.05
"""Of the evaluation rows so many may be training rows too until it is an error, as in `leakage`."""
OWN_CUT = ("trl", None)
"""Whose folders are cut to training.max_length when they are trained: of TRL's, and of unknown ones."""


@rule(
    "prepared-data",
    family="data",
    cases="ftcheck_rules.prepared.cases.prepared_data",
    only=("data.prepared",),
)
def prepared_data(job: Job, tokenizer: Tokenizer, prepared: Prepared, inputs: Inputs) -> Iterator[Yield]:
    """The rows of data.prepared are of this tokenizer, this data and these settings.

    A trainer takes a folder of prepared rows as it is, whatever the configuration says: rows of yesterday's
    data, of another template, without a stop token or with the questions in the loss are trained silently.

    The ids must be in the tokenizer's vocabulary and read as text. Labels are compared with ids (-100 is
    ignored), evaluation rows with training rows. Where data.train is set too, it is prepared as TRL prepares
    it, and both preparations are compared row by row: rows are recognised by their content, so that dropped,
    added and shuffled ones do not matter. Differences are told by kind (BOS, stop tokens, header tokens or
    line breaks in the loss, cut rows, another template), with the number of rows and the first one. The
    folder is what is trained: a difference is a warning, and an error where the folder holds other data. No
    parameters.
    """
    stored = prepared.stored
    if stored is None:
        yield Skip("data.prepared is not set")
        return
    yield from _read(job, prepared, stored)
    yield from _settings(job, prepared, stored, inputs)
    said = f"{counted(len(prepared), 'row')}{f' ({stored.framework})' if stored.framework else ''}"
    outside = _outside(tokenizer, prepared)
    if outside is not None:
        yield outside
        yield Summary(said)
        return
    yield from _other_tokenizer(job, tokenizer, prepared)
    evaluated = _evaluation(inputs)
    if evaluated is not None and evaluated.stored is not None:
        yield from _all_trained(job, evaluated, evaluated.stored, "the evaluation rows")
        yield from _evaluates_trained(tokenizer, prepared, evaluated)
        outside = _outside(tokenizer, evaluated)
        if outside is not None:
            yield outside
            evaluated = None
    own, why = _own(job, inputs)
    if own is None:
        yield from _not_compared(job, stored, why)
        yield Summary(f"{said} · {why}")
        return
    here, there = Side(own, tokenizer), Side(prepared, tokenizer)
    found = pairs(here, there, job.training.max_length)
    if evaluated is not None and len(found.missing):
        held_out = pairs(here.only(found.missing), Side(evaluated, tokenizer), job.training.max_length)
        found = replace(found, missing=found.missing[held_out.missing], held_out=held_out.found)
    asked = job.training.assistant_only_loss
    labels = own.masked or not (prepared.masked or asked)
    told = Compared(job, tokenizer, here, there, found, labels=labels)
    yield from told.measured()
    yield Summary(f"{said} · {told.in_words()}")
    yield from told.findings(stored)
    if not labels:
        why = "TRL has no mask for this template" if asked else "training.assistant_only_loss is not set"
        message = f"labels were not compared, the ids alone: {why}"
        yield Finding(message, Severity.INFO, at=job.at("data.prepared"))


def _evaluation(inputs: Inputs) -> Prepared | None:
    """The folder's evaluation rows, if it has any."""
    try:
        found: Prepared | None = inputs.get("prepared_eval") if inputs.has("prepared_eval") else None
    except InputError:
        return None
    return found if found is not None and found.stored is not None else None


def _evaluates_trained(tokenizer: Tokenizer, prepared: Prepared, evaluated: Prepared) -> Iterator[Finding]:
    """Evaluation rows with the ids of a training row."""
    here, there = Side(prepared, tokenizer), Side(evaluated, tokenizer)
    trained = here.known(there)
    if not len(trained):
        return
    severity = Severity.ERROR if len(trained) > LEAKED * len(there) else Severity.WARNING
    message = (
        f"{len(trained):,} of {counted(len(there), 'evaluation row')} of the folder"
        f" {agreeing(len(trained), 'is a training row', 'are training rows')} too"
    )
    why = "The evaluation loss falls on rows that were learnt, and says little of others."
    at = evaluated.at(int(there.rows[trained[0]]))
    yield Finding(message, severity, at=at, fix=f"{AGAIN} with rows held out", why=why)


def _own(job: Job, inputs: Inputs) -> tuple[Prepared | None, str]:
    """Ftcheck's own preparation of data.train; or why there is none to compare with."""
    if job.data.train is None:
        return None, "data.train is not set, so nothing to compare with"
    try:
        own: Prepared | None = inputs.get("prepared_here")
    except InputError as error:
        return None, f"not compared with data.train: {error.problems[0].message}"
    if own is None or len(own.row_errors) == len(own):
        first = next(iter(own.row_errors.values())).message if own is not None and len(own) else "no rows"
        return None, f"not compared with data.train: {first}"
    return own, ""


def _read(job: Job, prepared: Prepared, stored: StoredRows) -> Iterator[Finding | Measurement]:
    """How the folder's labels and packed rows were read, and what is odd about them."""
    yield Measurement("sequences", len(prepared), unit="sequences")
    yield Measurement("packed_rows", len(stored.blocks) if stored.blocks is not None else 0, unit="rows")
    yield Measurement("padding", stored.padding, unit="tokens")
    if stored.shifted:
        message = "the labels are stored one place to the left of their tokens, and were moved back"
        yield Finding(message, Severity.INFO, at=job.at("data.prepared"))
    if stored.blocks is not None and stored.apart in ("BOS", "EOS"):
        message = f"no column tells where a sequence begins in packed rows: {stored.apart} was taken for it"
        yield Finding(message, Severity.INFO, at=job.at("data.prepared"))
    for rows, severity, what, fix, why in (
        (
            stored.displaced,
            Severity.ERROR,
            "labels most of which are other tokens than those in their places",
            f"check the program that wrote the labels, and {AGAIN}",
            "The model is trained to write other tokens than those that follow in the row.",
        ),
        (
            sorted(set(stored.other) - set(stored.displaced)),
            Severity.WARNING,
            "a label that is another token than the one in its place",
            f"check the program that wrote the labels, and {AGAIN}",
            "The model is trained to write a token that the row does not contain.",
        ),
        (
            stored.padded,
            Severity.WARNING,
            "padding in the loss",
            f"set labels to -100 where attention_mask is 0, and {AGAIN}",
            "The model learns to write padding.",
        ),
        (
            stored.hidden,
            Severity.WARNING,
            "tokens with an attention_mask of 0 that are no padding",
            f"set attention_mask to 1 for all tokens but padding, and {AGAIN}",
            "The model does not see these tokens, and the other checks leave them out.",
        ),
    ):
        if rows:
            have = agreeing(len(rows), "has", "have")
            message = f"{len(rows):,} of {counted(len(prepared), 'row')} {have} {what}"
            yield Finding(message, severity, at=prepared.at(rows[0]), fix=fix, why=why)


OTHER_TOKENIZER = (
    "The rows were prepared with another tokenizer: every id means something else to this model."
)


def _outside(tokenizer: Tokenizer, prepared: Prepared) -> Finding | None:
    """Ids that are not in the tokenizer's vocabulary."""
    used = prepared.tokens.used_ids()
    outside = used[used >= tokenizer.size]
    if not len(outside):
        return None
    rows = prepared.tokens.rows_with(outside.tolist())
    message = (
        f"{counted(len(rows), 'row')} {agreeing(len(rows), 'has', 'have')} ids outside the tokenizer's"
        f" vocabulary of {tokenizer.size:,} (up to {int(outside.max()):,})"
    )
    return Finding(message, at=prepared.at(int(rows[0])), fix=_with(tokenizer), why=OTHER_TOKENIZER)


def _with(tokenizer: Tokenizer) -> str:
    return f"{AGAIN}, with {near(tokenizer.path)}"


def _other_tokenizer(job: Job, tokenizer: Tokenizer, prepared: Prepared) -> Iterator[Finding | Measurement]:
    """Whether the ids are those that this tokenizer gives to their text."""
    share = _read_back(tokenizer, prepared)
    if share is None:
        return
    yield Measurement("read_back", round(share, 3), limit=f">= {SAME_TOKENIZER:g}")
    if share < SAME_TOKENIZER:
        ending = prepared.ends_in_stop.any()
        message = (
            f"decoded and encoded again, {100 * share:.0f} % of the ids stay as they are"
            f"{'' if ending else ', and no row ends in a stop token'}: the rows were prepared with another"
            f" tokenizer{', or in many small pieces' if ending else ''}"
        )
        severity = Severity.WARNING if ending else Severity.ERROR
        fix, at = _with(tokenizer), job.at("data.prepared")
        yield Finding(message, severity, at=at, fix=fix, why=OTHER_TOKENIZER)


def _read_back(tokenizer: Tokenizer, prepared: Prepared) -> float | None:
    """The share of ids that are the same after decoding and encoding; None where there is nothing to try.

    Where a tokenizer does not give back what it encoded itself, so much less is asked of the rows.
    """
    same = own = total = 0.0
    for row in islice(prepared.used.nonzero()[0].tolist(), READ_BACK):
        ids = prepared.tokens.ids(row)[:OF_EACH].tolist()
        for special, part in groupby(ids, lambda one: one in tokenizer.special_ids):
            words = list(part)
            if special or len(words) < LEAST:
                continue
            again = tokenizer.encode(tokenizer.show(words))
            same += len(words) * _likeness(words, again)
            own += len(words) * _likeness(again, tokenizer.encode(tokenizer.show(again)))
            total += len(words)
    return min(1.0, same / own) if own else 0.0 if total else None


def _likeness(one: Sequence[int], other: Sequence[int]) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _settings(job: Job, prepared: Prepared, stored: StoredRows, inputs: Inputs) -> Iterator[Finding]:
    """Settings of the policy that the folder contradicts, or that do not reach it."""
    yield from _elsewhere(job)
    yield from _loss(job, prepared, stored)
    yield from _lengths(job, prepared, stored)
    outliers = job.data.outliers
    if outliers is not None and outliers.action != "keep":
        message = "data.outliers has no effect on rows that are read prepared"
        fix = f"remove data.outliers, or {AGAIN} without the longest ones"
        yield Finding(message, Severity.WARNING, at=job.at("data.outliers"), fix=fix)
    if job.evaluates and inputs.has("prepared_eval") and inputs.get("prepared_eval") is None:
        message = f"eval_strategy is {job.training.eval_strategy}, but the folder has no evaluation rows"
        fix = "prepare the evaluation rows too (a split validation or test), or set data.eval"
        why = "The trainer raises when it is to evaluate, or evaluates nothing."
        yield Finding(message, at=job.at("training.eval_strategy"), fix=fix, why=why)


def _elsewhere(job: Job) -> Iterator[Finding]:
    """A LLaMA-Factory configuration that does not lead to the folder: it prepares the rows anew."""
    record = job.imported
    if record is None or record.framework != "llama-factory" or "data.prepared" in record.stated:
        return
    if job.trainer.use == "command":
        message = (
            f"{record.path} names no tokenized_path that is there: LLaMA-Factory prepares the rows itself"
        )
        fix = "set tokenized_path to the folder, or remove data.prepared"
        why = "The rows that were checked are not the rows that are trained."
        yield Finding(message, at=job.at("data.prepared"), fix=fix, why=why)


def _loss(job: Job, prepared: Prepared, stored: StoredRows) -> Iterator[Finding]:
    """A loss on answers alone that the policy asks for, and the folder does not have."""
    training = job.training
    if "completion_mask" in stored.columns and "labels" not in stored.columns:
        if not training.completion_only_loss:
            message = "the folder has completion_mask and no labels: TRL ignores it, and trains every token"
            fix = "set training.completion_only_loss: true, or store labels"
            at = job.at("training.completion_only_loss")
            yield Finding(message, at=at, fix=fix, why="The model also learns to write the questions.")
        return
    yield from _all_trained(job, prepared, stored, "the folder")


def _all_trained(job: Job, prepared: Prepared, stored: StoredRows, what: str) -> Iterator[Finding]:
    """Rows whose every token is in the loss, where the policy asks for answers alone."""
    training = job.training
    asked = "assistant_only_loss" if training.assistant_only_loss else None
    asked = asked or ("completion_only_loss" if training.completion_only_loss else None)
    if asked is None or not prepared.used.any():
        return
    fix = f"{AGAIN} with labels of -100 on the prompts, or set {asked}: false"
    why = "Labels are taken from the folder: the model also learns to write the questions."
    if not prepared.masked:
        message = f"training.{asked} is true, but every token of {what} is in the loss"
        yield Finding(message, at=job.at(f"training.{asked}"), fix=fix, why=why)
        return
    whole = (prepared.used & (prepared.trained == prepared.kept)).nonzero()[0]
    if job.data.train is not None or stored.blocks is not None or not len(whole):
        return  # the comparison tells it by row; a packed row may begin in the middle of an answer
    some = f"{len(whole):,} of {counted(len(prepared), 'row')} of {what}"
    message = f"training.{asked} is true, but every token of {some} is in the loss"
    yield Finding(message, Severity.WARNING, at=prepared.at(int(whole[0])), fix=fix, why=why)


def _lengths(job: Job, prepared: Prepared, stored: StoredRows) -> Iterator[Finding]:
    """Rows that are longer than max_length, where nothing will cut them; packed rows without packing."""
    limit = job.training.max_length
    longer = (prepared.length > (limit or 0)) & (limit is not None)
    if stored.framework not in OWN_CUT and longer.any():
        count = int(longer.sum())
        message = (
            f"{count:,} of {counted(len(prepared), 'row')} {agreeing(count, 'is', 'are')} longer than"
            f" training.max_length {limit}, up to {int(prepared.length.max()):,} tokens:"
            f" {stored.framework} does not cut prepared rows"
        )
        fix = f"set max_length to the length that the rows were prepared with, or {AGAIN}"
        why = "Memory and time are estimated for shorter rows than those that are trained."
        yield Finding(message, at=job.at("training.max_length"), fix=fix, why=why)
    if stored.blocks is not None and not job.training.packing:
        message = (
            f"the rows are packed: {len(prepared):,} sequences in {counted(len(stored.blocks), 'row')}, told"
            f" apart by {stored.apart}; training.packing is false"
        )
        fix = "set training.packing: true, and max_length to the length of a packed row"
        yield Finding(message, Severity.WARNING, at=job.at("training.packing"), fix=fix)


def _not_compared(job: Job, stored: StoredRows, why: str) -> Iterator[Finding]:
    """Data that is named to be compared with, and cannot be; the folder may be older than that."""
    if newer(job, stored):
        message = "data.train was changed after the folder was written, and cannot be compared with it"
        unseen = UNSEEN.get(stored.framework or "", "The trainer takes the folder as it is") + "."
        unseen = unseen[0].upper() + unseen[1:]
        yield Finding(message, Severity.WARNING, at=job.at("data.prepared"), fix=AGAIN, why=unseen)
    elif job.data.train is not None:
        message = f"the rows of the folder were {why}"
        fix = "correct data.train or the template, or remove data.train: nothing is compared then"
        unknown = "Whether the folder holds this data is unknown."
        yield Finding(message, Severity.WARNING, at=job.at("data.train"), fix=fix, why=unknown)
