"""Healthy jobs: nothing above `info` is said of any of them."""

from pathlib import Path

import pytest

from tests.faults.bench import BASES
from tests.faults.clean import DATASETS, NOT_CLEAN, SMALL, Combination, Side, combinations
from tests.faults.examine import quiet


@pytest.mark.parametrize("name", SMALL)
def test_a_small_healthy_job_is_quiet(name: str, tmp_path: Path) -> None:
    base, change = SMALL[name]
    bench = BASES[base](tmp_path)
    change(bench)
    bench.write()

    looked = bench.look()

    assert quiet(looked), looked.said()


def test_there_are_at_least_100_real_combinations() -> None:
    assert len(combinations()) >= 100


@pytest.mark.realdata
@pytest.mark.parametrize("combination", combinations(), ids=lambda one: one.name)
def test_a_real_healthy_job_is_quiet(combination: Combination, tmp_path: Path) -> None:
    bench = combination.bench(tmp_path)
    bench.write()

    looked = bench.look()

    assert quiet(looked), looked.said()


@pytest.mark.realdata
@pytest.mark.parametrize("side", NOT_CLEAN, ids=lambda side: side.name)
def test_a_tokenizer_that_loads_as_another_is_named(side: Side, tmp_path: Path) -> None:
    bench = Combination(side, DATASETS[0], "packed").bench(tmp_path)
    bench.write()

    looked = bench.look()

    assert [one.check.rule for one in looked.loud] == ["tokenizer-parity"], looked.said()
    assert {str(one.severity) for one in looked.loud[0].findings} <= {"warning", "info"}
