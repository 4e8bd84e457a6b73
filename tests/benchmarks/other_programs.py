"""Measured rows of programs that are not TRL's, as a command-job that states what the row states.

The job says what a user of `trainer: command` would: model, bits, batch, length, LoRA, optimizer, attention.
LLaMA-Factory's rows have its configuration, which says what the program does.
"""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.prediction import predict
from ftcheck.importers.records import Imported
from ftcheck.settings import Job, TrainerChoice
from ftcheck.testing import job
from tests.benchmarks.measured_memory import program, rows


@dataclass(frozen=True)
class Other:
    """A row, what was measured of it, and the interval of the same quantity, in bytes."""

    row: Mapping[str, Any]
    measured: float
    said: Interval

    @property
    def inside(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.said.low <= self.measured <= self.said.high

    @property
    def width(self) -> float:
        """The interval's, as a share of the likely value."""
        return (self.said.high - self.said.low) / self.said.likely


def job_of(row: Mapping[str, Any]) -> Job:
    """The command-job that states what the row states."""
    targets = row["targets"] if isinstance(row["targets"], str) else tuple(row["targets"])
    half = "float16" if row["fp16"] else "bfloat16"
    training = {
        "max_length": row["length"],
        "per_device_train_batch_size": row["batch"],
        "gradient_accumulation_steps": row["accum"],
        "gradient_checkpointing": row["ckpt"],
        "optim": row["optim"],
        "fp16": bool(row["fp16"]),
        "bf16": not row["fp16"],
        "lora": {"r": row["r"], "lora_dropout": row["dropout"], "target_modules": targets},
        "extra": {"model_init_kwargs": {"attn_implementation": row["attn"]}},
    }
    if row["bits"] == 4:
        training["quantization"] = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": bool(row["double"]),
            "bnb_4bit_compute_dtype": half,
        }
    more: dict[str, Any] = {}
    if row["group"] == "LLaMA-Factory":
        more["imported"] = Imported("llama-factory", "0.9.5", "measured row", "run.yaml")
    command = TrainerChoice(use="command", argv=("python", "train.py"))
    return job(training=training, hardware={"gpu": row["gpu"]}, trainer=command, **more)


def compare(path: Path) -> Iterator[Other]:
    """Every row whose program is not known, against the interval of its job."""
    for row in rows(path):
        if program(row) is None:
            yield compared(row)


def compared(row: Mapping[str, Any]) -> Other:
    """Allocated where it was measured, else reserved, else the whole process."""
    made = predict(job_of(row), row["config"], longest=row["length"])
    process = Interval(made.low, made.likely, made.high)
    if row.get("allocated"):
        return Other(row, row["allocated"], made.allocated)
    if row.get("reserved"):
        context = made.context
        less = (context.low, context.likely, context.high)
        ends = (process.low, process.likely, process.high)
        return Other(
            row, row["reserved"], Interval(*(one - two for one, two in zip(ends, less, strict=True)))
        )
    return Other(row, row["process"], process)


def table(found: list[Other]) -> Iterator[str]:
    """One line for each group, and one for all."""
    groups = dict.fromkeys(str(one.row["group"]) for one in found)
    for group in [*groups, "all"]:
        chosen = [one for one in found if group in ("all", one.row["group"])]
        inside = sum(one.inside for one in chosen)
        width = statistics.mean(one.width for one in chosen)
        yield f"other      {group:16} {inside} of {len(chosen)} inside, mean width {100 * width:.0f} %"
