"""A seeded sample of mutants of every kind: no traceback, no hang, no open gate."""

from pathlib import Path

import pytest

from tests.mutants.bench import examine, one
from tests.mutants.kinds import KINDS, Place, Wrong, meaning
from tests.mutants.world import World, made

SEED = 13
SAMPLE = {"report": 30, "rows": 30, "tokenizer_config": 30, "template": 30, "safetensors": 30}
USUAL = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return made(tmp_path_factory.mktemp("mutants") / "world")


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_mutants(kind: str, world: World) -> None:
    tally = examine(kind, world, seed=SEED, numbers=range(SAMPLE.get(kind, USUAL)))

    assert tally.wrong == []
    assert tally.count == SAMPLE.get(kind, USUAL)


def test_a_traceback_and_a_hang_are_seen(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(place: Place, source: object) -> str:
        raise KeyError("x")

    monkeypatch.setitem(KINDS, "policy", broken)

    assert one("policy", Place(world, tmp_path, {}), SEED, 0)[0] == "traceback"
    tally = examine("rows", world, seed=SEED, numbers=[0], limit=0.001)
    assert [number for number, _ in tally.wrong] == [0]
    assert tally.outcomes["hang"] == 1


def test_a_report_that_says_something_else_has_another_meaning(world: World, tmp_path: Path) -> None:
    text = world.report.read_text(encoding="utf-8")
    for name, changed in (
        ("outcome", text.replace('"outcome": "passed"', '"outcome": "skipped"', 1)),
        ("digest", text.replace('"digest": "sha256:', '"digest": "sha256:0', 1)),
    ):
        assert changed != text, name
        (tmp_path / "r.json").write_text(changed, encoding="utf-8")
        assert meaning(tmp_path / "r.json") != meaning(world.report), name
    assert issubclass(Wrong, Exception)
