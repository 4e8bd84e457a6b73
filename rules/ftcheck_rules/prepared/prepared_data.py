"""Rows that another program prepared: are they of this tokenizer, these settings and this data?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

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
from ftcheck.paths import expand, near
from ftcheck.plurals import agreeing, counted
from ftcheck_rules.prepared.row_differences import Comparison, Difference, Kind, Tokens
from ftcheck_rules.prepared.row_pairs import Pairs, Side, pairs

if TYPE_CHECKING:
    pass

CLOSELY = 2_000
"""Of more rows that differ, so many are compared token by token."""
READ_BACK = 20
"""Rows whose ids are decoded and encoded again."""
OF_EACH = 256
"""Tokens of each of them."""
LEAST = 8
"""Shorter runs of tokens between special ones say little of how they were encoded."""
SAME_TOKENIZER = 0.95
"""Least likeness of ids that are decoded and encoded again. With the right tokenizer 1.000, with another one
0.37 to 0.94 (8 tokenizers against each other); 0.98 for messages encoded one by one, 0.76 for sentences.
"""
AGAIN = "remove the folder and prepare the rows again"
OWN_CUT = ("trl", None)
"""Whose folders are cut to training.max_length when they are trained: of TRL's, and of unknown ones."""
UNSEEN = {
    "axolotl": "axolotl names the folder by its settings, not by the content of the data",
    "llama-factory": "LLaMA-Factory ignores data and settings once tokenized_path exists",
}
"""Why a framework does not see that its folder is stale (axolotl 0.19, LLaMA-Factory 0.9.5)."""


@rule("prepared-data", cases="ftcheck_rules.prepared.cases.prepared_data", only=("data.prepared",))
def prepared_data(job: Job, tokenizer: Tokenizer, prepared: Prepared, inputs: Inputs) -> Iterator[Yield]:
    """The rows of data.prepared are of this tokenizer, this data and these settings.

    A trainer takes a folder of prepared rows as it is, whatever the configuration says: rows of yesterday's
    data, of another template, without a stop token or with the questions in the loss are trained silently.

    The ids must be in the tokenizer's vocabulary and read as text. Labels are compared with ids (-100 is
    ignored). Where data.train is set too, it is prepared as TRL prepares it, and both preparations are
    compared row by row: rows are recognised by their content, so that dropped, added and shuffled ones do not
    matter. Differences are told by kind (BOS, stop tokens, header tokens or line breaks in the loss, cut
    rows, another template), with the number of rows and the first one. The folder is what is trained: a
    difference is a warning, and an error where the folder holds other data. No parameters.
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
    own, why = _own(job, inputs)
    if own is None:
        yield from _older(job, stored)
        yield Summary(f"{said} · {why}")
        return
    here, there = Side(own, tokenizer), Side(prepared, tokenizer)
    found = pairs(here, there, job.training.max_length)
    evaluated = _evaluation(inputs)
    if evaluated is not None and len(found.missing):
        held_out = pairs(here.only(found.missing), Side(evaluated, tokenizer), job.training.max_length)
        found = replace(found, missing=found.missing[held_out.missing], held_out=held_out.found)
    told = _Told(job, tokenizer, here, there, found)
    yield from told.measured()
    yield Summary(f"{said} · {told.in_words()}")
    yield from told.findings(stored)


def _evaluation(inputs: Inputs) -> Prepared | None:
    """The folder's evaluation rows, if it has any."""
    try:
        found: Prepared | None = inputs.get("prepared_eval") if inputs.has("prepared_eval") else None
    except InputError:
        return None
    return found if found is not None and found.stored is not None else None


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
    for rows, what, fix, why in (
        (
            stored.other,
            "a label that is another token than the one in its place",
            f"check the program that wrote the labels, and {AGAIN}",
            "The model is trained to write a token that the row does not contain.",
        ),
        (
            stored.padded,
            "padding in the loss",
            f"set labels to -100 where attention_mask is 0, and {AGAIN}",
            "The model learns to write padding.",
        ),
    ):
        if rows:
            have = agreeing(len(rows), "has", "have")
            message = f"{len(rows):,} of {counted(len(prepared), 'row')} {have} {what}"
            yield Finding(message, Severity.WARNING, at=prepared.at(rows[0]), fix=fix, why=why)


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
    asked = "assistant_only_loss" if training.assistant_only_loss else None
    asked = asked or ("completion_only_loss" if training.completion_only_loss else None)
    if asked is not None and not prepared.masked and prepared.used.any():
        message = f"training.{asked} is true, but every token of the folder is in the loss"
        fix = f"{AGAIN} with labels of -100 on the prompts, or set {asked}: false"
        why = "Labels are taken from the folder: the model also learns to write the questions."
        yield Finding(message, at=job.at(f"training.{asked}"), fix=fix, why=why)


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


