"""Must-fail and must-pass inputs of the rules on the run and its adapter."""

from collections.abc import Mapping
from typing import Any

from ftcheck.inputs.finished_run import Adapter
from ftcheck.inputs.run_folder import State
from ftcheck.testing import Case, adapter, inputs, job, prepared, run_artifacts

FALLING = [2.0 / (1 + n / 5) for n in range(30)]


def went(*losses: float | None, **about: Any) -> dict[str, Any]:
    """The inputs of `loss-convergence`."""
    return {
        "job": job(),
        "run_artifacts": run_artifacts(losses or FALLING, **about),
        "prepared": prepared([5] * 3),
    }


def _loaded(**changes: Any) -> Mapping[str, Any]:
    return {
        "job": job(training={"lora": {"r": 16}}),
        "run_artifacts": run_artifacts(),
        "adapter": adapter(**changes),
    }


def _broken() -> Mapping[str, Any]:
    return {**_loaded(), "adapter": Adapter(problem="RuntimeError: size mismatch for lora_A")}


def _peak(gib: float, kind: str = "cuda") -> Mapping[str, Any]:
    about: dict[str, Any] = {
        "memory_peak_gib": gib,
        "device": {"kind": kind, "memory_gib": 24.0},
        "expected": {"memory_gib": {"low": 11.1, "high": 11.9, "source": "memory-fit"}},
    }
    made = job()
    return {"job": made, "run_artifacts": run_artifacts(**about), "inputs": inputs(made)}


CASES: tuple[Case, ...] = (
    Case("loss-convergence", "a loss that falls and stays down", False, went),
    Case("loss-convergence", "a loss that does not fall", True, lambda: went(*[1.3] * 12)),
    Case(
        "loss-convergence", "a loss that rises at the end", True, lambda: went(*FALLING[:20], *FALLING[:10])
    ),
    Case("loss-convergence", "a loss that was not finite", True, lambda: went(2.0, None, 1.0, 0.9, 0.8)),
    Case("loss-convergence", "a run that was killed", True, lambda: went(state=State.CRASHED)),
    Case("loss-convergence", "a run of another job", True, lambda: went(job="mapper")),
    Case("loss-convergence", "a run of other rows", True, lambda: went(ids="sha256:other")),
    Case("loss-convergence", "evaluation rising", True, lambda: went(eval_losses=[1.0, 0.8, 0.9, 1.2])),
    Case("loss-convergence", "evaluation falling", False, lambda: went(eval_losses=[1.0, 0.9, 0.8])),
    Case("loss-convergence", "metrics cut in a line", True, lambda: went(notes=["not JSON: cut"])),
    Case("adapter-loads", "it loads and was trained", False, _loaded),
    Case("adapter-loads", "it does not load", True, _broken),
    Case("adapter-loads", "an adapter that was never trained", True, lambda: _loaded(zero=28)),
    Case("adapter-loads", "weights that are not finite", True, lambda: _loaded(not_finite=("x.lora_B",))),
    Case(
        "adapter-loads",
        "an adapter for another base",
        True,
        lambda: _loaded(config={"base_model_name_or_path": "other/base", "r": 16}),
    ),
    Case("adapter-loads", "more tokens than rows", True, lambda: _loaded(tokens=2050)),
    Case("adapter-loads", "another template beside it", True, lambda: _loaded(beside=("another template",))),
    Case("memory-peak", "within the prediction", False, lambda: _peak(11.6)),
    Case("memory-peak", "far above the prediction", True, lambda: _peak(15.0)),
    Case("memory-peak", "nothing to spare", True, lambda: _peak(23.5)),
)
