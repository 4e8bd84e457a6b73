"""What ends a run is really made to happen, and the run folder says what it was and what to change."""

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_trainers import checkpoint, failure_messages
from ftcheck_trainers.qlora import TRAINER

from ftcheck.errors import TrainingError
from ftcheck.settings import Job, Model, Quantization
from tests.trainers.conftest import Kit

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]


def trained(kit: Kit, job: Job, *, resume: bool = False) -> Path:
    inputs = kit.inputs(job)
    return Path(TRAINER.train(kit.ticket(job, inputs), job, inputs, resume=resume))


@contextmanager
def planted(monkeypatch: pytest.MonkeyPatch, step: int, fault: Callable[[Any], Any]) -> Iterator[None]:
    """TRL's loss goes through `fault` in the second batch of a step."""
    from trl import SFTTrainer

    compute = SFTTrainer.compute_loss
    seen: list[int] = []

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute(self, model, inputs, *args, **kwargs)
        seen.append(self.state.global_step)
        return fault(loss) if seen.count(step - 1) == 2 and seen[-1] == step - 1 else loss

    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "compute_loss", compute_loss)
        yield


def test_nan_stops_the_run_at_its_step_where_transformers_would_have_logged_zero(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = kit.job(save_steps=2, max_steps=5, gradient_accumulation_steps=2)

    with planted(monkeypatch, 4, lambda loss: loss * float("nan")):
        with pytest.raises(TrainingError, match=r"the loss is nan at step 4; lower training\.learning_rate"):
            trained(kit, job)
        by_default = filtered_losses(kit, job)

    run = kit.run_json()
    assert (run["status"], run["reason"]) == ("failed", "the loss is nan at step 4")
    assert run["remedy"] == "lower training.learning_rate (now 0.01) or set warmup_steps: 0.03"
    assert [line["step"] for line in kit.metrics()] == [1, 2, 3]
    assert not (kit.output / "adapter_model.safetensors").exists()
    assert checkpoint.last(kit.output).path == kit.output / "checkpoint-2"
    assert 0 < by_default[4] < 6  # the batch that is NaN is left out, and nothing shows it
    trained(kit, job, resume=True)
    assert kit.run_json()["status"] == "finished"


def filtered_losses(kit: Kit, job: Job) -> dict[int, float]:
    """What TRL's own trainer logs for the same rows, with the default `logging_nan_inf_filter`."""
    from ftcheck_trainers import dataset
    from ftcheck_trainers.quiet_libraries import quiet_libraries
    from trl import SFTConfig, SFTTrainer

    inputs = kit.inputs(job)
    rows = dataset.fed_rows(kit.prepared(inputs), job.training, kit.folder / "fed")
    with quiet_libraries():
        config = SFTConfig(
            output_dir=str(kit.folder / "plain"),
            max_steps=5,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            model_init_kwargs={"dtype": "float32"},
        )
        assert config.logging_nan_inf_filter
        trainer = SFTTrainer(str(kit.model), config, train_dataset=rows)
        trainer.train()
    return {line["step"]: line["loss"] for line in trainer.state.log_history if "loss" in line}


def test_a_batch_of_nan_a_step_is_logged_as_zero_by_default(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = kit.job()
    from trl import SFTTrainer

    compute = SFTTrainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        return compute(self, *args, **kwargs) * (float("nan") if self.state.global_step >= 2 else 1.0)

    monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)

    by_default = filtered_losses(kit, job)
    with pytest.raises(TrainingError, match="the loss is nan at step 3"):
        trained(kit, job)

    assert by_default[2] > 1.0
    assert [by_default[step] for step in (3, 4, 5)] == [0.0, 0.0, 0.0]
    assert [line["step"] for line in kit.metrics()] == [1, 2]


def test_nan_after_the_last_log_is_found_before_the_adapter_is_saved(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = kit.job(max_steps=4, logging_steps=50, save_strategy="no")

    with (
        planted(monkeypatch, 4, lambda loss: loss * float("nan")),
        pytest.raises(TrainingError, match="the loss is nan at step 4"),
    ):
        trained(kit, job)

    assert not list(kit.output.glob("adapter_model*"))


def test_nan_between_two_logs_is_found_at_its_step_before_anything_is_saved(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = kit.job(save_steps=4, max_steps=12, logging_steps=0.9, gradient_accumulation_steps=2)

    with (
        planted(monkeypatch, 6, lambda loss: loss * float("nan")),
        pytest.raises(TrainingError, match="the loss is nan at step 6"),
    ):
        trained(kit, job)

    assert [line["step"] for line in kit.metrics()] == [1, 4]
    assert {path.name for path in kit.output.glob("checkpoint-*")} == {"checkpoint-4"}


def more_than_there_is(loss: Any) -> Any:
    import torch

    return loss + torch.empty(1 << 50).sum()


def no_memory_for_python(loss: Any) -> Any:
    return bytearray(1 << 60)


def no_memory_on_the_gpu(loss: Any) -> Any:
    import torch

    words = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB"
    raise torch.cuda.OutOfMemoryError(words)


@pytest.mark.parametrize("fault", [more_than_there_is, no_memory_for_python, no_memory_on_the_gpu])
def test_out_of_memory_says_what_to_lower_and_checkpoints_the_step_before(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Any], Any]
) -> None:
    job = kit.job(save_steps=2, max_steps=5)
    whole = replace(job, training=replace(job.training, output_dir=str(kit.folder / "whole")))
    trained(kit, whole)

    with planted(monkeypatch, 4, fault), pytest.raises(TrainingError, match="out of memory") as stopped:
        trained(kit, job)

    run = kit.run_json()
    assert stopped.value.exit_code == 6
    assert run["reason"].startswith("out of memory while training (")
    assert run["remedy"] == (
        "lower per_device_train_batch_size (8 -> 4) and raise gradient_accumulation_steps (2 -> 4), "
        "which keeps the effective batch, or lower max_length (now 96)"
    )
    assert (run["status"], run["checkpoint"]) == ("failed", "checkpoint-3")
    trained(kit, job, resume=True)
    ours, theirs = (
        kit.output / "adapter_model.safetensors",
        kit.folder / "whole" / "adapter_model.safetensors",
    )
    assert ours.read_bytes() == theirs.read_bytes()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A file that would grow past `size` bytes cannot be written: EFBIG, as ENOSPC on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("size", "what"), [(40_000, "optimizer.pt by torch"), (18_000, "weights by safetensors")]
)
def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(kit: Kit, size: int, what: str) -> None:
    job = kit.job(rows=24, save_steps=2, max_steps=4)
    trained(kit, replace(job, training=replace(job.training, output_dir=str(kit.folder / "warm"))))

    with files_no_larger_than(size), pytest.raises(TrainingError, match="no space left while") as stopped:
        trained(kit, job)

    run = kit.run_json()
    assert stopped.value.exit_code == 6
    assert run["status"] == "failed", what
    assert run["reason"].startswith("no space left while saving checkpoint-2 (")
    assert run["remedy"].startswith(f"free space on the disk of {kit.output} (")
    assert run["remedy"].endswith("; then train again")
    left = {path.name for path in kit.output.iterdir()} - {"README.md"}  # TRL's model card
    assert left == {"metrics.jsonl", "run.json", "run.lock"}
    trained(kit, job)
    assert kit.run_json()["status"] == "finished"


