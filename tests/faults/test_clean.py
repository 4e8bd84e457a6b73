"""Healthy jobs: nothing above `info` is said of any of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ftcheck.inputs.container import Inputs
from ftcheck.settings import Job
from tests.faults.bench import BASES, Row
from tests.faults.clean import DATASETS, NOT_CLEAN, SMALL, Combination, Side, combinations
from tests.faults.examine import quiet
from tests.plugins.preparation.test_against_trl import fed
from tests.plugins.preparation.trl_side import Fed, prepare

OPENED: dict[tuple[str, bool], dict[str, Any]] = {}
"""Tokenizers, and what saving them gave: opening one of 150,000 tokens takes seconds."""
KEYS = ("max_length", "packing", "packing_strategy", "assistant_only_loss", "completion_only_loss")


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
def test_a_real_healthy_job_is_quiet_and_its_ids_and_labels_are_trls(
    combination: Combination, tmp_path: Path
) -> None:
    bench = combination.bench(tmp_path)
    bench.write()
    key = (combination.side.name, bool(bench.job["training"].get("assistant_only_loss")))
    bench.opened = OPENED.get(key, {})

    looked = bench.look()

    OPENED[key] = {name: looked.inputs.get(name) for name in ("tokenizer", "saved")}
    assert quiet(looked), looked.said()
    if combination.data.name != "alpaca":  # TRL has no layout for these rows
        mine, theirs = _both(looked.inputs, bench.train, tmp_path)
        assert mine == theirs


def _both(inputs: Inputs, rows: Sequence[Row], folder: Path) -> tuple[list[Fed], list[Fed]]:
    """What ftcheck and what TRL would feed: ids and labels of each row; packed ones in any order."""
    job: Job = inputs.get("job")
    training = {key: getattr(job.training, key) for key in KEYS}
    theirs = prepare(inputs.get("tokenizer").original, rows, folder, **training)
    mine = fed(inputs.get("prepared"), training)
    return (sorted(mine), sorted(theirs)) if job.training.packing else (mine, theirs)


@pytest.mark.realdata
@pytest.mark.parametrize("side", NOT_CLEAN, ids=lambda side: side.name)
def test_what_is_not_clean_is_warned_of_by_name(side: Side, tmp_path: Path) -> None:
    bench = Combination(side, DATASETS[0], "packed").bench(tmp_path)
    bench.write()

    looked = bench.look()

    assert [one.check.rule for one in looked.loud] == NOT_CLEAN[side], looked.said()
    assert {one.severity for result in looked.loud for one in result.findings} <= {"warning", "info"}
