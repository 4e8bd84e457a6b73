"""What somebody else's trainer is about to train, held against what was checked.

    ticket = ftcheck.require("night.json", policy="policy.yaml", job="mapper")
    ...
    ticket.verify(trainer)

Ids and labels are read from the columns of the data set, or, where they stand in none, made by the trainer's
own collator. If their digest is the ticket's, nothing is prepared again; else the checked rows are, mostly
from the cache, to name the first row that differs. Then the collator makes batches of some rows.
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol

from ftcheck.errors import UsageError
from ftcheck.gate.ticket import Reason, Refusal, Refused, Ticket
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.prepared import Prepared
from ftcheck.label_digest import IGNORED, like
from ftcheck.packing.truncation import cutter, of_evaluation
from ftcheck.paths import near
from ftcheck.settings import Job, Training
from ftcheck_trainers import trainer_settings
from ftcheck_trainers.dataset import checked_as
from ftcheck_trainers.differences import Checked, Difference, in_any_order, in_order, same
from ftcheck_trainers.fed_rows import FedRows, Tokens, Unreadable, identity, need_all_rows_drawn
from ftcheck_trainers.run_folder import say

BEFORE, AFTER = 12, 20
"""Tokens that are shown before the first one that differs, and from it on."""
SHOWN = 5
"""How many of them are shown as ids."""


class Script(Protocol):
    """What opens the job's rows again, and knows what of the script was verified."""

    verified: Any

    def job(self, ticket: Ticket) -> Job:
        """The job that the ticket is for."""

    def inputs(self, job: Job, **given: Any) -> AbstractContextManager[Inputs]:
        """The job's inputs."""


