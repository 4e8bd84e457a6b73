"""20 real configurations against what was worked out by hand before there was an importer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ftcheck.importers import importing
from ftcheck.policy.nodes import plain

EXPECTED = YAML(typ="safe").load(Path(__file__).with_name("expected.yaml"))


def test_the_expectation_is_of_8_axolotl_6_llama_factory_and_6_others() -> None:
    frameworks = [one["framework"] for one in EXPECTED]
    counts = [frameworks.count("axolotl"), frameworks.count("llama-factory"), len(frameworks)]
    assert counts == [8, 6, 20]


@pytest.mark.realdata
@pytest.mark.parametrize("expected", EXPECTED, ids=lambda one: one["file"].partition("/")[2])
def test_a_real_configuration_gives_what_was_worked_out_by_hand(
    expected: Mapping[str, Any], realdata: Path
) -> None:
    if expected["framework"] == "torchtune" or expected["file"].endswith(".py"):
        pytest.skip("no importer yet")
    file = realdata / "configs" / expected["file"]

    result = importing.read(None, file, folder=realdata / "configs")

    assert result.problems == ()
    assert result.tree is not None
    assert result.imported is not None
    assert result.imported.framework == expected["framework"]
    assert plain(result.tree) == expected["job"]
    marked = {one.key: list(one.changes) for one in result.imported.not_mapped if one.changes}
    assert marked == expected["marked"]
