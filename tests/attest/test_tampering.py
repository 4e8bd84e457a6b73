"""A signed report, and every way to change it, its statement or the envelope: each is refused.

The attacks and the codes that must meet them stand in `expected`; a test here does the attack of each name.
"""

import base64
import hmac
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ftcheck.attest import envelope, keys
from ftcheck.attest.statement import encoded
from tests.attest.expected import ENVELOPE_EDITS, REPORT_EDITS, SIGNED_LIES, STATEMENT_EDITS
from tests.attest.kit import (
    PROOF,
    REPORT,
    codes,
    edit,
    leaves,
    mutated,
    pairs,
    public,
    seal,
    signed,
    statement_of,
)
from tests.cli.project import Project

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def key(gated: Project) -> keys.PrivateKey:
    """The project's report signed with this key."""
    return signed(gated)


def test_a_signed_report_opens_the_gate(gated: Project, key: keys.PrivateKey) -> None:
    assert codes(gated) == []
    assert codes(gated, job="analyst") == []


def _results(report: dict[str, Any]) -> None:
    """What failed has passed now, and all that follows from it says so too."""
    report["results"].remove(report["results"][0])
    report["counts"] = {**report["counts"], "passed": report["counts"]["passed"] - 1}
    report["counts"]["planned"] -= 1


REPORTS: dict[str, Edit] = {
    "verdict": lambda one: one.update(verdict="failed"),
    "counts": lambda one: one["counts"].update(passed=one["counts"]["passed"]),
    "one result": lambda one: one["results"][0]["measurements"][0].update(value=1),
    "verdict, counts and results, consistently": _results,
    "a data file's digest": lambda one: one["inputs"]["mapper.train"].update(digest="sha256:" + "0" * 64),
    "when it was made": lambda one: one["run"].update(finished_at="2026-11-29T07:00:00+00:00"),
    "white space alone": lambda one: None,
}


@pytest.mark.parametrize("name", REPORT_EDITS)
def test_an_edited_report(gated: Project, key: keys.PrivateKey, name: str) -> None:
    edit(gated, REPORTS[name], REPORT)

    assert codes(gated) == [REPORT_EDITS[name]]


def test_a_failed_report_made_green_in_all_its_parts(gated: Project) -> None:
    """The acceptance: without the signature the gate opens for the edit, with it never."""
    green = (gated.folder / REPORT).read_bytes()
    text = (gated.folder / "policy.yaml").read_text(encoding="utf-8")
    gated.write("policy.yaml", text.replace("max_length: 512", "max_length: 20"))
    assert gated.call("run", "policy.yaml", "-o", "json=r.json").code == 1
    signed(gated)
    assert "failed" in codes(gated)
    made = json.loads((gated.folder / REPORT).read_bytes())
    of_green = {one["id"]: one for one in json.loads(green)["results"]}
    made["results"] = [{**of_green[one["id"]], "params": one["params"]} for one in made["results"]]
    made["verdict"], made["counts"] = "passed", json.loads(green)["counts"]
    made["run"] = {**json.loads(green)["run"], "finished_at": made["run"]["finished_at"]}
    (gated.folder / REPORT).write_text(json.dumps(made), encoding="utf-8")

    ran = gated.call("gate", REPORT, "--policy", "policy.yaml", "--job", "mapper")
    held = gated.call(
        "gate", REPORT, "--policy", "policy.yaml", "--job", "mapper", "--require-signed", public(gated)
    )

    assert ran.code == 0, "a consistent edit cannot be seen without a signature"
    assert held.code == 5
    assert "refused for mapper (other-report)" in held.err


def test_each_leaf_of_the_report(gated: Project, key: keys.PrivateKey) -> None:
    path = gated.folder / REPORT
    report = json.loads(path.read_bytes())
    named = leaves(report)
    assert len(named) > 200
    for leaf in named:
        path.write_text(json.dumps(mutated(report, leaf)), encoding="utf-8")
        assert codes(gated), leaf


STATEMENTS: dict[str, Edit] = {
    "_type": lambda one: one.update(_type="https://in-toto.io/Statement/v0.1"),
    "predicateType": lambda one: one.update(predicateType="https://slsa.dev/provenance/v1"),
    "subject digest": lambda one: one["subject"][1]["digest"].update(sha256="0" * 64),
    "subject name": lambda one: one["subject"][1].update(name="other"),
    "result": lambda one: one["predicate"].update(result="WARNED"),
    "configuration": lambda one: one["predicate"]["configuration"].pop(),
    "passedTests": lambda one: one["predicate"]["passedTests"].pop(),
    "failedTests": lambda one: one["predicate"]["failedTests"].append("mapper::truncation"),
    "no subject": lambda one: one.update(subject=[]),
    "another report": lambda one: one["subject"][0]["digest"].update(sha256="0" * 64),
}


