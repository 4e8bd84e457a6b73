"""`ftcheck attest`: unsigned by default, signed with a key, and what it says of mistakes."""

import json

from tests.cli.project import Project


def test_a_statement_that_is_not_signed(gated: Project) -> None:
    ran = gated.call("attest", "r.json")

    said = json.loads((gated.folder / "r.intoto.json").read_bytes())
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "r.intoto.json written, not signed\n"
    assert said["predicate"]["result"] == "PASSED"
    assert gated.call("gate", "r.json", "--policy", "policy.yaml").code == 0, "as before"


def test_keys_are_made_and_a_report_signed_and_verified(gated: Project) -> None:
    made = gated.call("attest", "--new-key", "keys")
    ran = gated.call("attest", "r.json", "--key", "keys/ftcheck.key.pem", "-o", "proof.json")
    gate = ("gate", "r.json", "--policy", "policy.yaml", "--attestation", "proof.json", "--require-signed")

    assert "keep it secret" in made.out
    assert ran.err.startswith("proof.json written, signed with the key ")
    assert gated.call(*gate, "keys/ftcheck.pub.pem").code == 0


def test_to_stdout(gated: Project) -> None:
    ran = gated.call("attest", "r.json", "-o", "-")

    assert json.loads(ran.out)["subject"][0]["name"] == "r.json"
    assert not (gated.folder / "r.intoto.json").exists()


def test_mistakes_are_one_line(gated: Project) -> None:
    gated.write("started.json", '{"schema": "ftcheck.report/1", "status": "started"}')
    for words in (
        ("attest",),
        ("attest", "absent.json"),
        ("attest", "started.json"),
        ("attest", "policy.yaml"),
        ("attest", "r.json", "--key", "absent.pem"),
        ("attest", "r.json", "--key", "a", "--identity", "ambient"),
        ("attest", "r.json", "-o", "no/such/folder/x.json"),
    ):
        ran = gated.call(*words)
        assert (ran.code, ran.out) == (2, ""), words
        assert ran.err.count("\n") == 1, ran.err
