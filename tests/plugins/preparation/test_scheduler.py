"""The schedule of the learning rate as transformers builds it (item 12)."""

from typing import Any

import pytest
from ftcheck_plugins.preparation import scheduler as module
from ftcheck_plugins.preparation.scheduler import listed, scheduler

from ftcheck import tables
from ftcheck.testing import job, prepared


def problem(name: str | None, rows: int = 40, **kwargs: Any) -> str | None:
    training = {"lr_scheduler_type": name, "per_device_train_batch_size": 1, "learning_rate": 2e-4}
    made = job(training={**training, "extra": {"lr_scheduler_kwargs": kwargs} if kwargs else {}})
    found: str | None = scheduler.open(made, prepared([5] * rows))
    return found


@pytest.mark.parametrize("name", sorted(tables.load("schedulers")["needs"]))
def test_a_schedule_without_its_argument_raises_and_the_proposed_one_mends_it(name: str) -> None:
    about = tables.load("schedulers")["needs"][name]
    proposed = {key: 12 if value == "steps" else value for key, value in about["proposed"].items()}

    assert problem(name) is not None
    assert listed(name, {}) is not None
    assert problem(name, **proposed) is None
    assert listed(name, proposed) is None


@pytest.mark.parametrize(
    "name", ["cosine_with_restarts", "polynomial", "inverse_sqrt", "reduce_lr_on_plateau"]
)
def test_other_schedules_need_nothing(name: str) -> None:
    assert problem(name) is None


def test_plain_schedules_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "tried", None)
    assert [problem(name) for name in (None, *tables.load("schedulers")["plain"])] == [None] * 5


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("cosine", {"no_such": 1}),
        ("polynomial", {"lr_end": 1.0}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1, "min_lr": 1e-5}),
        ("warmup_stable_decay", {"num_decay_steps": 3, "decay_type": "wobble"}),
        ("no_such_schedule", {}),
    ],
)
def test_what_the_schedule_does_not_take_is_said(name: str, kwargs: dict[str, Any]) -> None:
    assert problem(name, **kwargs) is not None


def test_every_schedule_of_transformers_is_plain_needs_something_or_builds() -> None:
    from transformers.trainer_utils import SchedulerType

    table = tables.load("schedulers")
    for one in SchedulerType:
        assert one.value in (*table["plain"], *table["needs"]) or problem(one.value) is None, one


def test_without_torch_the_table_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert problem("cosine_with_min_lr") == "it needs min_lr or min_lr_rate in lr_scheduler_kwargs"
    assert problem("polynomial") is None