@dataclass(frozen=True, slots=True)
class Part:
    """The training rows or the evaluation rows: what they are called, their input, settings and digest.

    No digest is in the report of a policy that names evaluation rows and does not evaluate: its files are
    those that were checked, and are prepared.
    """

    name: str
    source: str
    training: Training
    digest: str | None


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found to be as checked.

    `arguments` are the trainer's (None: a data loader was verified), `data` and `collator` what its training
    batches are made of, `packed` whether these are blocks of several rows. The counts are those of the
    training rows; `blocks` are rows of the data set.
    """

    arguments: Any
    data: Any
    collator: Any
    packed: bool
    rows: int
    blocks: int
    tokens: int
    trained_tokens: int


def verify(ticket: Ticket, script: Script, trainer: Any, eval_dataloader: Any = None) -> Verified:
    """See `Ticket.verify`; `trainer` makes data loaders, or is the one of the training rows."""
    with _random_kept():
        if not hasattr(trainer, "get_train_dataloader"):
            evaluations = [] if eval_dataloader is None else [eval_dataloader]
            return _compared(_Comparison(ticket, script, None), trainer, evaluations)
        if eval_dataloader is not None:
            raise UsageError("a trainer has its own evaluation rows: verify it without eval_dataloader")
        comparison = _Comparison(ticket, script, trainer.processing_class, trainer.args)
        if trainer.train_dataset is None:
            comparison.refuse("unverified", "the trainer has no train_dataset")
        evaluations = list(_evaluation_loaders(trainer)) if evaluates(trainer.args) else []
        return _compared(comparison, trainer.get_train_dataloader(), evaluations)


def begun(ticket: Ticket, script: Script, args: Any, state: Any, loader: Any, processing: Any) -> Verified:
    """The same for a training that begins with this data loader, as far as it was not verified before."""
    comparison = _Comparison(ticket, script, processing, args)
    verified: Verified | None = script.verified
    known = None if verified is None else (verified.data, verified.collator)
    with _random_kept():
        if verified is None or known != (identity(loader.dataset), loader.collate_fn):
            verified = comparison.train(loader)
        else:
            comparison.drawn(loader)
    # A resumed training keeps the batch of before in its state, and takes the one of its arguments.
    comparison.settings(verified, state.train_batch_size if args.auto_find_batch_size else None)
    return verified


def evaluated(ticket: Ticket, script: Script, args: Any, loader: Any, processing: Any) -> None:
    """The same for the evaluation rows, while they are evaluated for the first time."""
    with _random_kept():
        _Comparison(ticket, script, processing, args).evaluation([loader])


def _compared(comparison: "_Comparison", train: Any, evaluations: Sequence[Any]) -> Verified:
    """Rows first, then settings: the same rows may be trained otherwise."""
    verified = comparison.train(train)
    if evaluations:
        comparison.evaluation(evaluations)
    comparison.settings(verified)
    return verified


def evaluates(args: Any) -> bool:
    """Whether a trainer evaluates while it trains."""
    return str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no"


def _evaluation_loaders(trainer: Any) -> Iterator[Any]:
    found = trainer.eval_dataset
    for one in found.values() if isinstance(found, dict) else [found]:
        if one is not None:
            yield trainer.get_eval_dataloader(one)


@contextlib.contextmanager
def _random_kept() -> Iterator[None]:
    """Leave the random numbers as they were: the training must draw the same ones with and without us."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class _Comparison:
    """One trainer, held against one ticket."""

    def __init__(self, ticket: Ticket, script: Script, processing: Any, args: Any = None) -> None:
        """`processing` is the trainer's tokenizer, or has one; `args` its arguments."""
        self._ticket, self._script, self._job = ticket, script, script.job(ticket)
        self._tokenizer, self._args = getattr(processing, "tokenizer", processing), args
        if ticket.sample is not None:
            why = f"only {ticket.sample} were checked, and the trainer feeds all: run the checks on all rows"
            self.refuse("unverified", why)

    def train(self, loader: Any) -> Verified:
        """Compare the training rows."""
        part = Part("training", "prepared", self._job.training, self._ticket.ids)
        counted, blocks = self._rows(part, [loader])
        self.drawn(loader)
        # Rows that are those of the checks one by one are in no blocks, whatever the arguments say.
        packed = FedRows(loader).packed or (self._wrapped and counted.digest != part.digest)
        counts = (counted.sequences, blocks, counted.tokens, counted.trained)
        return Verified(self._args, identity(loader.dataset), loader.collate_fn, packed, *counts)

    def drawn(self, loader: Any) -> None:
        """Refuse a sampler that leaves training rows out."""
        try:
            need_all_rows_drawn(loader)
        except Unreadable as error:
            self.refuse("unverified", f"training rows: {error}")

    def evaluation(self, loaders: Sequence[Any]) -> None:
        """Compare the evaluation rows; several sets are compared one behind the other.

        Rows that the policy does not name teach the model nothing: it is said that nobody checked them.
        """
        if not self._job.evaluable:
            place = trainer_settings.place_of(self._job, "data.eval")
            say(f"the trainer's evaluation rows were not verified: data.eval is not set ({place})")
            return
        training = of_evaluation(self._job.training)
        self._rows(Part("evaluation", "prepared_eval", training, self._ticket.eval_ids), loaders)

    @property
    def _wrapped(self) -> bool:
        """Whether blocks are filled without regard to where rows end."""
        packs = getattr(self._args, "packing", False)
        return bool(packs) and self._args.packing_strategy == "wrapped"

    def settings(self, verified: Verified, at_once: int | None = None) -> None:
        """Compare what the policy states of steps with the trainer's arguments, and its batch (`at_once`)."""
        if self._args is None:
            return
        differ = trainer_settings.differences(
            self._job, self._args, packed=verified.packed, rows=verified.blocks, at_once=at_once
        )
        if differ:
            self.refuse("arguments-changed", "; ".join(differ))

    def refuse(self, code: str, message: str) -> NoReturn:
        """Stop the training before its first step."""
        raise Refused(Refusal(self._job.name, (Reason(code, message),)))

    def _rows(self, part: Part, loaders: Sequence[Any]) -> "tuple[_Counted, int]":
        """What was counted, and the rows of the data sets, if all is as it was checked."""
        try:
            sets = [FedRows(one) for one in loaders]
            counted = _Counted(sets, part.digest)
            if counted.digest != part.digest:
                self._compare(part, sets)
            for number, one in enumerate(sets):
                self._collated(part, one, sum(map(len, sets[:number])))
        except Unreadable as error:
            self.refuse("unverified", f"{part.name} rows: {error}")
        return counted, sum(map(len, sets))

    def _compare(self, part: Part, sets: Sequence[FedRows]) -> None:
        """Find the first row that differs; a digest may differ where what is trained does not."""
        with self._checked(part) as (prepared, tokenizer):
            checked, fed = partial(_checked, prepared, part.training), partial(_fed, sets)
            if self._wrapped:
                fed = partial(_recut, checked, fed)
            # A split is drawn: datasets leaves its rows in the order in which it drew them.
            drawn = self._job.data.validation_split is not None
            shuffled = (drawn or getattr(self._args, "shuffle_dataset", False)) and not self._wrapped
            compare = in_any_order if shuffled or any(one.packed for one in sets) else in_order
            found = compare(checked, fed)
            if found is not None:
                self.refuse("ids-changed", self._words(part, found, prepared, tokenizer))

    def _collated(self, part: Part, fed: FedRows, before: int) -> None:
        """Some rows in batches: a collator may mask, cut or add what stands in no column."""
        for number, row, made in fed.batches():
            if same(row, made):
                continue
            with self._checked(part) as (prepared, tokenizer):
                index = _row_of(before + number, row, prepared, part.training)
                found = Difference(before + number, made, Checked(index, row), f"made by {fed.collator}")
                self.refuse("ids-changed", self._words(part, found, prepared, tokenizer))

    @contextlib.contextmanager
    def _checked(self, part: Part) -> Iterator[tuple[Prepared, Any]]:
        """The checked rows, prepared again or from the cache, and the tokenizer they were made with."""
        with self._script.inputs(self._job) as inputs:
            prepared: Prepared = inputs.get(part.source)
            now = checked_as(part.digest, prepared, part.training)
            if part.digest is not None and now != part.digest:
                message = (
                    f"ids and labels of the {part.name} rows were {part.digest} in the checks, are"
                    f" {now} now; run the checks again"
                )
                self.refuse("ids-changed", message)
            yield prepared, inputs.get("tokenizer")

    def _words(self, part: Part, found: Difference, prepared: Prepared, tokenizer: Any) -> str:
        """One line: the row and its place, the token, and both texts around it."""
        note = f"; {found.note}" if found.note else ""
        if found.checked is None:
            assert found.fed is not None
            text = self._shown(found.fed.ids, 0)
            return f"{part.name} row {found.number + 1} of the trainer was not checked: {text}{note}"
        subject = f"{part.name} row {found.number + 1} of the trainer"
        if found.checked.row is not None:
            place = prepared.at(found.checked.row)
            subject = f"{part.name} row {found.checked.row + 1} ({near(place.path or '')}:{place.line})"
        mine = found.checked.tokens
        if found.fed is None:
            return f"{subject} is missing in the trainer: {_around(tokenizer.show, mine.ids, 0)}{note}"
        at = found.token
        number = found.checked.start + at + 1
        checked, fed = _around(tokenizer.show, mine.ids, at), self._shown(found.fed.ids, at)
        if mine.ids[at : at + 1].tolist() == found.fed.ids[at : at + 1].tolist():
            now, then = ("in the loss", "masked") if mine.labels[at] == IGNORED else ("masked", "in the loss")
            token = tokenizer.show(mine.ids[at : at + 1].tolist())
            verdict = f"token {number} ({token!r}) is {now} in the trainer and was {then} in the checks"
            return f"{subject}: {verdict}: {checked}{note}"
        verdict = f"token {number} differs: checked {checked}, the trainer feeds {fed}"
        return f"{subject}: {verdict}{note}"

    def _shown(self, ids: Any, at: int) -> str:
        """What the trainer feeds, in the words of its own tokenizer, where it has one."""
        if self._tokenizer is not None and hasattr(self._tokenizer, "decode"):
            return _around(self._tokenizer.decode, ids, at)
        with self._script.inputs(self._job) as inputs:
            return _around(inputs.get("tokenizer").show, ids, at)


