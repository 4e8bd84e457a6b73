"""Must-fail and must-pass inputs of the mask rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.inputs.tokenizer import Message
from ftcheck.testing import Case, collated, job, prepared, rows, sample, tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TALK: tuple[Message, ...] = (
    {"role": "user", "content": "The capital of France?"},
    {"role": "assistant", "content": "Paris"},
)


@dataclass
class Texts:
    """Token ids of rendered texts, all of them in the loss."""

    texts: Sequence[str]

    def ids(self, row: int) -> "NDArray[np.int32]":
        """Token ids of a row."""
        import numpy as np

        return np.array(tokenizer().encode(self.texts[row]), dtype=np.int32)

    def mask(self, row: int) -> "NDArray[np.bool_]":
        """Every token of it."""
        import numpy as np

        return np.ones(len(self.ids(row)), dtype=bool)

    def used_ids(self, *, trained: bool = False) -> "NDArray[np.int64]":
        """Ids that occur in the rows."""
        import numpy as np

        return np.unique(np.concatenate([self.ids(row) for row in range(len(self.texts))])).astype(np.int64)

    def rows_with(self, ids: Sequence[int]) -> "NDArray[np.int64]":
        """The rows that have any of these ids."""
        import numpy as np

        found = [row for row in range(len(self.texts)) if set(ids) & set(self.ids(row).tolist())]
        return np.array(found, dtype=np.int64)


def _collated(**counts: int) -> dict[str, Any]:
    made = collated("transformers", **counts)
    return {"job": job(trainer={"collator": "transformers"}), "collated": made}


def _markers(instruction: str, response: str, *texts: str) -> dict[str, Any]:
    shown = texts or (tokenizer().render(TALK),)
    lengths = [len(tokenizer().encode(text)) for text in shown]
    return {
        "job": job(trainer={"instruction_part": instruction, "response_part": response}),
        "tokenizer": tokenizer(),
        "prepared": prepared(lengths, tokens=Texts(shown)),
    }


def _boundary(off: Sequence[int]) -> dict[str, Any]:
    import numpy as np

    where = rows(len(off), layout="prompt-completion", turns=[0] * len(off))
    made = prepared([9] * len(off), trained=[4] * len(off), of=where, boundary=np.array(off, dtype=np.int32))
    return {"job": job(), "tokenizer": tokenizer(), "prepared": made, "sample": sample()}


CASES = (
    Case("collator", "stop tokens that lose their label", True, lambda: _collated(stops_lost=2)),
    Case("collator", "padding in the loss", True, lambda: _collated(pads_trained=5)),
    Case("collator", "labels made anew", True, lambda: _collated(masked_trained=9)),
    Case("collator", "labels that stay as they are", False, _collated),
    Case(
        "response-markers",
        "a marker of answers from another template",
        True,
        lambda: _markers("<|user|>", "### Response:\n"),
    ),
    Case(
        "response-markers",
        "a marker of questions from another template",
        True,
        lambda: _markers("<|im_start|>user\n", "<|assistant|>"),
    ),
    Case(
        "response-markers", "the template's own markers", False, lambda: _markers("<|user|>", "<|assistant|>")
    ),
    Case("prompt-boundary", "tokens merged over the boundary", True, lambda: _boundary([1, 2, 1])),
    Case("prompt-boundary", "prompts that begin their rows", False, lambda: _boundary([0, 0, 0])),
)
