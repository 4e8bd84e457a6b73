"""FSDP2 and DeepSpeed ZeRO in two processes on the CPU: what one process trains, gone on from, saved whole.

accelerate shards on GPUs only; `tests.trainers.launched` lifts that rule, so that the libraries' own code
runs over gloo. DeepSpeed's tests need deepspeed (`pip install -c constraints.txt deepspeed`).
"""

import importlib.util
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from ftcheck_trainers.sharded_models import need_whole

from ftcheck.errors import TrainingError
from tests.trainers import small
from tests.trainers.launched import SHARDED
from tests.trainers.test_processes import two
from tests.trainers.test_whole_batches import BOTH, NOISE, both, losses, one, project, train

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

ZERO: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "zero_allow_untested_optimizer": True,
}
LORA = small.sets(quantization=None)
FSDP = small.sets(fsdp=True)
SHARDS = small.sets(fsdp_config={"version": 2, "state_dict_type": "SHARDED_STATE_DICT"})
STORED = ("--set", "jobs.small.training.quantization.bnb_4bit_quant_storage=float32")
WAYS = {
    "FSDP2": ("fsdp", (*LORA, *FSDP)),
    "FSDP2, sharded checkpoints": ("fsdp", (*LORA, *FSDP, *SHARDS)),
    "FSDP2, QLoRA": ("fsdp", (*FSDP, *STORED)),
    "FSDP2, by accelerate": ("fsdp", LORA),
    "ZeRO-2": ("deepspeed", (*LORA, *small.sets(deepspeed="zero.json"))),
    "ZeRO-3": ("deepspeed", (*LORA, *small.sets(deepspeed="zero.json"))),
}

LAUNCHED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
}
"""What `accelerate launch --use_fsdp --fsdp_version 2` sets (utils/launch.py)."""


def shapes(run: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(run / "adapter_model.safetensors", framework="np") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("way", WAYS)
def test_two_that_shard_train_what_one_trains_and_go_on_after_a_kill(
    model_folder: Path, tmp_path: Path, way: str
) -> None:
    how, settings = WAYS[way]
    if how == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    alone = one(tmp_path / "one", model_folder, 39, *(() if "QLoRA" in way else LORA))
    here = project(tmp_path / "two", model_folder, 39)
    zero = {**ZERO, "zero_optimization": {"stage": int(way[-1]) if how == "deepspeed" else 0}}
    (here / "zero.json").write_text(json.dumps(zero), encoding="utf-8")
    lifted = {SHARDED: how, "DS_ACCELERATOR": "cpu", **(LAUNCHED if "accelerate" in way else {})}

    first, second = two(here, train(here, *settings, *BOTH), **lifted)
    first.until((here / "run" / "checkpoint-2").exists, lambda: (here / "log0.txt").read_text())
    second.send_signal(signal.SIGKILL)
    assert first.wait() == 6
    assert both(here, "--resume", *settings, **lifted) == [0, 0], (here / "log0.txt").read_text()

    assert losses(here) == pytest.approx(losses(alone), abs=NOISE)
    assert shapes(here / "run") == shapes(alone / "run")
    assert small.run_json(here / "run")["adapter"] is not None
    saved = [path.name for path in (here / "run" / "checkpoint-5").rglob("*")]
    if "sharded" in way or how == "deepspeed":
        assert [name for name in saved if "__1_" in name or "rank_1_" in name], saved


@pytest.mark.parametrize("settings", [FSDP, small.sets(deepspeed=ZERO)], ids=["fsdp", "deepspeed"])
def test_sharding_that_accelerate_would_leave_out_is_refused(
    model_folder: Path, tmp_path: Path, settings: list[str]
) -> None:
    key = settings[1].rpartition(".")[2].partition("=")[0]
    if importlib.util.find_spec(key) is None and key == "deepspeed":
        pytest.skip("deepspeed is not installed")
    here = project(tmp_path / "two", model_folder, 16)

    assert both(here, *LORA, *settings) == [6, 6]

    log = (here / "log0.txt").read_text(encoding="utf-8")
    assert log.count("shards on GPUs only, and this machine has none") == 1
    assert f"remove training.{key}" in log
    assert (here / "log1.txt").read_text(encoding="utf-8") == ""


def test_an_adapter_of_which_a_shard_is_missing_or_empty_is_not_whole(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    file = tmp_path / "adapter_model.safetensors"
    save_file({"a": torch.zeros(4, 8), "b": torch.zeros(8, 4)}, file)
    need_whole(tmp_path, 64)
    with pytest.raises(TrainingError, match="not whole \\(64 of 96 trained numbers\\)"):
        need_whole(tmp_path, 96)
    save_file({"a": torch.zeros(4, 16), "b": torch.zeros(0)}, file)
    with pytest.raises(TrainingError, match="not whole \\(empty tensors\\)"):
        need_whole(tmp_path, 64)
    file.unlink()
    with pytest.raises(TrainingError, match="not whole \\(0 of 64"):
        need_whole(tmp_path, 64)
