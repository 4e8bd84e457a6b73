"""Published step times against ftcheck's interval: which rows count, and what comes out.

The rows are those of /work/shared/data/measured/memory.jsonl that state a time, and `measured` in
ftcheck/tables/training_speed.json. A row counts where its source was read and its program runs transformers,
PEFT and bitsandbytes as they are: fitcheck's hand loop on a T4, TRL's SFTTrainer with its own kernels on an A100
(fms-acceleration without foak and liger), LLaMA-Factory, Qwen's finetune.py in 16 bits, and PEFT's comparison on
an L40S. The others are kept apart: fused kernels (foak, liger), compiled programs (torchtune), GPTQ weights, and
ljm565/universal-llm-trainer, whose dtype and attention are not stated.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck import tables
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.run_time import estimate
from ftcheck.settings import Job
from ftcheck.testing import job

UNUSUAL = ("foak", "liger", "torchtune")
"""Parts of a program's name that say it has kernels of its own."""


@dataclass(frozen=True)
class Timed:
    """A measured step: `batch` rows of `length` tokens in `seconds`, by the program `group`.

    `fold` is what is left out of a fit together: the model. `known` says whether the program is.
    """

    group: str
    gpu: str
    model: str
    config: Mapping[str, Any]
    seconds: float
    bits: int
    batch: int
    length: int
    rank: int
    targets: str | tuple[str, ...]
    dropout: float
    checkpointing: bool
    attention: str
    float32: bool
    autocast: bool
    full_logits: bool
    known: bool
    fused: bool

    @property
    def card(self) -> str:
        """The card, whatever its memory."""
        return "A100" if self.gpu.startswith("A100") else self.gpu

    @property
    def job(self) -> Job:
        """The same as a job of ftcheck's."""
        half = self.gpu == "T4"
        four = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float16" if half else "bfloat16"}
        return job(
            hardware={"gpu": self.gpu},
            trainer={"use": "qlora"},
            training={
                "per_device_train_batch_size": self.batch,
                "gradient_accumulation_steps": 1,
                "gradient_checkpointing": self.checkpointing,
                "fp16": half,
                "bf16": not half,
                "lora": {"r": self.rank, "target_modules": self.targets, "lora_dropout": self.dropout},
                "quantization": four if self.bits == 4 else None,
                "extra": {"model_init_kwargs": {"attn_implementation": self.attention}},
            },
        )


def rows(path: Path) -> list[Timed]:
    """All measurements of time: those of a memory.jsonl, and of ftcheck's own table."""
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [*(_timed(one) for one in lines if _seconds(one)), *_own()]


def _seconds(row: Mapping[str, Any]) -> float | None:
    if row.get("step_seconds"):
        return float(row["step_seconds"])
    pace = row.get("tokens_per_second")
    return row["batch"] * _length(row) / pace if pace else None


def _length(row: Mapping[str, Any]) -> int:
    return int(row.get("mean_length") or row["length"])


def _timed(row: Mapping[str, Any]) -> Timed:
    seconds = _seconds(row)
    assert seconds is not None
    kernels = any(part in row["framework"] for part in UNUSUAL)
    return Timed(
        group=row["group"],
        gpu=row["gpu"],
        model=row["model"],
        config=row["config"],
        seconds=seconds,
        bits=row["bits"],
        batch=row["batch"],
        length=_length(row),
        rank=row["r"],
        targets=row["targets"] if isinstance(row["targets"], str) else tuple(row["targets"]),
        dropout=row["dropout"],
        checkpointing=row["ckpt"],
        attention=row["attn"],
        float32=bool(row["kbit_fp32"]),
        autocast=bool(row["autocast"]),
        full_logits=row["loss"].startswith("full logits"),
        known=not kernels,
        fused=kernels,
    )


def _own() -> Iterator[Timed]:
    table = tables.load("training_speed")
    for row in table["measured"]:
        qwen = row["source"].startswith("QwenLM")
        if "torchtune" in row["source"]:
            continue  # The same rows stand in memory.jsonl.
        yield Timed(
            group="Qwen" if qwen else "ljm565",
            gpu=row["gpu"],
            model=row["model"],
            config=table["shapes"][row["model"]],
            seconds=row["batch"] * row["length"] / row["tokens_per_second"],
            bits=16 if row["method"] == "lora" else 4,
            batch=row["batch"],
            length=row["length"],
            rank=row["r"],
            targets="all-linear",
            dropout=0.05,
            checkpointing=True,
            attention="flash_attention_2",
            float32=False,
            autocast=True,
            full_logits=True,
            known=qwen and row["method"] == "lora",
            fused=False,
        )


@dataclass(frozen=True)
class Judged:
    """A row with the interval that is stated for it, in seconds."""

    row: Timed
    said: Interval

    @property
    def inside(self) -> bool:
        """Whether the measured time is in it."""
        return self.said.low <= self.row.seconds <= self.said.high

    @property
    def error(self) -> float:
        """Measured by likely, less one."""
        return self.row.seconds / self.said.likely - 1


def judged(row: Timed) -> Judged:
    """What a plan of the row's job says of a step."""
    found = estimate(
        row.job, row.config, steps=1, tokens_per_step=row.batch * row.length, longest=row.length
    )
    assert not found.problem, found.problem
    return Judged(row, found.seconds["training"])


def line(name: str, found: Iterable[Judged]) -> str:
    """Rows of one card in numbers: how many are inside, how far the ends are apart, how far off is likely."""
    ones = list(found)
    inside = sum(one.inside for one in ones)
    apart = [one.said.high / one.said.low for one in ones]
    off = statistics.median(abs(one.error) for one in ones)
    return (
        f"{name:28} {len(ones):3} rows, {inside:3} inside ({100 * inside / len(ones):3.0f} %),"
        f" ends {statistics.median(apart):.2f}x apart (at most {max(apart):.2f}x),"
        f" likely {100 * off:.0f} % off (median)"
    )


def detail(one: Judged) -> str:
    """One row in words."""
    row, said = one.row, one.said
    return (
        f"  {row.group[:13]:13} {row.gpu[:12]:12} {row.model[:22]:22} {row.bits:2} bit {row.batch:2} x"
        f" {row.length:5} {row.attention[:5]:5} {row.seconds:8.3f} s, said {said.low:.3f} to {said.high:.3f},"
        f" likely {said.likely:.3f} ({100 * one.error:+.0f} %){'' if one.inside else '  OUTSIDE'}"
    )
