"""Every failure of the catalogue that needs no GPU, planted and found."""

import re
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS, Fault
from tests.faults.examine import examine
from tests.places import CHECKOUT

CATALOGUE = CHECKOUT.parent / "shared" / "research" / "failures.md"

NOT_CAUGHT: dict[str, str] = {}
"""Faults that are not caught as the list says, and why: at most six."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_planted_fault_is_found_in_its_place(fault: Fault, tmp_path: Path) -> None:
    if fault.id in NOT_CAUGHT:
        pytest.xfail(NOT_CAUGHT[fault.id])

    verdict = examine(fault, tmp_path)

    assert verdict.caught, f"{fault.rule} does not speak:\n{verdict.said}"
    assert verdict.placed, f"not at {fault.where}:\n{verdict.said}"
    assert verdict.first, f"{fault.rule} is not the first to speak:\n{verdict.said}"
    assert len(verdict.loud) <= 2, f"{', '.join(verdict.loud)} all speak:\n{verdict.said}"
    assert verdict.mended is not False, f"the change does not mend it:\n{verdict.said}"
    assert not verdict.odd_changes, "; ".join(verdict.odd_changes)


def test_at_least_95_of_101_faults_are_caught() -> None:
    assert len({fault.id for fault in FAULTS}) == len(FAULTS) >= 101
    assert len(NOT_CAUGHT) <= 6


@pytest.mark.realdata
def test_the_list_holds_every_entry_of_the_catalogue_that_needs_no_gpu() -> None:
    text = CATALOGUE.read_text(encoding="utf-8")
    entries = set(re.findall(r"^### `([^`]+)`", text, re.MULTILINE))
    [line] = re.findall(r"^- \*\*GPU needed.*$", text, re.MULTILINE)
    gpu = set(re.findall(r"`([^`]+)`", line))

    assert {fault.id for fault in FAULTS} >= entries - gpu
