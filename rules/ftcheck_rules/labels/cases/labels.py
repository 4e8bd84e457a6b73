"""Must-fail and must-pass inputs of the label rules."""

from collections.abc import Sequence
from typing import Any

from ftcheck.testing import Case, inputs, job, model_config, prepared, rows, sample, tokenizer

MARKED = "{% for m in messages %}{% generation %}…{% endgeneration %}{% endfor %}"


def _labels(lengths: Sequence[int], trained: Sequence[int], **columns: Any) -> dict[str, Any]:
    made_rows = prepared(lengths, trained=trained, **columns)
    made = {"job": job(), "tokenizer": tokenizer(), "prepared": made_rows, "sample": sample()}
    return {**made, "inputs": inputs(), "model": model_config()}


def _never_stops() -> dict[str, Any]:
    import numpy as np

    return _labels([9, 9], [4, 4], stop_trained=np.array([True, False]))


def _cut(lengths: Sequence[int], trained: Sequence[int], max_length: int) -> dict[str, Any]:
    cut = prepared(lengths, trained=trained, max_length=max_length)
    return {"job": job(training={"max_length": max_length}), "prepared": cut, "inputs": inputs()}


def _masked_evaluation() -> dict[str, Any]:
    made = job(data={"eval": "eval.jsonl"}, training={"max_length": 100, "eval_strategy": "epoch"})
    evaluated = prepared([90, 200], trained=[10, 10], max_length=100)
    return {
        "job": made,
        "prepared": prepared([90], trained=[10], max_length=100),
        "inputs": inputs(made, prepared_eval=evaluated),
    }


def _ignored_weight() -> dict[str, Any]:
    return _labels([9, 9], [4, 4], of=rows(2, remarks={"switched-off": [1]}))


def _questions_too(**training: Any) -> dict[str, Any]:
    using = tokenizer(chat_template=MARKED, training_template=MARKED)
    made = {"job": job(training=training), "tokenizer": using, "sample": sample()}
    return {**made, "prepared": prepared([9, 9]), "inputs": inputs(), "model": model_config()}


CASES = (
    Case("trained-tokens", "questions in the loss, and nobody said so", True, _questions_too),
    Case("trained-tokens", "a row with nothing in the loss", True, lambda: _labels([9, 9], [4, 0])),
    Case("trained-tokens", "rows whose stop token is not in the loss", True, _never_stops),
    Case("trained-tokens", "an answer of weight 0 in the loss", True, _ignored_weight),
    Case("trained-tokens", "answers and their stop tokens", False, lambda: _labels([9, 9], [4, 4])),
    Case("truncation", "an answer that is cut away", True, lambda: _cut([90, 200], [10, 10], 100)),
    Case("truncation", "half of an answer is cut away", True, lambda: _cut([90, 105], [10, 10], 100)),
    Case("truncation", "an evaluation row without its answer", True, _masked_evaluation),
    Case("truncation", "rows that just fit", False, lambda: _cut([90, 100], [10, 10], 100)),
)
