"""`ftcheck gate`: why it is shut, and what to do."""

from tests.cli.project import Project, Ran
from tests.gate.kit import edit


def test_the_gate_command_says_why_and_what_to_do(gated: Project) -> None:
    edit(gated, "mapper.jsonl", "Map", "Mup")

    ran: Ran = gated.call("gate", "r.json", "--policy", "policy.yaml", "--job", "mapper")

    assert ran.code == 5
    assert "gate: refused for mapper (data-changed)" in ran.err
    assert "ftcheck run policy.yaml --job mapper" in ran.err
    assert gated.call("gate", "r.json", "--policy", "policy.yaml", "--job", "analyst").code == 0
