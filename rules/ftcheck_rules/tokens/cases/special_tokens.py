"""Must-fail and must-pass inputs of the special-token rules."""

from dataclasses import dataclass
from typing import Any

from ftcheck.testing import Case, FakeTokenizer, job, model_config, prepared

BOS = "<|begin|>"


@dataclass
class BeginsTexts(FakeTokenizer):
    """Begins every text with BOS on its own, as most tokenizers do."""

    bos_token_id: int | None = 1_000_005
    marks: tuple[str, ...] = (*FakeTokenizer.marks, BOS)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text, BOS first where special tokens are added."""
        first = [self.bos_token_id] if special and self.bos_token_id is not None else []
        return [*first, *super().encode(text)]


def _special(bos: int, *, rows: int = 1_000_100, **changes: Any) -> dict[str, Any]:
    import numpy as np

    return {
        "job": job(),
        "tokenizer": BeginsTexts(**changes),
        "prepared": prepared([9, 9], trained=[4, 4], bos=np.full(2, bos, dtype=np.int32)),
        "model": model_config(vocab_size=rows),
    }


CASES = (
    Case("special-tokens", "two BOS at the start of rows", True, lambda: _special(2)),
    Case("special-tokens", "conversations without BOS", True, lambda: _special(0)),
    Case(
        "special-tokens", "a padding token that the model has not", True, lambda: _special(1, rows=1_000_001)
    ),
    Case("special-tokens", "padding is BOS", True, lambda: _special(1, pad_token_id=1_000_005)),
    Case("special-tokens", "one BOS, and a padding token of its own", False, lambda: _special(1)),
    Case("special-tokens", "padding is EOS", False, lambda: _special(1, pad_token_id=1_000_000)),
    Case("special-tokens", "a tokenizer without BOS", False, lambda: _special(0, bos_token_id=None)),
)
