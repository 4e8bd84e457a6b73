"""The picture of a run shows the checks that there are today, and what they say."""

import re

import pytest

pytest.importorskip("trl", reason="needs the [train] extra")

from docs.generator.picture import PICTURE, drawn, printed, shown
from ftcheck.runner.load import load
from tests.docs.same import same
from tests.places import POLICIES


def test_it_shows_todays_checks() -> None:
    text = shown(PICTURE.read_text(encoding="utf-8"))
    loaded = load(str(POLICIES / "night_before.yaml"))
    planned = {check.name for check in loaded.checks if check.job in ("mapper", None)}

    named = set(re.findall(r"^ +[✓✗-] ([a-z-]+)", text, re.MULTILINE))
    assert planned - named == {name for name in planned - named if name in text}
    assert named <= planned


def test_it_is_drawn_from_a_run_as_it_is_today() -> None:
    now = shown(drawn(printed())).splitlines()
    then = shown(PICTURE.read_text(encoding="utf-8")).splitlines()

    assert same(then, now), "draw it again: python -m docs.generator.picture"


def test_it_fetches_nothing() -> None:
    drawing = PICTURE.read_text(encoding="utf-8")

    assert re.findall(r"url\((?!#)[^)]*\)|href=|<script", drawing) == []
