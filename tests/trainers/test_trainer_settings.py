"""Settings of a trainer against those that a policy states: what trains otherwise, and what does not."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ftcheck_trainers.trainer_settings import differences

from ftcheck.records import Location
from ftcheck.settings import Hardware, Job, Model, Training

PLACE = Location("policy.yaml", 7)


def job(*stated: str, count: int = 1, **training: Any) -> Job:
    """A job whose policy states these settings, and those of `stated`."""
    keys = [*(f"training.{name}" for name in training), *stated]
    extra = training.pop("extra", {})
    keys += [f"training.{name}" for name in extra]
    return Job(
        name="j",
        model=Model(name="m"),
        training=Training(extra=extra, **training),
        hardware=Hardware(count=count),
        places=dict.fromkeys(keys, PLACE),
    )


def args(**changes: Any) -> Any:
    """Arguments as transformers has them, with its defaults."""
    given = {
        "train_batch_size": 8,
        "per_device_train_batch_size": 8,
        "n_gpu": 1,
        "gradient_accumulation_steps": 1,
        "world_size": 1,
        "learning_rate": 2e-5,
        "num_train_epochs": 3.0,
        "max_steps": -1,
        "packing": False,
        "packing_strategy": "bfd",
        "lr_scheduler_type": SimpleNamespace(value="linear"),
        "neftune_noise_alpha": None,
        "logging_steps": 10,
    }
    return SimpleNamespace(**given | changes)


@pytest.mark.parametrize(
    ("policy", "trainer"),
    [
        (job(), args(learning_rate=1.0)),  # nothing is stated
        (job(learning_rate=2e-5), args()),
        (job(lr_scheduler_type="linear"), args()),
        (job(per_device_train_batch_size=4, gradient_accumulation_steps=2), args()),  # the same step
        (job("hardware.count", count=2, per_device_train_batch_size=4), args()),
        (job(num_train_epochs=2, max_steps=5), args(max_steps=5)),  # steps overrule epochs
        # 60 rows in batches of 8 are 8 steps.
        (job(num_train_epochs=2, per_device_train_batch_size=8), args(max_steps=16)),
        (job(packing_strategy="wrapped"), args()),  # nobody packs
        (job(extra={"logging_first_step": True}), args()),
        (job(logging_steps=1), args()),
        (job(max_length=512), args(max_length=1024)),  # it cuts no row, or the ids say so
    ],
)
def test_what_trains_the_same_is_no_difference(policy: Job, trainer: Any) -> None:
    assert differences(policy, trainer, packed=trainer.packing, rows=60) == []


@pytest.mark.parametrize(
    ("policy", "trainer", "said"),
    [
        (
            job(learning_rate=1e-4),
            args(),
            "training.learning_rate is 0.0001 in the policy (policy.yaml:7), 2e-05 in the trainer",
        ),
        (
            job(max_length=512),
            args(max_length=1024, packing=True),
            "training.max_length is 512 in the policy (policy.yaml:7), 1024 in the trainer",
        ),
        (
            job(packing=True),
            args(),
            "training.packing is True in the policy (policy.yaml:7), False in the trainer",
        ),
        (
            job(num_train_epochs=2),
            args(),
            "training.num_train_epochs is 2 in the policy (policy.yaml:7), 3.0 in the trainer",
        ),
        (
            job(num_train_epochs=2, per_device_train_batch_size=8),
            args(max_steps=5),
            "training.num_train_epochs is 2 in the policy (policy.yaml:7), which is 16 steps; max_steps is 5"
            " in the trainer",
        ),
        (
            job(extra={"dataloader_drop_last": True}),
            args(dataloader_drop_last=False),
            "training.dataloader_drop_last is True in the policy (policy.yaml:7), False in the trainer",
        ),
        (
            job(lr_scheduler_type="cosine"),
            args(),
            "training.lr_scheduler_type is cosine in the policy (policy.yaml:7), linear in the trainer",
        ),
        (
            job(extra={"neftune_noise_alpha": 5}),
            args(),
            "training.neftune_noise_alpha is 5 in the policy (policy.yaml:7), None in the trainer",
        ),
        (
            job(per_device_train_batch_size=8),
            args(train_batch_size=16, world_size=2, n_gpu=2),
            "a step trains 8 rows in the policy (policy.yaml:7), 32 in the trainer:"
            " per_device_train_batch_size 8, gradient_accumulation_steps 1, 2 processes",
        ),
    ],
)
def test_what_trains_otherwise_is_named_with_both_values(policy: Job, trainer: Any, said: str) -> None:
    assert differences(policy, trainer, packed=trainer.packing, rows=60) == [said]


def test_the_batch_that_auto_find_batch_size_found_is_the_one_that_counts() -> None:
    stated = job(per_device_train_batch_size=8)

    [said] = differences(stated, args(), packed=False, rows=60, at_once=7)
    assert "a step trains 8 rows in the policy (policy.yaml:7), 7 in the trainer" in said
    assert "per_device_train_batch_size 7" in said


def test_a_setting_of_the_command_line_is_named_so() -> None:
    stated = replace(job(learning_rate=1e-4), places={"training.learning_rate": Location("--set")})

    assert "(--set)" in differences(stated, args(), packed=False, rows=60)[0]


def test_paths_are_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = Location(str(tmp_path / "p.yaml"), 3)
    stated = replace(job(learning_rate=1e-4), places={"training.learning_rate": here})

    assert "(p.yaml:3)" in differences(stated, args(), packed=False, rows=60)[0]
