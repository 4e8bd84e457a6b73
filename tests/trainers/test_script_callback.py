"""`ftcheck.callback`: a run that ftcheck did not start, watched, and written down as one of its own."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import SequentialSampler

import ftcheck
from ftcheck import Refused, TrainingError
from ftcheck.settings import Job, Model
from tests.trainers import small
from tests.trainers.conftest import make_ticket
from tests.trainers.test_verify import Own

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]


@pytest.fixture
def own(model_folder: Path, tmp_path: Path) -> Own:
    """The small job with two checks of stage `during`, checked."""
    made = Own(tmp_path)
    policy = small.make_project(tmp_path, model_folder)
    with policy.open("a", encoding="utf-8") as file:
        file.write("  finite-loss: {}\n  fed-batches: {}\n")
    made.checked()
    return made


def short(own: Own, **arguments: Any) -> Any:
    """Four steps of the small job."""
    own.overrides = ["jobs.small.training.max_steps=4"]
    own.checked()
    return own.trainer(max_steps=4, logging_steps=1, **arguments)


def run_json(own: Own) -> dict[str, Any]:
    return small.run_json(own.folder / "run")


def test_a_run_is_written_down_as_one_of_ftchecks_own(own: Own) -> None:
    trainer = short(own)
    ticket = own.ticket()
    ticket.verify(trainer)
    trainer.add_callback(ftcheck.callback(ticket))
    trainer.train()

    found = run_json(own)
    assert (found["status"], found["trainer"], found["steps"]) == ("finished", "script", 4)
    assert found["ids"] == ticket.ids
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    trained = sum(label != -100 for row in trainer.train_dataset["labels"] for label in row)
    assert found["planned"]["rows"] == 60
    assert found["planned"]["tokens"] == sum(lengths)
    assert found["planned"]["trained_tokens"] == trained
    assert found["planned"]["steps"] == 4
    assert {one["id"]: one["outcome"] for one in found["during"]}["small::finite-loss"] == "passed"
    lines = small.metrics(own.folder / "run")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert all(0 < line["trained_share"] < 1 for line in lines if "loss" in line)
    assert any("eval_loss" in line for line in lines)


def test_the_callback_verifies_what_nobody_verified(own: Own) -> None:
    rows = own.rows()
    trainer = own.trainer(rows.select(range(59, -1, -1)))
    trainer.add_callback(ftcheck.callback(own.ticket()))

    with pytest.raises(Refused, match=r"ids-changed.*training row 1 "):
        trainer.train()

    assert trainer.state.global_step == 0
    assert not (own.folder / "run" / "run.json").exists()


def test_the_callback_verifies_a_trainer_that_was_changed_since(own: Own) -> None:
    trainer = own.trainer()
    ticket = own.ticket()
    ticket.verify(trainer)
    trainer.add_callback(ftcheck.callback(ticket))
    trainer.train_dataset = trainer.train_dataset.select(range(59))

    with pytest.raises(Refused, match="the trainer has 59 rows, 60 were checked"):
        trainer.train()


def test_the_callback_looks_at_the_sampler_of_the_training_itself(own: Own) -> None:
    trainer = own.trainer()
    ticket = own.ticket()
    ticket.verify(trainer)
    trainer.add_callback(ftcheck.callback(ticket))
    trainer._get_train_sampler = lambda rows=None: SequentialSampler(range(10))

    with pytest.raises(Refused, match="the sampler SequentialSampler draws 10 of the 60 rows"):
        trainer.train()


def test_evaluation_rows_that_nobody_verified_are_verified_before_they_are_used(own: Own) -> None:
    trainer = own.trainer(evaluation=own.rows("eval").select(range(11)))
    trainer.add_callback(ftcheck.callback(own.ticket()))

    with pytest.raises(Refused, match="evaluation row 12 "):
        trainer.train()

    found = run_json(own)
    assert (found["status"], found["reason"]) == ("failed", "the gate refused what is fed (ids-changed)")


def test_an_error_in_the_training_is_written_down_at_once(own: Own) -> None:
    trainer = short(own)
    ticket = own.ticket()
    ticket.verify(trainer)
    trainer.add_callback(ftcheck.callback(ticket))
    step = trainer.training_step

    def failing(*args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(*args, **kwargs)

    trainer.training_step = failing
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.train()

    found = run_json(own)
    assert found["status"] == "failed"
    assert "out of memory" in found["reason"]
    assert found["remedy"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_smaller_batch_that_transformers_finds_itself_is_refused(own: Own) -> None:
    trainer = short(own, auto_find_batch_size=True)
    ticket = own.ticket()
    ticket.verify(trainer)
    trainer.add_callback(ftcheck.callback(ticket))
    step = trainer.training_step

    def failing(*args: Any, **kwargs: Any) -> Any:
        if trainer._train_batch_size == 8:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(*args, **kwargs)

    trainer.training_step = failing
    with pytest.raises(Refused, match=r"a step trains 16 rows in the policy .*, 14 in the trainer"):
        trainer.train()

    assert run_json(own)["status"] == "failed"


def test_a_folder_that_cannot_be_written_is_named_in_a_line(own: Own) -> None:
    (own.folder / "run" / "run.lock").mkdir(parents=True)
    trainer = own.trainer()
    trainer.add_callback(ftcheck.callback(own.ticket()))

    with pytest.raises(TrainingError, match=r"run cannot be written: Is a directory"):
        trainer.train()


def test_a_check_that_stops_ends_the_run(own: Own) -> None:
    policy = own.folder / "policy.yaml"
    stops = "finite-loss: {params: {action: stop}}"
    policy.write_text(policy.read_text(encoding="utf-8").replace("finite-loss: {}", stops), encoding="utf-8")
    trainer = short(own, logging_nan_inf_filter=False)
    ticket = own.ticket()
    ticket.verify(trainer)
    trainer.add_callback(ftcheck.callback(ticket))
    step = trainer.training_step
    trainer.training_step = lambda *args, **kwargs: step(*args, **kwargs) * float("nan")

    with pytest.raises(TrainingError, match="stopped by small::finite-loss"):
        trainer.train()

    assert run_json(own)["stopped_by"]["check"] == "small::finite-loss"


def test_a_resumed_run_goes_on_in_its_folder(own: Own) -> None:
    trainer = short(own, save_strategy="steps", save_steps=2)
    ticket = own.ticket()
    ticket.verify(trainer)
    trainer.add_callback(ftcheck.callback(ticket))
    trainer.train()

    again = own.trainer(max_steps=4, logging_steps=1, save_strategy="steps", save_steps=2)
    ticket.verify(again)
    again.add_callback(ftcheck.callback(ticket))
    again.train(resume_from_checkpoint=str(own.folder / "run" / "checkpoint-2"))

    found = run_json(own)
    assert [one["step"] for one in found["resumed"]] == [2]
    steps = [
        json.loads(line)["step"] for line in (own.folder / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert sorted(set(steps)) == [1, 2, 3, 4]
    assert (own.folder / "run" / "checkpoint-4").is_dir()


def test_a_run_may_be_resumed_with_the_same_step_in_other_portions(own: Own) -> None:
    trainer = short(own, save_strategy="steps", save_steps=2)
    trainer.train()

    portions = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    again = own.trainer(max_steps=4, **portions)
    ticket = own.ticket()
    ticket.verify(again)
    again.add_callback(ftcheck.callback(ticket))
    again.train(resume_from_checkpoint=str(own.folder / "run" / "checkpoint-2"))

    assert run_json(own)["status"] == "finished"


def test_a_run_that_ended_unseen_is_not_in_the_way_of_the_next(own: Own) -> None:
    """As in a notebook: the callback alone, an error in one cell, and the cell again."""
    trainer = short(own)
    trainer.add_callback(ftcheck.callback(own.ticket()))
    step = trainer.training_step
    trainer.training_step = lambda *args, **kwargs: int("one")
    with pytest.raises(ValueError, match="invalid literal"):
        trainer.train()
    assert run_json(own)["status"] == "running"

    trainer.training_step = step
    trainer.remove_callback(type(trainer.callback_handler.callbacks[-1]))
    trainer.add_callback(ftcheck.callback(own.ticket()))
    trainer.train()

    assert run_json(own)["status"] == "finished"


def test_a_script_that_ftcheck_train_started_leaves_the_folder_to_it(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_JOB", "small")
    trainer = own.trainer()
    trainer.add_callback(ftcheck.callback(own.ticket()))

    with pytest.raises(TrainingError, match=r"leave out ftcheck\.callback"):
        trainer.train()


def test_a_folder_of_another_job_is_refused(own: Own) -> None:
    (own.folder / "run").mkdir()
    earlier = {"schema": "ftcheck.run/1", "job": "other", "status": "finished"}
    (own.folder / "run" / "run.json").write_text(json.dumps(earlier), encoding="utf-8")
    trainer = own.trainer()
    trainer.add_callback(ftcheck.callback(own.ticket()))

    with pytest.raises(TrainingError, match="contains a run of the job other"):
        trainer.train()


def test_a_ticket_of_a_trainer_has_no_policy_to_compare_with() -> None:
    ticket = make_ticket(Job(name="j", model=Model(name="m")), None)

    with pytest.raises(ftcheck.FtcheckError, match=r"ftcheck\.require"):
        ftcheck.callback(ticket)
    with pytest.raises(ftcheck.FtcheckError, match=r"ftcheck\.require"):
        ticket.verify(object())
