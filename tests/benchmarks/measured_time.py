"""Published step times against ftcheck's interval: which rows count, and what comes out.

The rows are those of /work/shared/data/measured/memory.jsonl that state a time, and `measured` in
ftcheck/tables/training_speed.json. A row counts where its source was read and its program runs transformers,
PEFT and bitsandbytes as they are: fitcheck's hand loop on a T4, TRL's SFTTrainer on an A100 (fms-acceleration
without foak and liger), LLaMA-Factory, Qwen's finetune.py in 16 bits, and PEFT's comparison on an L40S. The
others are kept apart: fused kernels (foak, liger), compiled programs (torchtune), GPTQ weights, and
ljm565/universal-llm-trainer, whose dtype and attention are not stated.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftcheck import tables
from ftcheck.estimate.gpus import Card, card
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.run_time import estimate
from ftcheck.estimate.step_time import HALF, SINGLE, Execution, overhead
from ftcheck.settings import Job
from ftcheck.testing import job

UNUSUAL = ("foak", "liger", "torchtune")
"""Parts of a program's name that say it has kernels of its own."""
COMMAND = job(trainer={"use": "command", "argv": ("train",)}).trainer


@dataclass(frozen=True)
class Timed:
    """A measured step: `batch` rows of `length` tokens in `seconds`, by the program `group`.

    `float32`: what is not quantised was made float32 (peft's prepare_model_for_kbit_training). `known` says
    whether the program is, `fused` whether it has kernels of its own.
    """

    group: str
    session: str
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
    def name(self) -> str:
        """The card's name, whatever its memory."""
        return "A100" if self.gpu.startswith("A100") else self.gpu

    @property
    def execution(self) -> Execution:
        """How its program computes."""
        single = self.float32 and not self.autocast
        own = self.bits == 16 and not self.autocast
        return Execution(
            checkpointing=self.checkpointing,
            quantised=self.bits == 4,
            eager=self.attention == "eager",
            stream=SINGLE if single else HALF,
            adapter=SINGLE if single or own else HALF,
            dropout=self.dropout > 0,
            full_logits=self.full_logits,
        )

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
        session=row["source"],
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
            session=row["source"],
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


def judged(row: Timed, *, as_trl: bool = False, here: Card | None = None) -> Judged:
    """What is said of a row's step: of the program that it was measured with, or of TRL's for the same job.

    Where the program is not known, of a `command`. `here` takes the place of the table's GPU.
    """
    how = None if as_trl or not row.known else row.execution
    found = estimate(
        row.job if row.known or as_trl else replace(row.job, trainer=COMMAND),
        row.config,
        steps=1,
        tokens_per_step=row.batch * row.length,
        longest=row.length,
        execution=how,
        here=here,
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


# --- rows that are not used for fitting -----------------------------------------------------------------

STEPS = (1.3, 1.1, 1.03, 1.01)
"""Factors that a rate is tried at, coarse ones first."""
FITTED = ("utilisation", "attention", "launch_ms")
"""What is read off a card's rows; the rest of the tables is common to all cards."""


def held_out(rows_: Sequence[Timed], fold: Callable[[Timed], str]) -> list[Judged]:
    """Every row, judged by rates that were fitted to the rows of all other folds."""
    found: list[Judged] = []
    for name in dict.fromkeys(fold(one) for one in rows_):
        here = fitted([one for one in rows_ if fold(one) != name])
        found += [judged(one, here=here) for one in rows_ if fold(one) == name]
    return found


def fitted(rows_: Sequence[Timed]) -> Card:
    """The card of these rows, with the rates at which the likely times are nearest to the measured ones.

    Coordinate descent over FITTED, from the A100's rates; the ends keep their distance from likely.
    """
    here = starting(rows_[0].gpu)
    for factor in STEPS:
        better = True
        while better:
            better = False
            for name in FITTED:
                for tried in (_scaled(here, name, factor), _scaled(here, name, 1 / factor)):
                    if _missed(rows_, tried) < _missed(rows_, here) - 1e-9:
                        here, better = tried, True
    return here


def starting(name: str) -> Card:
    """A card with its own peaks and distances of ends, and the A100's likely rates."""
    here, usual = card(name), card("A100")
    assert here is not None
    assert here.speed is not None
    assert usual is not None
    assert usual.speed is not None
    speed = replace(
        here.speed,
        utilisation=_moved(here.speed.utilisation, usual.speed.utilisation.likely),
        attention=_moved(here.speed.attention or overhead("attention"), overhead("attention").likely),
        launch_ms=_moved(here.speed.launch_ms or overhead("launch_ms"), overhead("launch_ms").likely),
    )
    return replace(here, speed=speed)


def _moved(one: Interval, likely: float) -> Interval:
    return one.times(likely / one.likely)


def _scaled(here: Card, name: str, factor: float) -> Card:
    assert here.speed is not None
    changed: dict[str, Any] = {name: getattr(here.speed, name).times(factor)}
    return replace(here, speed=replace(here.speed, **changed))


def _missed(rows_: Sequence[Timed], here: Card) -> float:
    """By how much the likely times miss the measured ones, as logarithms."""
    return sum(abs(math.log(1 + judged(one, here=here).error)) for one in rows_)
