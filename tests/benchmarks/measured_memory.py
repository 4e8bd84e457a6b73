"""Published measurements of GPU memory against replayed steps: which rows count, and what comes out.

The program of a row counts as known where its source was read and it runs transformers, PEFT and bitsandbytes
as they are: fitcheck's hand loop on a T4 (PyPI fitcheck-llm 0.3.1, scripts/measure.py) and TRL's SFTTrainer
with full logits on an A100 (fms-acceleration, framework "none" and "peft-bnb" without its own kernels). Not
known: rows with foak or liger kernels, torchtune (its own model code), LLaMA-Factory (whole GB, by what is
not said), PEFT's comparison (rows of unequal length, and generation in the maximum).
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck import tables
from ftcheck.estimate.gpus import card
from ftcheck.estimate.interval import Interval, Verdict, within
from ftcheck.estimate.memory.formulas import GIB, USUAL_CONTEXT
from ftcheck.estimate.memory.prediction import Replayed, errors, replayed
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import Feed, Method

HELD_OUT = ("t4-qlora-2026-09-01", "t4-phase3-2026-09-16")
"""Sessions whose NF4 rows the reserved interval was not read off (tables/memory_evidence.json)."""


@dataclass(frozen=True)
class Compared:
    """A row, what a replay says of it, and the interval of what is reserved, in bytes."""

    row: Mapping[str, Any]
    made: Replayed
    low: float
    high: float

    @property
    def allocated_error(self) -> float:
        """Predicted by measured, less one."""
        return self.made.allocated / float(self.row["allocated"]) - 1

    @property
    def reserved_error(self) -> float | None:
        """The same for max_memory_reserved, where it was measured."""
        measured = self.row.get("reserved")
        return self.made.reserved / measured - 1 if measured else None

    @property
    def inside(self) -> bool:
        """Whether what was measured is in the interval: reserved, else allocated."""
        if self.row.get("reserved"):
            return self.low <= float(self.row["reserved"]) <= self.high
        low, high = tables.load("memory_evidence")["allocated"]
        return bool(low <= self.row["allocated"] / self.made.allocated <= high)

    @property
    def width(self) -> float:
        """The interval's, as a share of the likely value."""
        if self.row.get("reserved"):
            return (self.high - self.low) / self.made.reserved
        low, high = tables.load("memory_evidence")["allocated"]
        return float(high - low)

    @property
    def held_out(self) -> bool:
        """Whether nothing was read off this row."""
        source = str(self.row["source"])
        return bool(self.row["bits"] == 4 and any(one in source for one in HELD_OUT))

    @property
    def verdict(self) -> str:
        """As `fit.verdict`, at the card's memory as torch reports it."""
        here = card(str(self.row["gpu"]))
        assert here is not None
        assert here.total_gib is not None
        return self.verdict_at(here.total_gib * GIB)

    def verdict_at(self, limit: float) -> Verdict:
        """The same at any capacity, in bytes."""
        ratio = self.high / self.made.reserved
        return within(
            self.made.least + self.context.likely, self.made.least * ratio + self.context.high, limit
        )

    @property
    def context(self) -> Interval:
        """CUDA's part on the row's card."""
        here = card(str(self.row["gpu"]))
        return here.context if here is not None and here.context is not None else USUAL_CONTEXT

    def false_verdicts(self) -> Iterator[tuple[str, bool]]:
        """At 0.90 to 1.10 of what was measured: the question, and whether the answer is wrong.

        Below what was allocated the run would go out of memory: `fits` is wrong. With as much as was reserved
        it would complete: `does not fit` is wrong. Between these nobody knows.
        """
        for percent in range(90, 111):
            if self.row["allocated"] * percent // 100 < self.row["allocated"]:
                short = self.row["allocated"] * percent / 100 + self.context.likely
                yield "fits", self.verdict_at(short) == "fits"
            if self.row.get("reserved") and percent >= 100:
                enough = self.row["reserved"] * percent / 100 + self.context.likely
                yield "does not fit", self.verdict_at(enough) == "does not fit"


