"""The job's checks of stage `during`, asked on each log: they warn, save a checkpoint, or end the run."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftcheck import ranks
from ftcheck.errors import TrainingError
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.metric_history import Span, expected_from_dict, expected_to_dict
from ftcheck.training.during_checks import Action, Alarm, DuringChecks
from ftcheck.training.expectations import planned
from ftcheck_trainers import metrics as metrics_file
from ftcheck_trainers.failure_messages import NotFinite
from ftcheck_trainers.metrics import Metrics
from ftcheck_trainers.run_folder import Claim, RunRecord, is_main

EVERY = 10.0
"""Seconds after which run.json is told how the checks stand, so that `ftcheck monitor` can show it."""


@contextlib.contextmanager
def watched(
    trainer: Any, inputs: Inputs, claimed: Claim, record: RunRecord, metrics: Metrics
) -> Iterator[None]:
    """Train inside of this: the watch that `ftcheck train` gave sees each log, and run.json is told.

    Raises `TrainingError` where a check with `action: stop` has a finding. Without a watch nothing happens.
    """
    watch: DuringChecks | None = inputs.get("watch") if inputs.has("watch") else None
    if watch is None:
        yield
        return
    trainer.add_callback(begin(watch, inputs, claimed, record, metrics))
    try:
        yield
    except NotFinite as error:
        metrics.write({"loss": None, **error.line} if "eval_loss" not in error.line else error.line)
        _act(_seen(watch, metrics), record, metrics)
        raise
    finally:
        record.update(during=watch.results())


def begin(watch: DuringChecks, inputs: Inputs, claimed: Claim, record: RunRecord, metrics: Metrics) -> Any:
    """Open what the checks ask for; returns the TrainerCallback that asks them.

    What is expected is the first start's; the share of trained tokens is that of the rows to be fed.
    """
    if claimed.earlier.get("expected"):
        watch.expected = expected_from_dict(claimed.earlier["expected"])
    about = record.values["planned"]
    if about.get("tokens"):
        share = about["trained_tokens"] / about["tokens"]
        watch.expect("trained_share", Span(round(share, 6), None, "the checked rows"))
    found = metrics_file.device()
    if found["kind"] == "cuda" and not claimed.earlier.get("expected") and is_main():
        watch.expected = planned(inputs.get("job"), inputs, watch.expected)
    watch.begin(
        inputs, metrics.kept, total=about.get("steps"), device=found["kind"], memory_gib=found["memory_gib"]
    )
    record.update(expected=expected_to_dict(watch.expected), during=watch.results())
    return _callback(watch, record, metrics)


def _callback(watch: DuringChecks, record: RunRecord, metrics: Metrics) -> Any:
    from transformers import TrainerCallback

    class Watching(TrainerCallback):  # type: ignore[misc]
        """Asks on each log; the first process decides, and all do the same."""

        told = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> Any:
            if "loss" in logs or "eval_loss" in logs:
                alarms = ranks.decided(lambda: _seen(watch, metrics))
                if alarms or time.monotonic() - self.told > EVERY:
                    record.update(during=watch.results(), steps=state.global_step)
                    self.told = time.monotonic()
                _act(alarms, record, metrics)
                control.should_save |= any(alarm.action is Action.CHECKPOINT for alarm in alarms)
            return control

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            record.update(during=watch.results())

    return Watching()


def _seen(watch: DuringChecks, metrics: Metrics) -> tuple[Alarm, ...]:
    return watch.see(metrics.last)


def _act(alarms: Sequence[Alarm], record: RunRecord, metrics: Metrics) -> None:
    """Tell metrics.jsonl and run.json, and end the run where a check asks for it."""
    if not alarms:
        return
    metrics.write({"step": alarms[0].step, "during": [_told(alarm) for alarm in alarms]})
    stop = next((alarm for alarm in alarms if alarm.action is Action.STOP), None)
    if stop is not None:
        record.update(stopped_by=_told(stop))
        raise TrainingError(f"stopped by {stop}")


def _told(alarm: Alarm) -> Mapping[str, Any]:
    return {
        "check": alarm.check,
        "step": alarm.step,
        "action": alarm.action.value,
        "severity": alarm.finding.severity.value,
        "message": alarm.finding.message,
    }
