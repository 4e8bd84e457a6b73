"""metrics.jsonl: a line a log, flushed at once; and the callback that writes it."""

import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ftcheck.atomic import replace_file
from ftcheck.inputs.run_folder import read_metrics
from ftcheck.records import Progress
from ftcheck_trainers.on_device import OnDevice
from ftcheck_trainers.run_folder import GIB, METRICS, RunRecord, is_main, now

REAL, TRAINED = "tokens but padding", "tokens in the loss"
"""What the counts of a batch are called while they wait on the device."""


class Metrics:
    """metrics.jsonl, and what went through the model since its last line.

    Counts, losses and gradients stay on the device until `settle`, or until a line is written.
    `padding_share` is padding among all fed tokens, `trained_share` the share of the rest that is in the
    loss; speed leaves out evaluation and saving. Memory is what CUDA reserved, or this process's resident
    set where there is no GPU.
    """

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        """`after` is the step that a resumed run goes on from: later lines are dropped, tokens add up.

        `kept` are the lines of before, `last` is the line that was written last, as it was before JSON.
        """
        self._path = folder / METRICS
        self._before = 0
        self.last: dict[str, Any] = {}
        self.kept: list[dict[str, Any]] = []
        self._mark, self._busy = time.monotonic(), 0.0
        self._cells, self._real, self._trained = 0, 0, 0
        self._waiting, self._watched = OnDevice(), list[tuple[str, int, float]]()
        self._seen, self._peak, self._in_vain = 0, 0, 0
        self.tokens, self.seconds = 0, 0.0
        if is_main():
            lines = read_metrics(folder) if after else ()
            self.kept = [dict(line.values) for line in lines if line.step <= after]
            replace_file(self._path, "".join(json.dumps(line) + "\n" for line in self.kept).encode())
            self.tokens = self._before = max((line.get("tokens") or 0 for line in self.kept), default=0)

    def count(self, inputs: Mapping[str, Any]) -> None:
        """One batch goes through the model."""
        cells, mask = inputs["input_ids"].numel(), inputs.get("attention_mask")
        self._cells += cells
        if mask is None:
            self._real += cells
        else:
            self._waiting.put(REAL, 0, mask.sum())
        self._waiting.put(TRAINED, 0, (inputs["labels"] != -100).sum())

    def in_vain(self, tokens: int) -> None:
        """So many tokens that all processes fed were no row's: they filled a batch."""
        self._in_vain += tokens

    def watch(self, what: str, value: Any, step: int) -> None:
        """A number on the device that must be finite: `settle` tells it."""
        self._waiting.put(what, step, value)

    @property
    def full(self) -> bool:
        """Whether so much waits on the device that `settle` is due."""
        return self._waiting.full

    def settle(self) -> list[tuple[str, int, float]]:
        """Wait for the device, and tell what was watched since the last time: what, step, value."""
        self._read()
        watched, self._watched = self._watched, []
        return watched

    def _read(self) -> None:
        for name, step, value in self._waiting.read():
            if name == REAL:
                self._real += int(value)
            elif name == TRAINED:
                self._trained += int(value)
            else:
                self._watched.append((name, step, value))

    def tick(self) -> None:
        """An optimizer step is done."""
        self._busy += time.monotonic() - self._mark
        self.rest()
        self._peak = max(self._peak, *_memory())

    def rest(self) -> None:
        """What was done since the last tick was no training."""
        self._mark = time.monotonic()

    def line(self, step: int, epoch: float | None, logs: Mapping[str, Any]) -> dict[str, Any]:
        """Write what transformers logged, with the counts since the line before, and start over."""
        self._read()
        real, trained = self._real, self._trained
        seen = int(logs["num_tokens"]) - self._in_vain if "num_tokens" in logs else self._seen + real
        speed = (seen - self._seen) / self._busy if self._busy else None
        memory, reserved = _memory()
        self._peak = max(self._peak, memory, reserved)
        self.tokens = self._before + seen
        self.seconds += self._busy
        written = {
            "step": step,
            "epoch": epoch,
            "loss": logs.get("loss"),
            "learning_rate": logs.get("learning_rate"),
            "grad_norm": logs.get("grad_norm"),
            "tokens": self.tokens,
            "tokens_per_second": speed and round(speed, 1),
            "padding_share": round(1 - real / self._cells, 6) if self._cells else None,
            "trained_share": round(trained / real, 6) if real else None,
            "memory_gib": round(memory / GIB, 3),
            "memory_peak_gib": self.peak_gib,
            "mean_token_accuracy": logs.get("mean_token_accuracy"),
        }
        self.write(written)
        self._seen, self._busy = seen, 0.0
        self._cells, self._real, self._trained = 0, 0, 0
        return written

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line with the time and flush it.

        What is not finite is null, and named under `not_finite`: JSON has no NaN.
        """
        lost = [key for key, value in line.items() if _finite(value) is None and value is not None]
        self.last = {**line, **({"not_finite": lost} if lost else {}), "at": now()}
        if is_main():
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({key: _finite(value) for key, value in self.last.items()}) + "\n")

    @property
    def speed(self) -> float | None:
        """Tokens a second since this process began to train."""
        seen = self.tokens - self._before
        return round(seen / self.seconds, 1) if self.seconds and seen > 0 else None

    @property
    def peak_gib(self) -> float:
        """The most memory so far."""
        return round(self._peak / GIB, 3)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _memory() -> tuple[int, int]:
    """Bytes in use and at the peak."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return torch.cuda.memory_reserved(), torch.cuda.max_memory_reserved()
    resident = psutil.Process().memory_info().rss
    return resident, resident


