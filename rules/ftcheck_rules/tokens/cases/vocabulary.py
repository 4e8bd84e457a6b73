"""Must-fail and must-pass inputs of the vocabulary rules."""

from typing import Any

from ftcheck.testing import Case, job, model_config, modules, prepared, token_store, tokenizer, weights

EOS = 7


def _sides(rows: int, *, used: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    zero, equal = changes.pop("zero", ()), changes.pop("equal", ())
    store = token_store(used, (1, 2, EOS))
    side = tokenizer(size=8, eos_token_id=EOS, stop_ids=frozenset({EOS}))
    return {
        "job": job(**changes),
        "model": model_config(vocab_size=rows),
        "weights": weights(rows, zero=zero, equal=equal),
        "tokenizer": side,
        "prepared": prepared([len(used), 3], tokens=store),
    }


def _tokens(rows: int = 8, *, used: tuple[int, ...] = (1, 2), **changes: Any) -> dict[str, Any]:
    return {**_sides(rows, used=used, **changes), "modules": modules(vocabulary=rows, tied=True)}


NEW: dict[str, Any] = {"model": {"resize_embeddings_to": 64}, "used": (1, 9)}

CASES = (
    Case("vocabulary", "an id beyond the table", True, lambda: _sides(8, used=(1, 8))),
    Case(
        "vocabulary",
        "a table made smaller",
        True,
        lambda: _sides(64, used=(1, 2), model={"resize_embeddings_to": 8}),
    ),
    Case("vocabulary", "more rows than tokens", False, lambda: _sides(64, used=(1, 2))),
    Case("added-tokens", "new tokens that LoRA leaves", True, lambda: _tokens(training={"lora": {}}, **NEW)),
    Case("added-tokens", "a stop token of zeros", True, lambda: _tokens(training={"lora": {}}, zero=(EOS,))),
    Case(
        "added-tokens",
        "new tokens that are trained",
        False,
        lambda: _tokens(training={"lora": {"extra": {"trainable_token_indices": [9]}}}, **NEW),
    ),
    Case("added-tokens", "special tokens as trained", False, lambda: _tokens(training={"lora": {}})),
)
