"""`gate.require_signed`: all that can start a training asks for the signature, and nothing forgets it."""

import json

import pytest

import ftcheck
from ftcheck.attest import keys
from tests.attest.kit import REPORT, edit, pairs, public, signed
from tests.cli.project import Project
from tests.gate.kit import edit as edit_text


@pytest.fixture
def asking(gated: Project) -> Project:
    """A project whose policy asks for a signature; its report is not signed yet."""
    keys.new_pair(gated.folder / "keys")
    edit_text(gated, "policy.yaml", "gate: {", "gate: {require_signed: keys/ftcheck.pub.pem, ")
    assert gated.call("run", "policy.yaml", "-o", "json=r.json").code == 0
    return gated


def _sign(project: Project) -> None:
    ran = project.call("attest", REPORT, "--key", "keys/ftcheck.key.pem")
    assert ran.code == 0, ran.err


def test_a_run_passes_and_says_that_its_report_is_to_be_signed(asking: Project) -> None:
    report = json.loads((asking.folder / REPORT).read_bytes())

    assert report["gate"] == {"mapper": "unsigned", "analyst": "unsigned"}


def test_the_gate(asking: Project) -> None:
    words = ("gate", REPORT, "--policy", "policy.yaml")

    before = asking.call(*words)
    _sign(asking)
    after = asking.call(*words)

    assert (before.code, after.code) == (5, 0), after.err
    assert "r.intoto.json is not there: ftcheck attest r.json --key KEY.pem signs it" in before.err
    assert "run the checks again" not in before.err


def test_a_bare_statement_is_told_how_to_sign_it(asking: Project) -> None:
    assert asking.call("attest", REPORT).code == 0

    ran = asking.call("gate", REPORT, "--policy", "policy.yaml", "--job", "mapper")

    assert ran.code == 5
    assert "r.intoto.json carries no signature: ftcheck attest r.json --key KEY.pem signs it" in ran.err


def test_an_edited_report_is_to_be_made_again(asking: Project) -> None:
    _sign(asking)
    edit(asking, lambda report: report["notes"].append("by hand"), REPORT)

    ran = asking.call("gate", REPORT, "--policy", "policy.yaml", "--job", "mapper")

    assert "refused for mapper (other-report)" in ran.err
    assert "run the checks again: ftcheck run policy.yaml --job mapper" in ran.err


def test_the_gate_with_a_proof_elsewhere(asking: Project) -> None:
    _sign(asking)
    (asking.folder / "r.intoto.json").rename(asking.folder / "elsewhere.json")
    words = ("gate", REPORT, "--policy", "policy.yaml")

    assert asking.call(*words).code == 5
    assert asking.call(*words, "--attestation", "elsewhere.json").code == 0


def test_another_signer_on_the_command_line_is_asked_for_too(asking: Project) -> None:
    _sign(asking)
    other = pairs(asking.folder / "other")

    ran = asking.call(
        "gate",
        REPORT,
        "--policy",
        "policy.yaml",
        "--require-signed",
        "other/ftcheck.pub.pem",
        "--job",
        "mapper",
    )

    assert ran.code == 5
    assert "(other-signer)" in ran.err
    assert other.public.keyid[:16] in ran.err


def test_require(asking: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(asking.folder)
    with pytest.raises(ftcheck.Refused, match="unsigned"):
        ftcheck.require(REPORT, policy="policy.yaml", job="mapper")
    _sign(asking)

    ticket = ftcheck.require(REPORT, policy="policy.yaml", job="mapper")

    assert ticket.job == "mapper"
    edit(asking, lambda report: report["counts"].update(report["counts"]), REPORT)
    with pytest.raises(ftcheck.Refused, match="other-report"):
        ftcheck.require(REPORT, policy="policy.yaml", job="mapper")


def test_require_with_a_signer_of_its_own(gated: Project) -> None:
    signed(gated)
    policy, report = gated.folder / "policy.yaml", gated.folder / REPORT

    assert ftcheck.require(report, policy=policy, job="mapper", require_signed=public(gated))
    pairs(gated.folder / "other")
    other = str(gated.folder / "other" / keys.PUBLIC)
    with pytest.raises(ftcheck.Refused, match="other-signer"):
        ftcheck.require(report, policy=policy, job="mapper", require_signed=other)


def test_train_runs_no_checks_that_nobody_would_sign(asking: Project) -> None:
    ran = asking.call("train", "policy.yaml", "--job", "mapper")

    assert ran.code == 5
    assert "run the checks, sign their report, and name it (--report R)" in ran.err
    assert not (asking.folder / "out").exists()


def test_train_with_an_unsigned_report(asking: Project) -> None:
    ran = asking.call("train", "policy.yaml", "--job", "mapper", "--report", REPORT)

    assert ran.code == 5
    assert "refused for mapper (unsigned)" in ran.err


def test_a_key_cannot_be_set_aside_on_the_command_line(asking: Project) -> None:
    ran = asking.call("gate", REPORT, "--policy", "policy.yaml", "--set", "gate.require_signed=[]")

    assert ran.code == 2


def test_the_key_lies_beside_the_policy_that_states_it(asking: Project) -> None:
    _sign(asking)
    asking.write("team/over.yaml", "ftcheck: 1\nextends: [../policy.yaml]\n")

    ran = asking.call("gate", REPORT, "--policy", "team/over.yaml")

    assert "no key can be read" not in ran.err
    assert "unsigned" not in ran.err


def test_resuming_asks_for_the_signed_report_that_the_run_began_with(asking: Project) -> None:
    """run.json is a file that anybody may have written: the signed report must say the same."""
    _sign(asking)
    report = json.loads((asking.folder / REPORT).read_bytes())
    ticket = ftcheck.require(asking.folder / REPORT, policy=asking.folder / "policy.yaml", job="mapper")
    words = ("train", "policy.yaml", "--job", "mapper", "--resume")
    asking.write("out/mapper/run.json", json.dumps({"ticket": ticket.said()}))

    without = asking.call(*words)
    forged = {**ticket.said(), "ids": "sha256:" + "0" * 64}
    asking.write("out/mapper/run.json", json.dumps({"ticket": forged}))
    edited = asking.call(*words, "--report", REPORT)

    assert report["jobs"]["mapper"]["ids"] == ticket.ids
    assert (without.code, edited.code) == (5, 5)
    assert "name the signed report that the run began with" in without.err
    assert "(other-report)" in edited.err
    assert "ids" in edited.err
