from typing import Any

import pytest

from ftcheck.estimate.steps import effective_batch, every, shares, steps
from ftcheck.settings import Job
from ftcheck.testing import job


def made(batch: int = 1, accumulation: int = 1, gpus: int = 1, **training: Any) -> Job:
    stated = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 1.0,
        **training,
    }
    return job(training=stated, hardware={"count": gpus})


@pytest.mark.parametrize(
    ("fed", "settings", "an_epoch", "total"),
    [
        (10, {}, 10, 10),
        (10, {"batch": 3}, 4, 4),
        (10, {"batch": 3, "extra": {"dataloader_drop_last": True}}, 3, 3),
        (10, {"accumulation": 4}, 3, 3),
        (10, {"batch": 2, "accumulation": 2, "gpus": 2}, 2, 2),
        (10, {"accumulation": 4, "num_train_epochs": 2.5}, 3, 8),
        (10, {"max_steps": 7, "num_train_epochs": 3.0}, 10, 7),
        (10, {"max_steps": 0}, 10, 0),
        (2, {"batch": 8, "accumulation": 4}, 1, 1),
    ],
)
def test_steps_are_counted_as_transformers_counts_them(
    fed: int, settings: dict[str, Any], an_epoch: int, total: int
) -> None:
    plan = steps(made(**settings), fed)
    assert (plan.an_epoch, plan.total) == (an_epoch, total)


@pytest.mark.parametrize(
    ("fed", "settings", "each"),
    [
        (40, {"batch": 4, "gpus": 2}, (20, 20)),
        (39, {"batch": 4, "gpus": 2}, (20, 19)),
        (35, {"batch": 4, "gpus": 2}, (19, 16)),
        (35, {"batch": 4, "gpus": 2, "extra": {"dataloader_drop_last": True}}, (16, 16)),
        (3, {"batch": 2, "gpus": 4}, (2, 1, 0, 0)),
        (7, {}, (7,)),
    ],
)
def test_rows_are_shared_as_accelerate_shares_them(
    fed: int, settings: dict[str, Any], each: tuple[int, ...]
) -> None:
    assert shares(made(**settings), fed) == each


def test_steps_of_one_process_are_counted_where_a_model_is_spread_over_the_devices() -> None:
    assert steps(made(2, gpus=4), 16, 1).total == 8


def test_every_device_takes_its_batch() -> None:
    assert effective_batch(made(2, 3, 4)) == 24


def test_epochs_are_those_that_are_really_made() -> None:
    assert steps(made(max_steps=5), 10).epochs == 0.5
    assert steps(made(), 0).epochs == 0


@pytest.mark.parametrize(
    ("stated", "schedule", "warmup"),
    [(0, None, 0), (5, None, 5), (5.9, None, 5), (0.03, None, 3), (0.031, None, 4), (5, "constant", 0)],
)
def test_a_warm_up_below_one_is_a_share(stated: float, schedule: str | None, warmup: int) -> None:
    assert steps(made(warmup_steps=stated, lr_scheduler_type=schedule), 100).warmup == warmup


def test_intervals_below_one_are_shares() -> None:
    assert [every(0.1, 95), every(7, 95), every(0.001, 95)] == [10, 7, 1]