@pytest.mark.parametrize("name", STATEMENT_EDITS)
def test_an_edited_statement(gated: Project, key: keys.PrivateKey, name: str) -> None:
    said = statement_of(gated)
    STATEMENTS[name](said)

    edit(gated, lambda one: one.update(payload=base64.b64encode(encoded(said)).decode()))

    assert codes(gated) == [STATEMENT_EDITS[name]]


def test_each_leaf_of_the_statement(gated: Project, key: keys.PrivateKey) -> None:
    said = statement_of(gated)
    sealed = json.loads((gated.folder / PROOF).read_bytes())
    for leaf in leaves(said):
        payload = base64.b64encode(encoded(mutated(said, leaf))).decode()
        (gated.folder / PROOF).write_text(json.dumps({**sealed, "payload": payload}), encoding="utf-8")
        assert codes(gated) == ["signature-invalid"], leaf


@pytest.mark.parametrize("name", SIGNED_LIES)
def test_a_statement_that_the_right_key_signed(gated: Project, key: keys.PrivateKey, name: str) -> None:
    said = statement_of(gated)
    if name == "duplicate keys":
        seal(gated, encoded(said).replace(b'"predicate": {', b'"predicate": {}, "predicate": {', 1), key)
    elif name == "not JSON":
        seal(gated, b"PASSED", key)
    else:
        STATEMENTS[name](said)
        seal(gated, said, key)

    assert codes(gated) == [SIGNED_LIES[name]]


def _flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[0] ^= 1
    return base64.b64encode(bytes(data)).decode()


def _signature(one: dict[str, Any], **changes: Any) -> None:
    one["signatures"][0].update(changes)


ENVELOPES: dict[str, Edit] = {
    "payload of another statement": lambda one: one.update(payload=base64.b64encode(b"{}").decode()),
    "payload not base64": lambda one: one.update(payload="{}"),
    "payloadType": lambda one: one.update(payloadType="application/json"),
    "payloadType absent": lambda one: one.pop("payloadType"),
    "no signatures": lambda one: one.update(signatures=[]),
    "signatures absent": lambda one: one.pop("signatures"),
    "an empty signature": lambda one: _signature(one, sig=""),
    "a bit of the signature": lambda one: _signature(one, sig=_flipped(one["signatures"][0]["sig"])),
    "a signature cut short": lambda one: _signature(one, sig=one["signatures"][0]["sig"][:40]),
}


def _by_hand(gated: Project, key: keys.PrivateKey, name: str) -> None:
    """The attacks that write another file."""
    path, said = gated.folder / PROOF, encoded(statement_of(gated))
    if name.startswith("a signature by another key"):
        other = pairs(gated.folder / "other")
        whose = key if name.endswith("keyid") else other
        path.write_bytes(envelope.sealed(said, other.sign, whose.public.keyid))
    elif name == "an HMAC with the public key":
        pem = Path(public(gated)).read_bytes()
        path.write_bytes(envelope.sealed(said, lambda data: hmac.digest(pem, data, sha256), key.public.keyid))
    elif name == "duplicate keys":
        path.write_bytes(path.read_bytes().replace(b'"signatures"', b'"payload": "e30=", "signatures"', 1))
    elif name == "no file":
        path.unlink()
    else:
        path.write_bytes({"a bare statement": said, "an empty file": b"", "a list": b"[]"}[name])


@pytest.mark.parametrize("name", ENVELOPE_EDITS)
def test_an_edited_envelope(gated: Project, key: keys.PrivateKey, name: str) -> None:
    if name in ENVELOPES:
        edit(gated, ENVELOPES[name])
    else:
        _by_hand(gated, key, name)

    assert codes(gated) == [ENVELOPE_EDITS[name]]


@pytest.mark.parametrize("hint", ["0" * 64, "", None])
def test_nothing_is_decided_by_the_hint_of_the_key(
    gated: Project, key: keys.PrivateKey, hint: str | None
) -> None:
    edit(gated, lambda one: _signature(one, keyid=hint))

    assert codes(gated) == []


def test_one_of_several_signatures_is_enough(gated: Project, key: keys.PrivateKey) -> None:
    edit(gated, lambda one: one["signatures"].insert(0, {"sig": base64.b64encode(b"0" * 64).decode()}))

    assert codes(gated) == []


def test_the_proof_of_another_run(gated: Project, key: keys.PrivateKey) -> None:
    """The same policy and data, checked again: another report, and the old signature."""
    shutil.copy(gated.folder / REPORT, gated.folder / "old.json")
    gated.call("run", "policy.yaml", "-o", "json=r.json")

    assert codes(gated) == ["other-report"]
    shutil.copy(gated.folder / "old.json", gated.folder / REPORT)
    assert codes(gated) == []


def test_the_report_is_the_same_under_another_name(gated: Project, key: keys.PrivateKey) -> None:
    for old, new in ((REPORT, "night.json"), (PROOF, "night.intoto.json")):
        (gated.folder / old).rename(gated.folder / new)

    ran = gated.call("gate", "night.json", "--policy", "policy.yaml", "--require-signed", public(gated))

    assert ran.code == 0, ran.err