def device() -> dict[str, Any]:
    """What trains: its kind, its name, and all its memory in GiB (None for a CPU)."""
    import torch

    if not torch.cuda.is_available():
        return {"kind": "cpu", "name": platform.processor() or platform.machine(), "memory_gib": None}
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {"kind": "cuda", "name": about.name, "memory_gib": round(about.total_memory / GIB, 2)}


def callback(metrics: Metrics, record: RunRecord, report: Callable[[Progress], None], task: str) -> Any:
    """The TrainerCallback that keeps run.json and metrics.jsonl, and says how far the run is."""
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):  # type: ignore[misc]
        """A line at each log, at each checkpoint and at the end."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            record.update(planned=record.values["planned"] | {"steps": state.max_steps}, device=device())
            metrics.rest()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            metrics.tick()
            control.should_log |= control.should_save or state.global_step >= state.max_steps
            return control

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_log |= control.should_save
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in logs:
                line = metrics.line(state.global_step, state.epoch, logs)
                report(_progress(task, line, state.max_steps))
            elif any(key.startswith("eval_") for key in logs):
                metrics.write({"step": state.global_step, **logs})

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            metrics.rest()

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            record.update(checkpoint=f"checkpoint-{state.global_step}", steps=state.global_step)
            metrics.rest()

    return Keeper()


def at_end(state: Any, metrics: Metrics) -> dict[str, Any]:
    """What run.json says of a training that has ended; `state` is the trainer's."""
    losses = [line["loss"] for line in state.log_history if "loss" in line]
    eval_losses = [line["eval_loss"] for line in state.log_history if "eval_loss" in line]
    return {
        "steps": state.global_step,
        "epochs": state.epoch,
        "tokens": metrics.tokens,
        "tokens_per_second": metrics.speed,
        "memory_peak_gib": metrics.peak_gib,
        "final_loss": losses[-1] if losses else None,
        "final_eval_loss": eval_losses[-1] if eval_losses else None,
    }


def _progress(task: str, line: Mapping[str, Any], total: int) -> Progress:
    speed = line["tokens_per_second"]
    detail = f"loss {line['loss']:.4g}" + (f"  {speed:,.0f} tokens/s" if speed else "")
    return Progress(task, line["step"], total, "steps", line["step"] >= total, detail)
