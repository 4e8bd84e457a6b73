"""Must-fail and must-pass inputs of `prepared-data`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ftcheck import Prepared
from ftcheck.inputs.prepared_folder import StoredRows
from ftcheck.testing import Case, inputs, job, prepared, rows, token_store, tokenizer

END, BOS = 1_000_000, 1_000_002
TEXTS = (
    "the first of the rows is about ships and the sea",
    "another one tells of mountains, snow and long winters",
    "and the third asks how bread is made at home",
)


def made(
    texts: Sequence[str], *, before: Sequence[int] = (BOS,), trained: int = 10, **stored: Any
) -> Prepared:
    """Prepared rows of these texts, the last tokens of each in the loss; with `stored` read from a folder."""
    ids = [[*before, *map(ord, text), END] for text in texts]
    counts = [trained] * len(ids)
    about = StoredRows(**{"path": "ready", "framework": None, "columns": ("input_ids", "labels"), **stored})
    return prepared(
        [len(one) for one in ids],
        trained=[min(count, len(one)) for count, one in zip(counts, ids, strict=True)],
        of=replace(rows(len(ids), layout="prepared"), textless=about.textless) if stored else None,
        tokens=token_store(*ids, trained=counts),
        stored=about if stored else None,
    )


def compared(there: Prepared, here: Prepared | None = None, **training: Any) -> dict[str, Any]:
    """A folder beside ftcheck's own preparation of the data."""
    using = tokenizer(bos_token_id=BOS)
    stated = job(data={"prepared": "ready", "train": "train.jsonl"}, training=training)
    own = made(TEXTS) if here is None else here
    return {
        "job": stated,
        "tokenizer": using,
        "prepared": there,
        "inputs": inputs(stated, prepared_here=own),
    }


def folder(texts: Sequence[str] = TEXTS, **how: Any) -> Prepared:
    """The rows of a folder that axolotl wrote."""
    return made(texts, **{"framework": "axolotl", **how})


def _of_larger_vocabulary() -> dict[str, Any]:
    return compared(folder(before=(2_000_000,)))


CASES = (
    Case("prepared-data", "ids outside the vocabulary", True, _of_larger_vocabulary),
    Case(
        "prepared-data",
        "rows of other data",
        True,
        lambda: compared(folder([*TEXTS[:2], "yesterday's row, about something else"])),
    ),
    Case("prepared-data", "two BOS tokens", True, lambda: compared(folder(before=(BOS, BOS)))),
    Case("prepared-data", "an answer that begins too early", True, lambda: compared(folder(trained=15))),
    Case(
        "prepared-data",
        "every token in the loss of a policy that wants answers alone",
        True,
        lambda: {
            **compared(folder(trained=200)),
            "job": job(data={"prepared": "ready"}, training={"assistant_only_loss": True}),
        },
    ),
    Case(
        "prepared-data",
        "the rows of the data, in another order",
        False,
        lambda: compared(folder(TEXTS[::-1])),
    ),
)
