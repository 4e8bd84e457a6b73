"""How often a training makes the host wait for the device: each read of a number of a tensor is one wait."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ftcheck_trainers.qlora import TRAINER

from tests.trainers.conftest import Kit

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]


@contextmanager
def waits_counted() -> Iterator[Counter[str]]:
    """Reads of a tensor's numbers, counted by the package that asks for them."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: Counter[str] = Counter()
    tolist = torch.Tensor.tolist

    def count() -> None:
        frame: Any = sys._getframe(2)
        while "/torch/" in frame.f_code.co_filename:
            frame = frame.f_back
        found[frame.f_globals["__name__"].partition(".")[0]] += 1

    class Reads(TorchDispatchMode):  # type: ignore[misc]
        """float(), int(), bool() and item() all come down to this operation."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._local_scalar_dense.default:
                count()
            return func(*args, **(kwargs or {}))

    def counted(tensor: Any) -> Any:
        count()
        return tolist(tensor)

    torch.Tensor.tolist = counted
    try:
        with Reads():
            yield found
    finally:
        torch.Tensor.tolist = tolist


def test_the_counter_sees_each_way_to_read_a_number() -> None:
    import torch

    one = torch.tensor(1.5)

    with waits_counted() as waits:
        float(one), int(one), bool(one > 1), one.item(), one.tolist()
        one.sum(), one + one

    assert waits == {"tests": 5}


def test_the_host_waits_for_the_device_once_a_log(kit: Kit) -> None:
    job = kit.job(max_steps=8, logging_steps=0.5, gradient_accumulation_steps=2, quantization=None)
    inputs = kit.inputs(job)
    ticket = kit.ticket(job, inputs)

    with waits_counted() as waits:
        folder = Path(TRAINER.train(ticket, job, inputs, resume=False))

    logs = [line["step"] for line in kit.metrics()]
    assert folder == kit.output
    assert logs == [1, 4, 8]
    assert waits["trl"] > 16, "TRL's own, each micro-batch: the counter is at work"
    assert waits["ftcheck_trainers"] == len(logs)
