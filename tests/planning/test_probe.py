"""What a probe says of the probed settings and of others."""

import pytest
from ftcheck_trainers.probe import peak_memory

from ftcheck.estimate.interval import Interval
from ftcheck.inputs.probe import Probe
from ftcheck.planning.probe import memory, pace
from ftcheck.planning.records import Figure

PROBE = Probe("NVIDIA L4", 3, 1000.0, 12.0, 4, 768)
STATED = Figure(9.0, 10.0, 11.0, "GiB")


def test_the_probed_settings_need_what_was_measured() -> None:
    found = memory(STATED, STATED, PROBE, same=True)

    assert found.likely == 12.0
    assert (found.low, found.high) == pytest.approx((11.76, 12.24))
    assert "measured: 12.00 GiB in 3 steps on NVIDIA L4" in found.assumes


def test_other_settings_are_off_by_as_much() -> None:
    found = memory(Figure(18.0, 20.0, 22.0, "GiB"), STATED, PROBE, same=False)

    assert found.likely == pytest.approx(24.0)
    assert (found.low, found.high) == pytest.approx((22.8, 25.2))


def test_what_was_not_measured_or_not_estimated_stays() -> None:
    unknown = Figure(unit="GiB", why="unknown")
    no_gpu = Probe("CPU", 3, 1000.0, None, 4, 768)

    assert memory(STATED, STATED, no_gpu, same=True) == STATED
    assert memory(unknown, STATED, PROBE, same=False) == unknown
    assert memory(STATED, unknown, PROBE, same=False) == STATED
    assert memory(unknown, unknown, PROBE, same=True).likely == 12.0


def test_the_pace_of_other_settings_follows_their_estimate() -> None:
    slow, fast = Interval(400.0, 500.0, 600.0), Interval(800.0, 1000.0, 1200.0)

    assert pace(slow, slow, PROBE, same=True).likely == 1000.0
    other = pace(fast, slow, PROBE, same=False)
    assert other.likely == pytest.approx(2000.0)
    assert other.high / other.low > 1.1
    assert pace(None, None, PROBE, same=False).likely == 1000.0


class Cuda:
    """torch.cuda on a GPU of 16 GiB of which 5 are taken, 4 of them by torch now, 7 at its peak."""

    def mem_get_info(self) -> tuple[int, int]:
        return 11, 16

    def memory_reserved(self) -> int:
        return 4

    def max_memory_reserved(self) -> int:
        return 7


def test_the_peak_counts_what_lies_outside_of_torch() -> None:
    assert peak_memory(Cuda()) == 8