def test_a_disk_that_is_full_before_the_start_leaves_no_run_folder(kit: Kit) -> None:
    job = kit.job()
    inputs = kit.inputs(job)
    ticket = kit.ticket(job, inputs)

    full = pytest.raises(
        TrainingError, match=r"no space left while preparing \(.*; free space on the disk of"
    )
    with files_no_larger_than(5_000), full:
        TRAINER.train(ticket, job, inputs, resume=False)

    assert not kit.output.exists()


def test_a_disk_that_is_full_at_the_end_keeps_the_last_checkpoint_and_resume_saves_the_adapter(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = kit.job(save_steps=2, max_steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_move_in", no_space)
        with pytest.raises(TrainingError, match="no space left while saving what was trained"):
            trained(kit, job)

    run = kit.run_json()
    assert run["remedy"].endswith("then resume with --resume from checkpoint-4")
    assert not (kit.output / "adapter_model.safetensors").exists()
    trained(kit, job, resume=True)
    again = kit.run_json()
    assert (again["status"], again["steps"], again["tokens"]) == ("finished", 4, run_tokens(kit))
    assert [line["step"] for line in kit.metrics()] == [1, 2, 3, 4]
    assert (kit.output / "adapter_model.safetensors").exists()


def run_tokens(kit: Kit) -> int:
    return int(kit.metrics()[-1]["tokens"])


def no_space(staging: Path, folder: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_base_whose_generation_config_cannot_be_saved_is_found_before_the_first_step(
    kit: Kit, tmp_path: Path
) -> None:
    import json
    import shutil

    shutil.copytree(kit.model, tmp_path / "base")
    settings = {"do_sample": False, "temperature": 0.6, "eos_token_id": 1}
    (tmp_path / "base" / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    job = replace(
        kit.job(lora=None, quantization=None, save_steps=2), model=Model(name=str(tmp_path / "base"))
    )

    with pytest.raises(TrainingError, match=r"generation config of .* cannot be saved .*temperature"):
        trained(kit, job)

    run = kit.run_json()
    assert run["remedy"] == "fix its generation_config.json, or remove the file"
    assert not kit.metrics()
    adapter = replace(kit.job(), model=Model(name=str(tmp_path / "base")))
    trained(kit, adapter)
    assert kit.run_json()["status"] == "finished"


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        (
            {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 5},
            "(6 -> 3) and raise gradient_accumulation_steps (5 -> 10)",
        ),
        (
            {"per_device_train_batch_size": 1, "gradient_checkpointing": False},
            "set gradient_checkpointing: true",
        ),
        ({"per_device_train_batch_size": 1, "max_length": 768}, "lower max_length (now 768)"),
    ],
)
def test_the_remedy_for_memory_is_in_numbers_of_the_job(changes: dict[str, Any], remedy: str) -> None:
    from ftcheck.settings import Training

    training = Training(**{"quantization": Quantization(load_in_4bit=True)} | changes)
    job = Job(name="mapper", model=Model(name="model"), training=training)

    said = failure_messages.stopped(MemoryError("no"), job)

    assert remedy in said.remedy


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_known_by_whatever_a_library_raises(error: Exception) -> None:
    assert failure_messages.is_full(error)
    assert not failure_messages.is_full(ValueError("the model has no space for it"))