@dataclass(frozen=True, slots=True)
class _Said:
    """How a kind of difference is told: of one row, of several, and what to do about it."""

    one: str
    many: str
    fix: str | None = None
    why: str | None = None
    severity: Severity = Severity.WARNING


OWN = "ftcheck's preparation"
NOT_STOPPING = "The model does not learn to stop: it goes on to invent the next question."
OTHER_PROMPT = "Served requests are prompted differently from the rows that the model was trained on."
SAID = {
    Kind.BOS_MISSING: _Said(
        f"lacks the BOS token that {OWN} begins it with",
        f"lack the BOS token that {OWN} begins them with",
        f"{AGAIN} with the template's BOS",
        OTHER_PROMPT,
    ),
    Kind.BOS_ADDED: _Said(
        f"begins with one BOS token more than in {OWN}",
        f"begin with one BOS token more than in {OWN}",
        "tokenise rendered text with add_special_tokens=False",
        OTHER_PROMPT,
    ),
    Kind.STOP_MISSING: _Said(
        f"lacks the stop token that ends it in {OWN}",
        f"lack the stop token that ends them in {OWN}",
        f"{AGAIN} with EOS at the end of each answer",
        NOT_STOPPING,
    ),
    Kind.STOP_ADDED: _Said(
        f"ends with one stop token more than in {OWN}",
        f"end with one stop token more than in {OWN}",
        "do not add EOS to text that the template has ended already",
        "The model learns to write it after a turn that has ended: harmless, if generation stops at the"
        " first.",
    ),
    Kind.BLANK_END: _Said(
        f"ends with other white space than in {OWN}",
        f"end with other white space than in {OWN}",
        severity=Severity.INFO,
    ),
    Kind.CUT: _Said(
        "is cut: the rest of it is in data.train alone",
        "are cut: the rest of them is in data.train alone",
        "raise the length that the rows are prepared with",
        "A cut answer teaches to stop in the middle of a sentence.",
    ),
    Kind.LEFT_OUT: _Said(
        f"lacks tokens in the middle that {OWN} has",
        f"lack tokens in the middle that {OWN} has",
        "raise the length that the rows are prepared with (LLaMA-Factory cuts each turn, cutoff_len)",
        "The model is trained on questions that nobody asked so.",
    ),
    Kind.SAME_TEXT: _Said(
        f"has the text of {OWN} in other tokens",
        f"have the text of {OWN} in other tokens",
        "nothing, if the server is given the same pieces; else encode each row as one text",
        "Parts of a row that are encoded one by one are not merged across their borders, as a served"
        " request is.",
    ),
    Kind.TEMPLATE: _Said(
        "was rendered with another template",
        "were rendered with another template",
        "set model.chat_template to the template that the rows were rendered with, in serving too, or"
        f" {AGAIN}",
        OTHER_PROMPT,
    ),
    Kind.TEXT: _Said(
        f"has another text than in {OWN}",
        f"have another text than in {OWN}",
        f"{AGAIN}, or correct data.train",
        "Checks on data.train say nothing of these rows.",
    ),
    Kind.ALL_TRAINED: _Said(
        f"trains every token, where {OWN} trains answers alone",
        f"train every token, where {OWN} trains answers alone",
        f"{AGAIN} with the prompts masked (axolotl: train_on_inputs: false; LLaMA-Factory: train_on_prompt:"
        " false)",
        "The model also learns to write the questions.",
    ),
    Kind.NONE_TRAINED: _Said(
        "has no token in the loss",
        "have no token in the loss",
        f"{AGAIN}, or remove the rows",
        "The row costs compute and teaches nothing.",
    ),
    Kind.HEADER_TRAINED: _Said(
        "trains tokens of the header before an answer",
        "train tokens of the header before an answer",
        "mask what the prompt ends with: the server writes it",
        "The model learns to write the role of the next turn.",
    ),
    Kind.STARTS_EARLY: _Said(
        f"begins an answer's loss earlier than {OWN}",
        f"begin an answer's loss earlier than {OWN}",
        "mask what the prompt ends with: the server writes it",
        "The model is also trained to write the end of the prompt.",
    ),
    Kind.NEWLINE_TRAINED: _Said(
        f"trains the white space after an answer, which {OWN} does not",
        f"train the white space after an answer, which {OWN} does not",
        severity=Severity.INFO,
    ),
    Kind.NEWLINE_MASKED: _Said(
        f"leaves white space out of the loss that {OWN} trains",
        f"leave white space out of the loss that {OWN} trains",
        severity=Severity.INFO,
    ),
    Kind.STOP_TRAINED: _Said(
        f"trains a stop token that {OWN} leaves out of the loss",
        f"train a stop token that {OWN} leaves out of the loss",
        severity=Severity.INFO,
    ),
    Kind.STOP_MASKED: _Said(
        f"leaves a stop token out of the loss that {OWN} trains",
        f"leave a stop token out of the loss that {OWN} trains",
        f"{AGAIN} with the stop token in the labels (axolotl: train_on_eos: turn, eot_tokens)",
        NOT_STOPPING,
    ),
    Kind.ANSWER_MASKED: _Said(
        f"leaves an answer out of the loss that {OWN} trains",
        f"leave an answer out of the loss that {OWN} trains",
        "check which turns are trained (axolotl: roles_to_train; LLaMA-Factory: mask_history)",
        "These answers cost compute and teach nothing.",
    ),
    Kind.PROMPT_TRAINED: _Said(
        f"trains tokens of the prompt, which {OWN} masks",
        f"train tokens of the prompt, which {OWN} masks",
        "check which turns are trained (axolotl: roles_to_train, train_on_inputs; LLaMA-Factory:"
        " train_on_prompt); `ftcheck show` marks them",
        "The model also learns to write the questions.",
    ),
    Kind.PART_MASKED: _Said(
        f"leaves part of an answer out of the loss that {OWN} trains",
        f"leave part of an answer out of the loss that {OWN} trains",
        "look at the labels with `ftcheck show`",
        "The model does not learn this part of the answer.",
    ),
}


