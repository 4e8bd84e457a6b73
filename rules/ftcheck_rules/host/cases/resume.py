"""Must-fail and must-pass inputs of the resume rule."""

import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ftcheck.testing import Case, job


@cache
def _made() -> "tempfile.TemporaryDirectory[str]":
    """A folder that is gone when the program ends."""
    return tempfile.TemporaryDirectory(prefix="ftcheck-selftest-", ignore_cleanup_errors=True)


def _job(rank: int, steps: int = 20) -> Mapping[str, Any]:
    """A job whose run folder holds a checkpoint of rank 16, at step 10 of `steps`."""
    folder = Path(_made().name) / f"of-{steps}"
    checkpoint = folder / "checkpoint-10"
    checkpoint.mkdir(parents=True, exist_ok=True)
    saved = {"r": 16, "lora_alpha": 32, "base_model_name_or_path": "model"}
    (checkpoint / "adapter_config.json").write_text(json.dumps(saved), encoding="utf-8")
    state = {"global_step": 10, "max_steps": steps, "num_train_epochs": 3}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    (checkpoint / "optimizer.pt").touch()
    lora = {"r": rank, "lora_alpha": 32}
    return {"jobs": (job(training={"output_dir": str(folder), "lora": lora}),)}


CASES: tuple[Case, ...] = (
    Case("resume", "a checkpoint of another rank", True, lambda: _job(8)),
    Case("resume", "a checkpoint at the last step", True, lambda: _job(16, steps=10)),
    Case("resume", "a checkpoint of this job", False, lambda: _job(16)),
)
