"""What fits: the largest batch, and the cheapest change."""

import math

import pytest

from ftcheck.estimate.memory.fit import cheapest, largest_batch, verdict
from ftcheck.estimate.memory.formulas import (
    GIB,
    Memory,
    estimate,
)
from tests.estimate.memory.kit import a_job, known

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def test_the_largest_batch_fits_and_the_next_one_does_not() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    most = largest_batch(a_job(), config, 16, longest=768)

    def at(batch: int) -> Memory:
        return estimate(a_job(per_device_train_batch_size=batch), config, longest=768)

    assert most > 1
    assert verdict(at(most), 16) == "fits"
    assert verdict(at(most + 1), 16) != "fits"
    assert largest_batch(a_job(), config, 4, longest=768) == 0


def test_checkpointing_is_the_first_remedy_and_rows_a_step_stay() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    first = cheapest(a_job(gradient_checkpointing=False), config, 16, longest=1024)
    assert first is not None
    assert [(one.path, one.new) for one in first.changes] == [
        ("jobs.job.training.gradient_checkpointing", True)
    ]
    second = cheapest(a_job(per_device_train_batch_size=32), config, 16, longest=1024)
    assert second is not None
    new = {one.path.rpartition(".")[2]: one.new for one in second.changes}
    assert math.prod(new.values()) == 32 * 4
    assert second.memory.high <= 16 * GIB


def test_max_length_is_the_last_remedy_and_no_remedy_is_said() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    tried = a_job(max_length=32768, per_device_train_batch_size=1)
    found = cheapest(tried, config, 12, longest=32768)
    assert found is not None
    assert found.changes[-1].path.endswith("max_length")
    assert not found.changes[-1].safe
    assert cheapest(a_job(), config, 4, longest=768) is None


def test_plan_and_memory_fit_ask_one_question() -> None:
    """What the run completes in counts, not what it would take where there is more."""
    from ftcheck.planning.records import Figure

    figure = Figure(9.0, 10.0, 11.0, "GiB", needed=(7.0, 8.0, 9.0))
    assert [figure.fits(limit) for limit in (9.5, 8.5, 7.5)] == ["fits", "tight", "does not fit"]
    formulas = Figure(9.0, 10.0, 11.0, "GiB")
    assert [formulas.fits(limit) for limit in (11, 10.5, 9.5)] == ["fits", "tight", "does not fit"]
    assert Figure(unit="GiB", why="unknown").fits(80) is None
