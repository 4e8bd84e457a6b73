"""Must-fail and must-pass inputs of the argument rules."""

from typing import Any

from ftcheck.lock import today
from ftcheck.testing import Case, job, lock, packages


def _with(**training: Any) -> dict[str, Any]:
    return {"job": job(training=training, data={"eval": "eval.jsonl"}), "lock": None}


def _locked(**defaults: Any) -> dict[str, Any]:
    return {"job": job(), "lock": lock(defaults={**today(), **defaults})}


def _bugs(trl: str, transformers: str = "5.23.0", **training: Any) -> dict[str, Any]:
    extra = {key: training.pop(key) for key in ("use_liger_kernel",) if key in training}
    made = job(training={**training, "extra": extra})
    return {"packages": packages(trl=trl, transformers=transformers), "jobs": (made,)}


BEST = {"load_best_model_at_end": True}

CASES = (
    Case(
        "training-arguments",
        "checkpoints that do not fall on evaluations",
        True,
        lambda: _with(eval_strategy="steps", eval_steps=7, save_steps=10, extra=BEST),
    ),
    Case(
        "training-arguments",
        "checkpoints on every other evaluation",
        False,
        lambda: _with(eval_strategy="steps", eval_steps=5, save_steps=10, extra=BEST),
    ),
    Case(
        "training-arguments",
        "a default that is another one than when it was locked",
        True,
        lambda: _locked(weight_decay=0.1),
    ),
    Case("training-arguments", "an argument that is gone", True, lambda: _locked(no_such_argument=1)),
    Case("training-arguments", "the defaults of today", False, _locked),
    Case(
        "known-bugs",
        "TRL 0.19 with Liger and an assistant mask",
        True,
        lambda: _bugs("0.19.1", use_liger_kernel=True, assistant_only_loss=True),
    ),
    Case(
        "known-bugs",
        "accumulation before transformers 4.46",
        True,
        lambda: _bugs("1.16.0", "4.45.2", gradient_accumulation_steps=2),
    ),
    Case(
        "known-bugs",
        "the same settings with the versions of today",
        False,
        lambda: _bugs("1.16.0", use_liger_kernel=True, assistant_only_loss=True),
    ),
)
