"""What fits: the largest batch, and the cheapest change."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.fit import (
    Largest,
    Replays,
    cheapest,
    confirmed_batch,
    largest_batch,
    verdict,
    worst,
)
from ftcheck.estimate.memory.formulas import (
    GIB,
    Memory,
    estimate,
)
from ftcheck.estimate.memory.prediction import predict
from ftcheck.settings import Job
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


# --- by replayed steps -------------------------------------------------------------------------------------


def heavier(config: Any, factor: Callable[[Job], float]) -> Replays:
    """Replays that say so many times what the formulas do."""

    def made(job: Job, longest: int, sequences: int | None) -> Memory:
        found = estimate(job, config, longest=longest, sequences=sequences)
        ends = Interval(found.low, found.likely, found.high).times(factor(job))
        return replace(found, low=ends.low, likely=ends.likely, high=ends.high, least=ends)

    return made


def test_the_largest_batch_is_one_that_a_replay_allows() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    formulas = largest_batch(a_job(), config, 24, longest=768)
    replays = heavier(config, lambda job: 1.2)
    found = confirmed_batch(a_job(), config, 24, replays, longest=768)

    assert found.replayed
    assert 0 < found.batch < formulas
    for batch, fits in ((found.batch, True), (found.batch + 1, False)):
        made = replays(a_job(per_device_train_batch_size=batch), 768, None)
        assert (verdict(made, 24) == "fits") == fits


def test_the_largest_batch_steps_down_until_a_replay_allows_it_or_says_that_none_does() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    formulas = largest_batch(a_job(), config, 24, longest=768)
    asked: list[int] = []

    def noted(job: Job) -> float:
        asked.append(job.training.per_device_train_batch_size)
        return 1.1 if asked[-1] < formulas // 2 else 2.0

    found = confirmed_batch(a_job(), config, 24, heavier(config, noted), longest=768)
    assert asked[0] == formulas
    assert asked == sorted(asked, reverse=True)
    assert 0 < found.batch < formulas
    assert confirmed_batch(a_job(), config, 24, heavier(config, lambda job: 4.0), longest=768) == Largest(
        0, True
    )


def test_what_no_replay_can_tell_is_the_formulas_word() -> None:
    config = known("Meta-Llama-3-8B-Instruct")

    def untraced(job: Job, longest: int, sequences: int | None) -> Memory:
        return estimate(job, config, longest=longest, sequences=sequences)

    formulas = largest_batch(a_job(), config, 24, longest=768)
    assert confirmed_batch(a_job(), config, 24, untraced, longest=768) == Largest(formulas, False)
    tried = a_job(per_device_train_batch_size=32)
    assert cheapest(tried, config, 16, longest=1024, replays=untraced) == cheapest(
        tried, config, 16, longest=1024
    )


def test_a_remedy_is_replayed_and_the_next_is_taken_where_that_refuses_it() -> None:
    config = known("Meta-Llama-3-8B-Instruct")
    tried = a_job(gradient_checkpointing=False)
    first = cheapest(tried, config, 16, longest=1024)
    # Checkpointing alone fits by the formulas; a replay says 1.8 times as much of batches of four.
    replays = heavier(config, lambda job: 1.8 if job.training.per_device_train_batch_size == 4 else 1.0)
    found = cheapest(tried, config, 16, longest=1024, replays=replays)

    assert first is not None
    assert found is not None
    assert [one.new for one in first.changes] == [True]
    assert len(found.changes) > 1
    assert found.memory.least is not None
    assert verdict(found.memory, 16) == "fits"
    assert verdict(replays(found.job, found.longest, None), 16) == "fits"


def test_a_real_replay_confirms_what_is_proposed() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    config = known("Llama-3.2-1B-Instruct")
    job = a_job(per_device_train_batch_size=64, hardware={"gpu": "T4"}, fp16=True, bf16=False)

    def replays(one: Job, longest: int, sequences: int | None) -> Memory:
        return predict(one, config, longest=longest, sequences=sequences, usual=300)

    memory, by = worst(job, config, 14.56, longest=1024, usual=300)
    assert verdict(memory, 14.56) == "does not fit"
    remedy = cheapest(job, config, 14.56, longest=1024, by=by, replays=replays)
    most = confirmed_batch(job, config, 14.56, replays, longest=1024, by=by)
    assert remedy is not None
    for one in (remedy.job, a_job_with(job, most.batch)):
        made = replays(one, 1024, None)
        assert made.least is not None
        assert verdict(made, 14.56) == "fits"
    assert remedy.memory == replays(remedy.job, 1024, None)
    assert most.replayed


def a_job_with(job: Job, batch: int) -> Job:
    return replace(job, training=replace(job.training, per_device_train_batch_size=batch))
