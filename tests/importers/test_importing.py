"""No value of any key makes an importer fail, or puts a key into two lists."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.importers import documents, importing
from ftcheck.importers.records import FRAMEWORKS
from ftcheck.importers.sheet import Source, facts
from ftcheck.policy.nodes import Node, planted
from tests.faults import from_files
from tests.importers import test_litgpt, test_nemo_automodel, test_torchtune, test_unsloth
from tests.importers.__main__ import keys_of
from tests.importers.test_sheet import AXOLOTL

ODD: tuple[Any, ...] = (None, True, 0, "x", ["x"], [1, {"a": 1}], {"a": {"b": 1}})
SAMPLES = {
    "axolotl": AXOLOTL + "val_set_size: 0.1\nevals_per_epoch: 2\nsaves_per_epoch: 1\nadapter: qlora\n",
    "llama-factory": from_files.LLAMA_FACTORY,
    "trl": "model_name_or_path: m\ndataset_name: d\n",
    "alignment-handbook": "model_name_or_path: m\ndataset_mixture: {datasets: [{id: a}]}\n",
    "torchtune": test_torchtune.TEXT,
    "unsloth": test_unsloth.TEXT,
    "litgpt": test_litgpt.TEXT,
    "nemo-automodel": test_nemo_automodel.TEXT,
}


def others(framework: str) -> list[str]:
    """Every top-level key that the framework's table names."""
    known = facts(framework.replace("-", "_"))
    names = [*known["mapped"], *known["renamed"]]
    names += [one for group in known["not_mapped"] for one in group["keys"]]
    names += [one for several in known["without_effect"].values() for one in several]
    return [name for name in names if "." not in name and "*" not in name]


def changed(node: Node, added: list[str]) -> Iterator[tuple[str, Node]]:
    """The tree with one of its values replaced by something odd, or a key added, one after the other."""
    items = node.items
    for key, child in items.items():
        for value in ODD:
            yield key, replace(node, value={**items, key: planted(value, child.at)})
        for below, inner in changed(child, []):
            yield f"{key}.{below}", replace(node, value={**items, key: inner})
    for key in set(added) - set(items):
        for value in ODD:
            yield key, replace(node, value={**items, key: planted(value, node.at)})


def test_there_is_a_sample_of_each_framework() -> None:
    assert set(SAMPLES) == set(FRAMEWORKS)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_value_makes_an_importer_fail(framework: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(SAMPLES[framework])
    tree, problems = documents.read(tmp_path / "c.yml", "c.yml")
    assert problems == ()
    assert tree is not None

    for key, odd in changed(tree, others(framework)):
        record = importing.imported(framework, Source(tmp_path / "c.yml", "c.yml", odd, tmp_path)).imported
        assert record is not None
        keys = keys_of(record)
        assert len(keys) == len(set(keys)), key


@pytest.mark.parametrize(
    ("framework", "text", "taken"),
    [
        ("llama-factory", "model_name_or_path: m\nlearning_rate: 0.1\n", True),
        ("trl", "model_name_or_path: m\ndataset_mixer: {a: 1.0}\n", True),
        ("trl", "model_name_or_path: m\nstage: sft\n", False),
        ("axolotl", "model_name_or_path: m\nstage: sft\n", False),
    ],
)
def test_the_content_overrules_a_name_only_where_it_is_clear(
    framework: str, text: str, taken: bool, tmp_path: Path
) -> None:
    (tmp_path / "c.yml").write_text(text)
    result = importing.read(framework, tmp_path / "c.yml", folder=tmp_path)
    assert (result.imported is not None) == taken
