"""Must-fail and must-pass inputs of the rules of stage `during`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftcheck.inputs.metric_history import Span
from ftcheck.testing import Case, job, window

FALLING = [2.0, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.35, 1.3, 1.25]
SHARE = {"trained_share": Span(0.25, None, "the checked rows")}


def _losses(losses: Sequence[float | None], **about: Any) -> dict[str, Any]:
    return {"metrics": window(loss=losses, **about)}


def _with_job(losses: Sequence[float | None]) -> dict[str, Any]:
    return {"job": job(), **_losses(losses)}


def _paces(paces: Sequence[float], low: float | None = None) -> Mapping[str, Any]:
    expected = {} if low is None else {"tokens_per_second": Span(low, 2 * low, "run-time")}
    return {"metrics": window(tokens_per_second=paces, expected=expected)}


def _peaks(peak: float) -> Mapping[str, Any]:
    expected = {"memory_gib": Span(11.1, 11.9, "memory-fit")}
    return {"metrics": window(memory_peak_gib=[peak] * 3, expected=expected, device="cuda", memory_gib=24.0)}


def _shares(trained: float, padding: float) -> Mapping[str, Any]:
    made = window(trained_share=[trained] * 12, padding_share=[padding] * 12, expected=SHARE)
    return {"metrics": made}


CASES: tuple[Case, ...] = (
    Case("finite-loss", "a loss that is NaN", True, lambda: _with_job([2.0, 1.9, float("nan")])),
    Case("finite-loss", "0.0 in three logs, as NaN is logged", True, lambda: _with_job([2.0, 0, 0, 0])),
    Case("finite-loss", "a falling loss", False, lambda: _with_job(FALLING)),
    Case("loss-spike", "a loss that jumps and stays", True, lambda: _losses([*FALLING, 6.0, 6.5, 7.0])),
    Case("loss-spike", "one spike that comes back", False, lambda: _losses([*FALLING, 6.0, 1.2, 1.2])),
    Case("loss-progress", "forty logs at one loss", True, lambda: _losses([2.0, 2.1] * 20)),
    Case("loss-progress", "a loss that halves", False, lambda: _losses([2.0 - n / 40 for n in range(40)])),
    Case(
        "eval-loss",
        "rising while training goes on falling",
        True,
        lambda: _losses(FALLING, eval_loss=[1.5, 1.4, 1.6, 1.7]),
    ),
    Case("eval-loss", "falling with training", False, lambda: _losses(FALLING, eval_loss=[1.6, 1.5, 1.4])),
    Case("training-speed", "half of the plan's least", True, lambda: _paces([2400.0] * 6, 4900.0)),
    Case("training-speed", "a run that slows down", True, lambda: _paces([5000.0] * 10 + [1200.0] * 5)),
    Case("training-speed", "the plan's pace", False, lambda: _paces([5300.0] * 6, 4900.0)),
    Case("training-memory", "more than was predicted", True, lambda: _peaks(13.5)),
    Case("training-memory", "within the prediction", False, lambda: _peaks(11.6)),
    Case("fed-batches", "a tenth of the trained tokens", True, lambda: _shares(0.025, 0.0)),
    Case("fed-batches", "two thirds padding", True, lambda: _shares(0.25, 0.66)),
    Case("fed-batches", "the checked share, little padding", False, lambda: _shares(0.24, 0.05)),
)
