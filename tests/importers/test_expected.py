"""20 real configurations against what was worked out by hand before there was an importer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ftcheck.importers import documents, importing
from ftcheck.importers.sheet import leaves
from ftcheck.policy.nodes import plain
from tests.importers.__main__ import keys_of, rows, table, whole
from tests.places import CHECKOUT

GUIDE = CHECKOUT / "docs" / "guides" / "frameworks.md"
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
    file = realdata / "configs" / expected["file"]

    result = importing.read(None, file, folder=realdata / "configs")

    assert result.problems == ()
    assert result.tree is not None
    assert result.imported is not None
    assert result.imported.framework == expected["framework"]
    assert plain(result.tree) == expected["job"]
    marked = {one.key: list(one.changes) for one in result.imported.not_mapped if one.changes}
    assert marked == expected["marked"]


@pytest.mark.realdata
def test_95_of_100_real_configurations_import_with_every_key_in_one_list(realdata: Path) -> None:
    found = list(rows(realdata / "configs"))

    assert table(found) in GUIDE.read_text("utf-8")
    good = [row for row in found if row.record is not None and whole(row.record)]

    assert len(found) >= 461
    assert len(good) >= 0.95 * len(found)


@pytest.mark.realdata
def test_no_key_of_a_real_configuration_is_lost(realdata: Path) -> None:
    for row in rows(realdata / "configs"):
        if row.record is None or row.file.suffix not in (".yml", ".yaml", ".json"):
            continue
        tree, _ = documents.read(row.file, "file")
        assert tree is not None
        assert set(keys_of(row.record)) == {key for key, _ in leaves(tree)}, row.file
