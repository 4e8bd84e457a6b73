"""A library that is built otherwise than ftcheck's trainer expects is named before anything trains."""

from importlib import metadata
from typing import Any

import pytest
from ftcheck_trainers import sft_trainer
from ftcheck_trainers.overridden import METHODS
from ftcheck_trainers.qlora import TRAINER

from ftcheck.errors import TrainingError
from ftcheck.exit_codes import ExitCode
from tests.trainers.conftest import Kit

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]


def refusal(kit: Kit) -> str:
    with pytest.raises(TrainingError) as refused:
        sft_trainer.watched_trainer(kit.job(), metrics=None)  # type: ignore[arg-type]
    assert refused.value.exit_code == ExitCode.TRAINING
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_what_is_overridden_is_guarded(kit: Kit) -> None:
    from transformers import Trainer
    from trl import SFTTrainer

    ours = vars(sft_trainer.watched_trainer(kit.job(), metrics=None))  # type: ignore[arg-type]
    theirs = {name for one in (Trainer, *SFTTrainer.__mro__[:-1]) for name in vars(one)}

    overridden = {name for name in ours if name in theirs and not name.startswith("__")}

    assert overridden == set(METHODS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_with_other_parameters_is_named(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from trl import SFTTrainer

    def changed(self: Any, something: Any, *, new: int = 0) -> None:
        """As a later release may have it."""

    base = [one for one in SFTTrainer.__mro__ if name in vars(one)][-1]
    monkeypatch.setattr(base, name, changed)

    said = refusal(kit)

    package = METHODS[name][0]
    version = metadata.version(package)
    assert said.startswith(f"{package} {version} has {name}(something, new) in place of {name}(")
    assert "it is tested with transformers >= 5.3, < 6 and trl >= 1.16, < 2 (as of " in said
    assert said.endswith(": pip install 'ftcheck[train]' installs these")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_that_is_gone_is_named(kit: Kit, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from trl import SFTTrainer

    for owner in SFTTrainer.__mro__:
        if name in vars(owner):
            monkeypatch.delattr(owner, name)

    package = METHODS[name][0]
    assert refusal(kit).startswith(f"{package} {metadata.version(package)} has no SFTTrainer.{name}, which ")


def test_checkpoints_that_cannot_be_rotated_are_named(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import trainer_utils

    monkeypatch.delattr(trainer_utils, "rotate_checkpoints")
    assert "has no trainer_utils.rotate_checkpoints(output_dir, " in refusal(kit)
    monkeypatch.setattr(trainer_utils, "rotate_checkpoints", lambda folder: None, raising=False)
    assert "has no trainer_utils.rotate_checkpoints(output_dir, " in refusal(kit)


def test_run_json_tells_it(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Trainer

    job = kit.job()
    inputs = kit.inputs(job)
    monkeypatch.delattr(Trainer, "_run_epoch")

    with pytest.raises(TrainingError, match=r"has no SFTTrainer\._run_epoch"):
        TRAINER.train(kit.ticket(job, inputs), job, inputs, resume=False)

    run = kit.run_json()
    assert run["status"] == "failed"
    assert "has no SFTTrainer._run_epoch" in run["reason"]
