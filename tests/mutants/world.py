"""The healthy files that mutants are made of: a job, its report that opens the gate, its run folder."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from tests.places import SAMPLES

ROWS = 12
CHECKS = (
    "data-readable",
    "data-schema",
    "percentile-seq-len",
    "trained-tokens",
    "special-tokens-in-text",
    "chat-template",
    "truncation",
    "vocabulary",
    "special-tokens",
    "duplicates",
)
POLICY = """\
ftcheck: 1
name: mutants
defaults: {{training: {{max_length: 512}}}}
jobs:
  job:
    model: {{name: {model}, chat_template: {template}}}
    data:
      train: {train}
      gold: {{path: {gold}, input: input, expected: expected}}
    training:
      packing: true
      assistant_only_loss: true
      learning_rate: 2.0e-4
      lora: {{r: 8, lora_alpha: 16, target_modules: [q_proj, v_proj]}}
      output_dir: {output}
    serving:
      system_prompt: "Map the request: one line of JSON"
      max_input_tokens: 512
      max_new_tokens: 64
      over_limit: reject
checks:
{checks}
  short: {{rule: percentile-seq-len, severity: warning}}
waivers:
  - {{check: job::short, reason: "for a test", owner: me, expires: {expires}}}
gate: {{require: ["*::data-readable"], max_age: 24h}}
"""


@dataclass(frozen=True)
class World:
    """Where the healthy files lie. Nothing in them is changed: mutants are written elsewhere."""

    folder: Path

    @property
    def policy(self) -> Path:
        """A policy whose paths are absolute."""
        return self.folder / "policy.yaml"

    @property
    def report(self) -> Path:
        """The report of a run that opened the gate."""
        return self.folder / "report.json"

    @property
    def model(self) -> Path:
        """A tokenizer with a small model."""
        return self.folder / "model"

    @property
    def train(self) -> Path:
        """Conversations, one a line."""
        return self.folder / "train.jsonl"

    @property
    def gold(self) -> Path:
        """Questions with answers."""
        return self.folder / "gold.json"

    @property
    def run(self) -> Path:
        """A run folder with a checkpoint and an adapter's configuration."""
        return self.folder / "run"

    def text(self, *, checks: Sequence[str] = CHECKS, **places: Path) -> str:
        """The policy's text with other files in place of these."""
        named = {
            "model": self.model,
            "template": self.model / "chat_template.jinja",
            "train": self.train,
            "gold": self.gold,
            "output": self.folder / "out",
        }
        expires = (datetime.now(UTC) + timedelta(days=30)).date()
        listed = "\n".join(f"  {name}: {{}}" for name in checks)
        return POLICY.format(**{**named, **places}, checks=listed, expires=expires)


def made(folder: Path, *, report: bool = True) -> World:
    """Write the healthy files, and run their checks once for the report."""
    world = World(folder)
    shutil.copytree(SAMPLES / "models" / "mapper-tiny", world.model)
    lines = (SAMPLES / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    world.train.write_text("".join(lines[:ROWS]), encoding="utf-8")
    gold = json.loads((SAMPLES / "mapper" / "golden.json").read_text(encoding="utf-8"))[:ROWS]
    world.gold.write_text(json.dumps(gold), encoding="utf-8")
    world.policy.write_text(world.text(), encoding="utf-8")
    _run_folder(world)
    if report:
        command = [sys.executable, "-m", "ftcheck", "run", str(world.policy), "--offline"]
        done = subprocess.run(
            [*command, "-o", f"json={world.report}"], capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"the healthy job is not green:\n{done.stdout}\n{done.stderr}")
    return world


def _run_folder(world: World) -> None:
    folder = world.run
    checkpoint = folder / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    process = psutil.Process(os.getpid())
    _json(
        folder / "run.json",
        {
            "schema": "ftcheck.run/1",
            "status": "finished",
            "job": "job",
            "policy": str(world.policy),
            "trainer": "qlora",
            "model": str(world.model),
            "host": "here",
            "process": {"pid": process.pid, "began": process.create_time()},
            "started_at": now,
            "finished_at": now,
            "steps": 4,
            "final_loss": 1.5,
            "tokens": 4096,
            "memory_peak_gib": 1.25,
            "checkpoint": "checkpoint-2",
            "adapter": str(folder),
            "ids": "sha256:" + "0" * 64,
            "planned": {"rows": ROWS, "blocks": 4, "tokens": 4096, "trained_tokens": 900, "steps": 4},
            "packages": {"torch": "2.13.0"},
            "expected": {"steps": 4, "loss": 1.4},
            "ticket": {"job": "job", "job_digest": "sha256:" + "1" * 64, "inputs": {}},
        },
    )
    lines = [
        {"step": n, "loss": 2.0 / n, "grad_norm": 1.0, "learning_rate": 1e-4, "at": now} for n in (1, 2, 3, 4)
    ]
    lines.insert(2, {"step": 2, "eval_loss": 1.6, "at": now})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    _json(
        folder / "adapter_config.json",
        {"base_model_name_or_path": str(world.model), "r": 8, "peft_type": "LORA"},
    )
    _json(checkpoint / "trainer_state.json", {"global_step": 2, "max_steps": 4, "log_history": []})
    (checkpoint / "optimizer.pt").write_bytes(b"0" * 64)
    tensors(folder / "adapter_model.safetensors", {"a.lora_B.weight": (4, 2)})
    tensors(checkpoint / "adapter_model.safetensors", {"a.lora_B.weight": (4, 2)})
    kept = {one.name: _sealed(one) for one in checkpoint.iterdir()}
    _json(checkpoint / "files.json", {"step": 2, "processes": 1, "packages": {}, "files": kept})


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _sealed(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def tensors(path: Path, shapes: dict[str, tuple[int, int]]) -> None:
    """A safetensors file of zeros (F32)."""
    header, at = {}, 0
    for name, (rows, columns) in shapes.items():
        size = rows * columns * 4
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [at, at + size]}
        at += size
    said = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(said)) + said + b"\0" * at)
