"""One cause, one number: the checks that propose a max_length propose the same one."""

from random import Random
from typing import Any

import pytest
from ftcheck_rules.labels.labels import truncation
from ftcheck_rules.lengths.lengths import percentile_seq_len
from ftcheck_rules.lengths.packing import packing_efficiency
from ftcheck_rules.lengths.sufficient import sufficient

from ftcheck.testing import inputs, job, prepared, run


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_length_truncation_and_packing_propose_one_number(seed: int, packing: bool) -> None:
    dice = Random(seed)
    limit = 64 * dice.randint(2, 12)
    lengths = [dice.randint(16, dice.choice((limit, 3 * limit))) for _ in range(dice.randint(1, 80))]
    trained = [dice.randint(1, one) for one in lengths]
    made = job(training={"max_length": limit, "packing": packing})
    given: dict[str, Any] = {
        "job": made,
        "prepared": prepared(lengths, trained=trained, max_length=limit, packing=packing),
        "inputs": inputs(),
    }

    ran = [run(rule, **given) for rule in (percentile_seq_len, truncation)]
    if packing:
        ran.append(run(packing_efficiency, **{key: given[key] for key in ("job", "prepared")}))
    proposed = {
        one.change.new
        for each in ran
        for one in each.findings
        if one.change is not None and one.change.path.endswith("max_length")
    }

    assert len(proposed) <= 1, proposed


def test_a_conversation_that_is_longer_by_a_little_gets_the_length_of_both() -> None:
    """1,926 tokens: 1,920 of them would do for `truncation` alone, and 1,984 hold the row."""
    given: dict[str, Any] = {
        "job": job(training={"max_length": 1024}),
        "prepared": prepared([1926], trained=[1926], max_length=1024),
        "inputs": inputs(),
    }

    found = [finding for rule in (percentile_seq_len, truncation) for finding in run(rule, **given).findings]

    assert {one.change.new for one in found if one.change is not None} == {1984}


def test_no_rows_need_nothing() -> None:
    assert sufficient(job(), prepared([])) == 0
