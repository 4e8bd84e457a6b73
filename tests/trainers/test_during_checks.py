"""Runs that are watched while they train: planted NaN, spikes, padding, and rules that break."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ftcheck_trainers import arguments, sft_trainer
from ftcheck_trainers.qlora import TRAINER

from ftcheck.errors import TrainingError
from ftcheck.extension.plugin_host import make_host
from ftcheck.inputs.metric_history import Expected, Span
from ftcheck.inputs.run_folder import State, read
from ftcheck.policy.params import full_params
from ftcheck.records import Check, Stage
from ftcheck.settings import Job
from ftcheck.training.during_checks import DuringChecks
from tests.trainers.conftest import Kit

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

NAN = float("nan")
HOST = make_host()
Loss = Callable[[Any, int], Any]


def watch(expected: Expected | None = None, **rules: dict[str, Any]) -> DuringChecks:
    """A watch with these rules (`_` for `-`) and their parameters."""
    checks = []
    for name, params in rules.items():
        rule = HOST.rules[name.replace("_", "-")]
        known = full_params(rule, params)
        checks.append(Check(f"mapper::{rule.id}", rule.id, rule.id, "mapper", Stage.DURING, params=known))
    return DuringChecks(checks, HOST, expected)


def trained(kit: Kit, job: Job, watched: DuringChecks, *, resume: bool = False) -> Path:
    inputs = kit.inputs(job, watch=watched)
    return Path(TRAINER.train(kit.ticket(job, inputs), job, inputs, resume=resume))


def stopped(kit: Kit, job: Job, watched: DuringChecks) -> str:
    with pytest.raises(TrainingError) as caught:
        trained(kit, job, watched)
    assert caught.value.exit_code == 6
    return str(caught.value)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Loss], None]:
    """Change the loss of each step: `plant(lambda loss, step: ...)`."""
    from trl import SFTTrainer

    computed = SFTTrainer.compute_loss

    def planted(change: Loss) -> None:
        def compute_loss(
            self: Any, model: Any, inputs: Any, return_outputs: bool = False, **more: Any
        ) -> Any:
            found = computed(self, model, inputs, return_outputs, **more)
            step = self.state.global_step + 1
            return (change(found[0], step), found[1]) if return_outputs else change(found, step)

        monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)

    return planted


def nan_from(first: int) -> Loss:
    return lambda loss, step: loss * NAN if step >= first else loss


def test_a_planted_nan_stops_the_run_at_its_step_and_run_json_says_which_check(kit: Kit, plant: Any) -> None:
    plant(nan_from(3))

    said = stopped(kit, kit.job(max_steps=6), watch(finite_loss={}, loss_spike={}))

    assert said.startswith("stopped by mapper::finite-loss at step 3: the loss is not finite at step 3")
    run = kit.run_json()
    assert (run["status"], run["reason"]) == ("failed", said)
    assert (run["stopped_by"]["check"], run["stopped_by"]["step"]) == ("mapper::finite-loss", 3)
    outcomes = {one["id"]: one["outcome"] for one in run["during"]}
    assert outcomes == {"mapper::finite-loss": "failed", "mapper::loss-spike": "skipped"}
    found = read(kit.output)
    assert found.state is State.FAILED
    assert [line.step for line in found.metrics if line.is_not_finite("loss")] == [3]
    assert found.metrics[-1].values["during"][0]["action"] == "stop"


def test_the_zeros_that_transformers_logs_for_nan_stop_it_too(
    kit: Kit, plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ftcheck's own guards, under transformers' default, the log says 0.0 all night."""
    made = arguments.sft_arguments
    monkeypatch.setattr(
        arguments, "sft_arguments", lambda *a, **k: made(*a, **k) | {"logging_nan_inf_filter": True}
    )
    monkeypatch.setattr(sft_trainer, "refuse_not_finite", lambda *given: None)
    plant(nan_from(3))

    said = stopped(kit, kit.job(max_steps=9), watch(finite_loss={"patience": 99}))

    assert "mapper::finite-loss at step 5: the loss is exactly 0 in 3 consecutive logs, since step 3" in said
    assert [line["loss"] for line in kit.metrics() if "loss" in line][2:] == [0.0, 0.0, 0.0]


def test_a_spike_stops_the_run_within_its_patience_and_a_warning_does_not(kit: Kit, plant: Any) -> None:
    plant(lambda loss, step: loss + 5 if step in (7, 8) else loss)
    job = kit.job(max_steps=12, save_steps=3)

    said = stopped(kit, job, watch(loss_spike={"patience": 2}))

    assert said.startswith("stopped by mapper::loss-spike at step 8:")
    assert kit.run_json()["checkpoint"] == "checkpoint-6"
    told: list[Any] = []
    warning = watch(loss_spike={"patience": 2, "action": "warn"})
    warning._tell = told.append
    trained(kit, job, warning, resume=True)
    run = kit.run_json()
    assert (run["status"], [alarm.step for alarm in told]) == ("finished", [8])
    assert (run["during"][0]["outcome"], run["during"][0]["acted"]) == ("failed", "warn")
    assert "stopped_by" not in run


def test_padding_saves_a_checkpoint_and_the_run_goes_on(kit: Kit) -> None:
    asked = {"max_padding": 0.05, "patience": 2, "action": "checkpoint"}

    trained(kit, kit.job(max_steps=4, save_strategy="no"), watch(fed_batches=asked))

    run = kit.run_json()
    [result] = run["during"]
    assert run["status"] == "finished"
    assert run["checkpoint"] == "checkpoint-2"
    assert (kit.output / "checkpoint-2" / "trainer_state.json").exists()
    assert (result["outcome"], result["acted"], result["findings"][0]["step"]) == ("failed", "checkpoint", 2)
    assert "are padding" in result["findings"][0]["message"]


def test_trackers_get_their_logs_beside_the_watch(kit: Kit) -> None:
    """What `report_to` names is TRL's; that the name arrives there is `test_arguments`' to show."""
    pytest.importorskip("tensorboard")

    trained(kit, kit.job(max_steps=2, report_to=("tensorboard",)), watch(finite_loss={}))

    assert list(kit.output.rglob("events.out.tfevents.*"))
    assert kit.run_json()["during"][0]["looks"] == 2


def test_what_is_fed_is_held_against_the_checked_rows_and_the_plan(kit: Kit) -> None:
    expected = Expected({"tokens_per_second": Span(1e9, 2e9, "run-time")}, {"memory_gib": "no memory-fit"})

    trained(kit, kit.job(), watch(expected, fed_batches={"patience": 2}, training_speed={"patience": 2}))

    run = kit.run_json()
    batches, speed = run["during"]
    planned = run["planned"]
    share = run["expected"]["trained_share"]["low"]
    assert share == pytest.approx(planned["trained_tokens"] / planned["tokens"], abs=1e-6)
    assert (batches["outcome"], speed["outcome"]) == ("passed", "failed")
    assert "below the 1,000,000,000 of run-time" in speed["findings"][0]["message"]
    assert run["expected"]["unknown"] == {"memory_gib": "no memory-fit"}
    assert run["device"]["kind"] == "cpu"
    assert all(line["at"] for line in kit.metrics())
