"""`ftcheck.require`, the gate in a script of one's own."""

import json

import pytest

import ftcheck
from tests.cli.project import Project
from tests.gate.kit import edit


def test_the_ticket_holds_the_digests_of_the_report(gated: Project) -> None:
    ticket = ftcheck.require(gated.folder / "r.json", policy=gated.folder / "policy.yaml", job="mapper")

    report = json.loads((gated.folder / "r.json").read_text(encoding="utf-8"))
    assert ticket.ids == report["jobs"]["mapper"]["ids"]
    assert ticket.inputs["mapper.train"] == report["inputs"]["mapper.train"]["digest"]


def test_require_raises_with_every_reason(gated: Project) -> None:
    edit(gated, "mapper.jsonl", "Map", "map")

    with pytest.raises(ftcheck.Refused, match="data-changed"):
        ftcheck.require(gated.folder / "r.json", policy=gated.folder / "policy.yaml", job="mapper")
