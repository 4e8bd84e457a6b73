"""What is known of a GPU by its name: memory, compute capability, speed, from one dated table.

A name is found as drivers print it and as people write it (`Tesla V100-SXM2-32GB`, `RTX_4090`, `8x H100`):
its words must be those of an entry of `tables/gpus.json`, no more and no fewer, so that an RTX 3090 Ti is
never taken for an RTX 3090.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ftcheck import tables
from ftcheck.estimate.interval import Interval
from ftcheck.inputs.machine import Machine
from ftcheck.records import Change
from ftcheck.settings import Job

GIB = 1 << 30
BFLOAT16 = (8, 0)
"""Compute capability at which bfloat16 units begin."""
CONTEXT_MARGIN = 32 << 20
"""Bytes by which a measured CUDA context may be larger with another driver."""
KEPT = 0.09
"""Share of the nominal memory that driver and error correction take: the most of the GPUs looked at."""
UNSPOKEN = frozenset({"nvidia", "geforce", "tesla", "gpu", "generation"})
"""Words that a name may have or not."""
SLICE = re.compile(r"\bmig[ -]?(?:\d+c\.)?\d+g\.(\d+)gb(?:\+\w+)*", re.IGNORECASE)
"""A slice of a GPU (MIG), such as `1g.5gb`, with its memory."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Dense TFLOP/s, GB/s of the memory, and the share of the peak that matrix products reach in training.

    `launch_ms`: milliseconds a layer and pass take to be started; `attention`: time of a multiplication in a
    fused attention kernel by that of one in a matrix product; None where the usual ones hold.
    `evidence` names the public measurements that the share was read off; None where it is assumed.
    """

    tflops: Interval
    tflops_float32: float
    gb_per_s: Interval
    utilisation: Interval
    launch_ms: Interval | None
    attention: Interval | None
    evidence: str | None


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU of the table. `memory_gib` is None where several sizes are sold under the name.

    `total_gib` is what torch reports as total_memory: the least that was seen; None where nobody looked.
    `family` is the short name that covers it (`H100` for an H100 NVL); `speed` is None where it is unknown.
    `context` are bytes that a process holds beside torch's, where they were measured.
    """

    name: str
    memory_gib: float | None
    capability: tuple[int, int] | None
    family: str | None = None
    speed: Speed | None = None
    total_gib: float | None = None
    context: Interval | None = None

    @property
    def bf16(self) -> bool:
        """Whether it has bfloat16 units."""
        return self.capability is None or self.capability >= BFLOAT16


def card(name: str) -> Card | None:
    """The GPU of this name; None for one that is not in the table. A slice (MIG) has no known speed."""
    found = SLICE.search(name)
    if found is None:
        return _cards().get(_words(name))
    whole = card(SLICE.sub("", name))
    memory = float(found[1])
    if whole is None:
        return Card(name, memory, None)
    name = f"{whole.name} {found[0]}"
    return replace(whole, name=name, memory_gib=memory, family=None, speed=None, total_gib=None)


def same_gpu(stated: str, here: str) -> bool:
    """Whether a name in a policy is that of a GPU here; `H100` is any H100."""
    one, other = card(stated), card(here)
    if one is None or other is None:
        return _words(stated) == _words(here)
    return one.name in (other.name, other.family)


@cache
def _cards() -> dict[frozenset[str], Card]:
    found: dict[frozenset[str], Card] = {}
    for name, facts in tables.load("gpus")["gpus"].items():
        major, _, minor = facts["capability"].partition(".")
        capability = (int(major), int(minor))
        total = facts.get("total_gib")
        one = Card(
            name,
            facts["memory_gib"],
            capability,
            facts.get("family"),
            _speed(facts),
            min(total) if total else None,
            _context(facts),
        )
        for other in (name, *facts.get("also", ())):
            found[_words(other)] = one
    return found


def _speed(facts: dict[str, Any]) -> Speed | None:
    if "tflops" not in facts:
        return None
    launch, attention = facts.get("launch_ms"), facts.get("attention")
    return Speed(
        tflops=_span(facts["tflops"]),
        tflops_float32=facts["tflops_float32"],
        gb_per_s=_span(facts["gb_per_s"]),
        utilisation=Interval(*facts["utilisation"]),
        launch_ms=None if launch is None else Interval(*launch),
        attention=None if attention is None else Interval(*attention),
        evidence=facts.get("evidence"),
    )


def _context(facts: dict[str, Any]) -> Interval | None:
    if "context_gib" not in facts:
        return None
    size = facts["context_gib"] * GIB
    return Interval(size, size, size + CONTEXT_MARGIN)


def _span(stated: Any) -> Interval:
    low, high = stated if isinstance(stated, list) else (stated, stated)
    return Interval(low, (low + high) / 2, high)


def _words(name: str) -> frozenset[str]:
    """The words that make a name: sizes and form factors in one spelling, makers left out."""
    text = re.sub(r"[-_/(),]+", " ", name.lower().strip())
    for pattern, new in (
        (r"^\d+ ?x ", ""),
        (r"gib\b", "gb"),
        (r"\b(\d+) ?gb?\b", r"\1gb"),
        (r"\bsxm\d\b", "sxm"),
        (r"\b(rtx|gtx)(?=[a\d])", r"\1 "),
        (r"(?<=\d)(ti|super)\b", r" \1"),
    ):
        text = re.sub(pattern, new, text)
    return frozenset(text.split()) - UNSPOKEN


def asks_for_bfloat16(job: Job) -> Iterator[tuple[str, Change | None]]:
    """The settings that ask for bfloat16, with the change to float16; TRL's default is yes unless fp16 is
    set.
    """
    training, quantization = job.training, job.training.quantization
    if training.bf16 is None and not training.fp16:
        yield "training.bf16", Change(f"jobs.{job.name}.training.fp16", False, True, safe=False)
    elif training.bf16:
        yield "training.bf16", None
    if quantization is not None and quantization.bnb_4bit_compute_dtype == "bfloat16":
        key = "training.quantization.bnb_4bit_compute_dtype"
        yield key, Change(f"jobs.{job.name}.{key}", "bfloat16", "float16", safe=False)


def gpu_memory(job: Job, machine: Machine) -> tuple[float | None, str]:
    """Memory of one GPU in GiB as torch reports it, and where that is from; None with the reason where nobody
    says. Of a named GPU it is the least that was seen, or the nominal size less 9 %."""
    stated = job.hardware
    if stated.memory_gib is not None:
        return stated.memory_gib, "hardware.memory_gib"
    if stated.gpu is not None:
        return _named_memory(stated.gpu)
    if machine.gpus:
        sizes = [one.memory for one in machine.gpus if one.memory is not None]
        if not sizes:
            return None, f"the driver does not report the memory of {machine.gpus[0].name}"
        return min(sizes) / GIB, "this machine"
    return None, "this machine has no GPU, and hardware.gpu and hardware.memory_gib are not set"


def _named_memory(name: str) -> tuple[float | None, str]:
    found = card(name)
    if found is None:
        return None, f"the memory of {name} is unknown; set hardware.memory_gib"
    if found.memory_gib is None:
        return None, f"{found.name} is sold with several sizes of memory; set hardware.memory_gib"
    if found.total_gib is not None:
        return found.total_gib, "hardware.gpu"
    return round(found.memory_gib * (1 - KEPT), 2), "hardware.gpu"
