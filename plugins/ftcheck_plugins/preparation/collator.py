"""Runs the trainer's own collator on two rows and looks at the labels that come out.

Importing TRL's takes ten seconds; where its source is one that was read (`tables/collators.json`), what it
does to labels is done here instead, and a test compares the two.
"""

import hashlib
import importlib.util
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck import tables
from ftcheck.errors import InputError
from ftcheck.inputs.collated import Collated
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.packing.truncation import cutter
from ftcheck.settings import Job
from ftcheck_plugins.model.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED = -100
PACKED = ("bfd", "bfd_split")
"""Strategies for which TRL puts a batch into one row, without padding."""

COLLATOR = re.compile(r"^class DataCollatorForLanguageModeling\b.*?^(?=@dataclass)", re.DOTALL | re.MULTILINE)

Fed = tuple[list[int], list[int]]
"""Ids and labels of one row."""


@loader("collated")
def collated(job: Job, tokenizer: Tokenizer, prepared: Prepared) -> Collated | None:
    """Two rows through the collator; None where TRL's is meant and TRL is not installed here."""
    if not isinstance(tokenizer, ChatTokenizer):
        raise InputError(f"collating needs a transformers tokenizer, not {tokenizer!r}")
    if job.trainer.collator == "trl" and trl_source() is None:
        return None
    chosen = _two_rows(prepared)
    fed = [_fed(job, prepared, row) for row in chosen]
    if not fed:
        return Collated(job.trainer.collator)
    made = _by_trl if job.trainer.collator == "trl" else _by_transformers
    try:
        labels = made(job, tokenizer.backend, fed)
    except ValueError as error:
        return Collated(job.trainer.collator, chosen, problem=" ".join(str(error).split())[:300])
    return _counted(job.trainer.collator, chosen, fed, labels, tokenizer.stop_ids)


def trl_source() -> str | None:
    """The source of TRL's collator as installed, without importing TRL; None without TRL."""
    spec = importlib.util.find_spec("trl")
    for location in (spec.submodule_search_locations or []) if spec else []:
        file = Path(location) / "trainer" / "sft_trainer.py"
        if file.is_file():
            found = COLLATOR.search(file.read_text(encoding="utf-8"))
            return found.group() if found else ""
    return None


def _two_rows(prepared: Prepared) -> tuple[int, ...]:
    """The shortest and the longest row whose stop token is in the loss; without such rows, of all."""
    good = (prepared.used & prepared.stop_trained).nonzero()[0]
    if not len(good):
        good = prepared.used.nonzero()[0]
    if not len(good):
        return ()
    lengths = prepared.kept[good]
    pair = {int(good[lengths.argmin()]), int(good[lengths.argmax()])}
    return tuple(sorted(pair, key=lambda row: int(prepared.kept[row])))


def _fed(job: Job, prepared: Prepared, row: int) -> Fed:
    """Ids and labels of a row as the trainer feeds it."""
    import numpy as np

    cut = cutter(job.training)
    ids: NDArray[np.int32] = cut(prepared.tokens.ids(row))
    mask: NDArray[np.bool_] = cut(prepared.tokens.mask(row))
    return ids.tolist(), np.where(mask, ids, IGNORED).tolist()


def _by_trl(job: Job, backend: Any, fed: Sequence[Fed]) -> list[list[int]]:
    """Labels as `SFTTrainer` has its collator make them: padded, or in one row without padding."""
    training = job.training
    flat = training.padding_free or (training.packing and training.packing_strategy in PACKED)
    pad = training.extra.get("pad_token") or backend.pad_token or backend.eos_token
    if pad is None:
        raise ValueError("the tokenizer has neither a padding token nor EOS")
    if known_trl():
        return as_trl(fed, flat=flat)
    return trl_itself(fed, flat=flat, pad=backend.convert_tokens_to_ids(pad))


def known_trl() -> bool:
    """Whether the installed collator is, letter by letter, one whose source was read."""
    digest = hashlib.sha256((trl_source() or "").encode()).hexdigest()
    return f"sha256:{digest}" in tables.load("collators")["trl"]


def as_trl(fed: Sequence[Fed], *, flat: bool) -> list[list[int]]:
    """What the collator of the listed versions does: -100 behind a row; flat, a row's first label is -100."""
    if flat:
        return [[IGNORED, *labels[1:]] for _, labels in fed]
    width = max(len(ids) for ids, _ in fed)
    return [labels + [IGNORED] * (width - len(ids)) for ids, labels in fed]


def trl_itself(fed: Sequence[Fed], *, flat: bool, pad: int) -> list[list[int]]:
    """The installed collator's labels, row by row. Slow the first time: it imports TRL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=flat)
    examples = [{"input_ids": ids, "labels": labels} for ids, labels in fed]
    made: list[list[int]] = collator(examples)["labels"].tolist()
    return _apart(made[0], fed) if flat else made


def _apart(labels: Sequence[int], fed: Sequence[Fed]) -> list[list[int]]:
    """Labels of a flattened batch, row by row; what pads the whole goes to the last row."""
    found, start = [], 0
    for ids, _ in fed:
        found.append(list(labels[start : start + len(ids)]))
        start += len(ids)
    found[-1] += labels[start:]
    return found


@contextmanager
def _padding(job: Job, backend: Any) -> Iterator[None]:
    """The tokenizer with the padding token of training.pad_token, where the policy states one."""
    stated, own = job.training.extra.get("pad_token"), backend.pad_token
    known = isinstance(stated, str) and stated in backend.get_vocab()
    try:
        if known:
            backend.pad_token = stated
        yield
    finally:
        if known:
            backend.pad_token = own


def _by_transformers(job: Job, backend: Any, fed: Sequence[Fed]) -> list[list[int]]:
    """Labels that transformers' collator makes of the ids alone, whatever labels there were."""
    from transformers import DataCollatorForLanguageModeling

    with warnings.catch_warnings(), _padding(job, backend):
        warnings.simplefilter("ignore")
        collator = DataCollatorForLanguageModeling(backend, mlm=False, return_tensors="np")
        batch: Mapping[str, Any] = collator([{"input_ids": ids} for ids, _ in fed])
    width = batch["labels"].shape[1]
    made = []
    for (ids, _), labels in zip(fed, batch["labels"].tolist(), strict=True):
        pads = width - len(ids)
        made.append(labels if backend.padding_side == "right" else labels[pads:] + labels[:pads])
    return made


def _counted(
    name: str,
    rows: tuple[int, ...],
    fed: Sequence[Fed],
    labels: Sequence[Sequence[int]],
    stop_ids: frozenset[int],
) -> Collated:
    """What changed from the labels before; a row's first token is left out, as nothing predicts it."""
    stops = stops_lost = trained_lost = masked_trained = pads = pads_trained = 0
    for (ids, before), after in zip(fed, labels, strict=True):
        for token, old, new in zip(ids[1:], before[1:], after[1:], strict=False):
            lost = old != IGNORED and new == IGNORED
            stops += token in stop_ids and old != IGNORED
            stops_lost += token in stop_ids and lost
            trained_lost += lost
            masked_trained += old == IGNORED and new != IGNORED
        padding = after[len(ids) :]
        pads += len(padding)
        pads_trained += sum(label != IGNORED for label in padding)
    return Collated(name, rows, stops, stops_lost, trained_lost, masked_trained, pads, pads_trained)