class _Counted:
    """What is fed, counted, and its digest of the form of the one that was checked."""

    def __init__(self, sets: Sequence[FedRows], checked: str | None) -> None:
        digest = like(checked)
        self.sequences = self.tokens = self.trained = 0
        for one in _fed(sets):
            digest.add(one.ids, one.labels)
            self.sequences += 1
            self.tokens += len(one.ids)
            self.trained += int((one.labels != IGNORED).sum())
        self.digest = digest.text()


def _fed(sets: Sequence[FedRows]) -> Iterator[Tokens]:
    for one in sets:
        yield from one.sequences()


def _checked(prepared: Prepared, training: Training) -> Iterator[Checked]:
    """What was checked, cut as the trainer cuts, and in pieces where its packing makes some."""
    import numpy as np

    cut = cutter(training)
    splits = training.packing and training.packing_strategy == "bfd_split"
    piece = training.max_length if splits else None
    for row, start, stop in prepared.sequences.tolist():
        ids = cut(prepared.tokens.ids(row)[start:stop]).astype(np.int64)
        mask = cut(prepared.tokens.mask(row)[start:stop])
        labels = np.where(mask, ids, IGNORED)
        for first in range(0, len(ids), piece or max(1, len(ids))):
            span = slice(first, None if piece is None else first + piece)
            yield Checked(row, Tokens(ids[span], labels[span]), first)


def _recut(checked: Any, fed: Any) -> Iterator[Tokens]:
    """What is fed, cut where the checked rows end: `wrapped` packing goes over the ends of rows."""
    import numpy as np

    blocks, ids, labels = fed(), np.zeros(0, np.int64), np.zeros(0, np.int64)
    for one in checked():
        length = len(one.tokens.ids)
        while len(ids) < length and (block := next(blocks, None)) is not None:
            ids, labels = np.concatenate([ids, block.ids]), np.concatenate([labels, block.labels])
        if not len(ids):
            return
        yield Tokens(ids[:length], labels[:length])
        ids, labels = ids[length:], labels[length:]
    yield from [Tokens(ids, labels)] if len(ids) else []
    yield from blocks


def _row_of(number: int, row: Tokens, prepared: Prepared, training: Training) -> int | None:
    """The checked row that the trainer's row of this number is, or begins with."""
    found = None
    for place, one in enumerate(_checked(prepared, training)):
        ids = one.tokens.ids
        if row.ids[: len(ids)].tolist() == ids.tolist():
            found = one.row if found is None or place == number else found
    return found


def _around(show: Any, ids: Any, at: int) -> str:
    """Text and ids of the tokens around one of them; `nothing more` behind the last one."""
    start = max(0, at - BEFORE)
    text = "…" * (start > 0) + str(show(ids[start : at + AFTER].tolist())) + "…" * (at + AFTER < len(ids))
    if at >= len(ids):
        return f"nothing more after {text!r}"
    return f"{text!r} {ids[at : at + SHOWN].tolist()}"