def rows(path: Path) -> list[dict[str, Any]]:
    """All measurements of a memory.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def program(row: Mapping[str, Any]) -> Program | None:
    """The program that a row was measured with; None where it is not known."""
    if row["group"] == "fitcheck-T4":
        return Program(
            _method(row),
            dtype="float16",
            plain="float32" if row["kbit_fp32"] else "float16",
            adapter="float32",
            autocast=False,
            loss="model",
            optimizer="adamw_torch",
            holds_outputs=True,
            repeats_keys=True,
            capability=(7, 5),
            clips=False,
            prepared=bool(row["kbit_fp32"]),
            on_cpu_first=row["bits"] == 16,
        )
    if row["group"] == "fms-TRL-A100" and row["loss"].startswith("full logits"):
        return Program(
            _method(row),
            # TRL's peft_module_casting_to_bf16: norms stay in float32, tables and adapter do not.
            plain="float32" if row["kbit_fp32"] else "bfloat16",
            tables="bfloat16",
            adapter="bfloat16" if row["kbit_fp32"] else "float32",
            autocast=bool(row["autocast"]),
            loss="shifted",
            optimizer="adamw_torch",
            capability=(8, 0),
            prepared=bool(row["kbit_fp32"]),
            on_cpu_first=row["bits"] == 16,
        )
    return None


def _method(row: Mapping[str, Any]) -> Method:
    return Method(
        bits=row["bits"],
        double=bool(row["double"]),
        ranks=dict.fromkeys(row["targets"], row["r"]),
        dropout=row["dropout"],
        checkpointing=row["ckpt"],
        attention=row["attn"],
        adapter_bytes=4,
    )


def compare(path: Path) -> Iterator[Compared]:
    """Every row of known program, replayed."""
    for row in rows(path):
        known = program(row)
        if known is None:
            continue
        made = replayed(row["config"], known, Feed(row["batch"], row["length"]))
        low, high, _ = errors(known, row["config"]["model_type"], card(str(row["gpu"])))
        yield Compared(row, made, made.reserved * low, made.reserved * high)


def table(found: Iterable[Compared]) -> Iterator[str]:
    """The lines of the issue's table, over these rows."""
    all_rows = list(found)
    allocated = [abs(one.allocated_error) for one in all_rows]
    reserved = [abs(one.reserved_error) for one in all_rows if one.reserved_error is not None]
    kept_out = [one for one in all_rows if one.held_out]
    verdicts = [one.verdict for one in all_rows]
    yield f"allocated  {_spread(allocated)}  (to reach: mean 1 %, max 5 %)"
    yield f"reserved   {_spread(reserved)}  (to reach: mean 2 %, max 6 %)"
    yield f"interval   {_held(all_rows)}  (to reach: holds 95 %, width 8 %)"
    yield f"           {_held(kept_out)}: NF4 rows that the interval was not read off"
    yield (
        f"verdict    {len(verdicts)} rows completed: {verdicts.count('fits')} fits,"
        f" {verdicts.count('tight')} tight, {verdicts.count('does not fit')} does not fit"
        "  (to reach: at most 1 in 10 'does not fit'; the file has no rows that went out of memory)"
    )
    asked = [each for one in all_rows for each in one.false_verdicts()]
    for word, where in (
        ("fits", "90 to 99 % of what was allocated"),
        ("does not fit", "100 to 110 % of what was reserved"),
    ):
        wrong = [false for said, false in asked if said == word]
        yield f"           at {where}: {sum(wrong)} false '{word}' of {len(wrong)}"


def _spread(errors_: list[float]) -> str:
    mean, most = statistics.mean(errors_), max(errors_)
    return f"{len(errors_)} rows, mean {100 * mean:.2f} %, max {100 * most:.2f} %"


def _held(found: list[Compared]) -> str:
    inside = sum(one.inside for one in found)
    width = statistics.mean(one.width for one in found)
    return (
        f"holds {inside} of {len(found)} ({100 * inside / len(found):.0f} %), mean width {100 * width:.1f} %"
    )


def line(one: Compared) -> str:
    """A row in words."""
    row = one.row
    text = (
        f"{row['model'][:26]:26} {row['bits']:2} bit {row['batch']:2} x {row['length']:4} {row['attn'][:5]:5}"
    )
    text += f"  allocated {one.made.allocated / GIB:6.2f} {100 * one.allocated_error:+6.2f} %"
    if one.reserved_error is not None:
        text += f"  reserved {one.made.reserved / GIB:6.2f} {100 * one.reserved_error:+6.2f} %"
    return text + f"  {one.verdict}" + ("" if one.inside else "  OUTSIDE")