def _newer(job: Job, stored: StoredRows) -> bool:
    """Whether a file of data.train was changed after the folder was written."""
    stated = job.data.train
    files = [Path(one) for one in expand(stated)] if stated is not None else []
    return any(one.is_file() and one.stat().st_mtime > stored.written for one in files)


def _older(job: Job, stored: StoredRows) -> Iterator[Finding]:
    """A folder that may be stale, where its rows cannot be compared with the data."""
    if _newer(job, stored):
        message = "data.train was changed after the folder was written, and cannot be compared with it"
        why = UNSEEN.get(stored.framework or "", "The trainer takes the folder as it is") + "."
        yield Finding(
            message, Severity.WARNING, at=job.at("data.prepared"), fix=AGAIN, why=why[0].upper() + why[1:]
        )


class _Told:
    """What came of the comparison, in the words of a report."""

    def __init__(self, job: Job, tokenizer: Tokenizer, here: Side, there: Side, found: Pairs) -> None:
        """Compares the rows that differ token by token, `CLOSELY` of them."""
        self._job, self._tokenizer = job, tokenizer
        self._here, self._there, self._found = here, there, found
        self._limit = job.training.max_length
        masked = [pair for pair in found.same.tolist() if not self._same_mask(*pair)]
        differing = sorted([*masked, *found.close.tolist()], key=lambda pair: pair[1])
        self._compared = len(found.same) + len(found.close)
        self._different = len(differing)
        self._closely = differing[:CLOSELY]
        self._kinds = self._classified(Comparison(tokenizer))
        lengths = here.prepared.length[here.rows[found.missing]]
        self._dropped = 0 if self._limit is None else int((lengths > self._limit).sum())

    def _same_mask(self, here: int, there: int) -> bool:
        import numpy as np

        theirs = self._there.mask(there)
        return bool(np.array_equal(self._here.mask(here)[: len(theirs)], theirs))

    def _classified(self, comparison: Comparison) -> dict[Kind, list[tuple[int, Difference]]]:
        """Differences by kind, each with its row there; what most of them share is the template's."""
        found: dict[Kind, list[tuple[int, Difference]]] = {}
        for here, there in self._closely:
            theirs = Tokens(self._there.ids(there), self._there.mask(there))
            ours = Tokens(self._here.ids(here), self._here.mask(here))
            if len(theirs.ids) == self._limit:
                ours = ours.part(0, len(theirs.ids))
            for one in comparison.of(ours, theirs):
                found.setdefault(one.kind, []).append((there, one))
        for kind in (Kind.TEXT, Kind.LEFT_OUT):
            shared = Counter(one.change for _, one in found.get(kind, ()))
            for change, times in shared.most_common(1):
                if times > 1 and 2 * times >= len(found[kind]):
                    found.setdefault(Kind.TEMPLATE, []).extend(
                        one for one in found[kind] if one[1].change == change
                    )
                    found[kind] = [one for one in found[kind] if one[1].change != change]
        return {kind: sorted(rows, key=lambda one: one[0]) for kind, rows in found.items() if rows}

    def measured(self) -> Iterator[Measurement]:
        """How many rows are equal, different, missing and extra."""
        yield Measurement("rows_compared", self._compared, unit="rows")
        yield Measurement("rows_equal", self._compared - self._different, unit="rows")
        yield Measurement("rows_different", self._different, unit="rows")
        yield Measurement("rows_missing", len(self._found.missing), unit="rows")
        yield Measurement("rows_extra", len(self._found.extra), unit="rows")

    def in_words(self) -> str:
        """`60 of 60 rows are as ftcheck prepares data.train`."""
        same = self._compared - self._different
        return f"{same:,} of {counted(self._compared, 'row')} as ftcheck prepares data.train"

    def findings(self, stored: StoredRows) -> Iterator[Finding]:
        """Other data first, then each kind of difference."""
        yield from self._other_data(stored)
        for kind in Kind:
            if kind in self._kinds:
                yield self._finding(kind, self._kinds[kind])
        if self._compared > 1 and not self._found.in_order:
            message = "the rows are in another order than those of data.train"
            yield Finding(message, Severity.INFO, at=self._job.at("data.prepared"))
        if self._found.unseen:
            rows = counted(self._found.unseen, "row")
            message = f"{rows} of the folder that differ from those of data.train were not looked at closely"
            yield Finding(message, Severity.INFO, at=self._job.at("data.prepared"))

    def _finding(self, kind: Kind, rows: Sequence[tuple[int, Difference]]) -> Finding:
        said, (row, first) = SAID[kind], rows[0]
        compared = self._compared
        if self._different > len(self._closely):
            compared = len(self._closely)
        words = said.one if len(rows) == 1 else said.many
        show = self._tokenizer.show
        return Finding(
            f"{len(rows):,} of {counted(compared, 'row')} {words} (first at token {first.place + 1:,})",
            said.severity,
            at=self._there.prepared.at(int(self._there.rows[row])),
            fix=said.fix,
            why=said.why,
            content=f"ftcheck «{show(first.here)}», folder «{show(first.there)}»",
        )

    def _other_data(self, stored: StoredRows) -> Iterator[Finding]:
        """Rows that only one side has."""
        missing, extra = len(self._found.missing), len(self._found.extra)
        dropped = self._dropped
        total = counted(len(self._here), "row")
        at = self._job.at("data.prepared")
        if missing - dropped and extra:
            first = self._there.prepared.at(int(self._there.rows[self._found.extra[0]]))
            of_folder = f"{counted(extra, 'row')} of the folder {agreeing(extra, 'is', 'are')}"
            of_data = f"{missing:,} of {total} of data.train {agreeing(missing, 'is', 'are')}"
            message = f"{of_folder} none of data.train, and {of_data} not in the folder{self._age(stored)}"
            unseen = UNSEEN.get(stored.framework or "")
            why = "The folder was prepared from other data, and is trained as it is."
            yield Finding(message, at=first, fix=AGAIN, why=f"{why} {unseen}." if unseen else why)
            return
        if dropped:
            are, them, limit = agreeing(dropped, "is", "are"), agreeing(dropped, "it", "them"), self._limit
            message = (
                f"{dropped:,} of {total} of data.train {are} longer than max_length {limit} and not in the"
                f" folder; TRL would cut {them}"
            )
            yield Finding(message, Severity.INFO, at=at)
        if self._found.held_out:
            held = self._found.held_out
            message = (
                f"{held:,} of {total} of data.train {agreeing(held, 'is', 'are')} in the evaluation split"
            )
            yield Finding(message, Severity.INFO, at=at)
        if missing - dropped:
            left = missing - dropped
            first = self._here.prepared.at(int(self._here.rows[self._found.missing[0]]))
            message = f"{left:,} of {total} of data.train {agreeing(left, 'is', 'are')} not in the folder"
            message += self._too_long()
            fix = f"{AGAIN}, if they were not meant to be left out (filters, held-out rows, deduplication)"
            yield Finding(message + self._age(stored), Severity.WARNING, at=first, fix=fix)
        elif extra:
            first = self._there.prepared.at(int(self._there.rows[self._found.extra[0]]))
            message = (
                f"{extra:,} of {counted(len(self._there), 'row')} of the folder"
                f" {agreeing(extra, 'is', 'are')} none of data.train"
            )
            fix = "name all files that were prepared in data.train"
            why = "Checks on data.train say nothing of these rows."
            yield Finding(message + self._age(stored), Severity.WARNING, at=first, fix=fix, why=why)

    def _too_long(self) -> str:
        """Whether the rows that are missing are all longer than those that are there."""
        here, there = self._here, self._there
        longest = int(there.prepared.length[there.rows].max(initial=0))
        shortest = int(here.prepared.length[here.rows[self._found.missing]].min())
        if shortest <= longest:
            return ""
        return f": each is longer than any row that is ({longest:,} tokens), so its length dropped it"

    def _age(self, stored: StoredRows) -> str:
        """`; data.train was changed after the folder was written`, where it was."""
        newer = _newer(self._job, stored)
        return "; data.train was changed after the folder was written" if newer else ""
