"""A report that was checked and signed, and whether the gate opens for it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftcheck.attest import envelope, keys
from ftcheck.attest.statement import encoded, statement
from ftcheck.gate.stored import Asked, check_stored, read_stored
from ftcheck.gate.ticket import Reason, Ticket
from ftcheck.runner.load import load
from tests.cli.project import Project

REPORT, PROOF = "r.json", "r.intoto.json"


def signed(project: Project) -> keys.PrivateKey:
    """Sign the project's report, as `ftcheck attest r.json --key` does; the key's pair lies in keys/."""
    private, _ = keys.new_pair(project.folder / "keys")
    key = keys.read_private(private)
    seal(project, statement_of(project), key)
    return key


def public(project: Project) -> str:
    """The file of the public key."""
    return str(project.folder / "keys" / keys.PUBLIC)


def statement_of(project: Project) -> dict[str, Any]:
    """The statement that the report gives."""
    stored = read_stored(project.folder / REPORT)
    assert not isinstance(stored, Reason)
    return statement(stored.path.name, stored.content, stored.report)


def seal(project: Project, said: dict[str, Any] | bytes, key: keys.PrivateKey) -> None:
    """Sign a statement, whatever it says."""
    payload = said if isinstance(said, bytes) else encoded(said)
    (project.folder / PROOF).write_bytes(envelope.sealed(payload, key.sign, key.public.keyid))


def edit(project: Project, change: Callable[[dict[str, Any]], Any], name: str = PROOF) -> None:
    """Change the JSON of the envelope (or of the report)."""
    path = project.folder / name
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def codes(project: Project, signer: str | None = None, job: str = "mapper") -> list[str]:
    """The refusal codes for a report that this one must have signed; none if the gate opens."""
    loaded = load(project.folder / "policy.yaml")
    asked = Asked(signer or public(project))
    path = project.folder / REPORT
    decision = check_stored(path, loaded.policy, loaded.checks, job, during=loaded.during, asked=asked)
    if isinstance(decision, Ticket):
        return []
    return list(dict.fromkeys(reason.code for reason in decision.reasons))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that a JSON value holds that holds nothing itself."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for key, part in parts for leaf in leaves(part, (*path, key))]
    return found or [path]


def mutated(value: Any, path: tuple[Any, ...]) -> Any:
    """The value with another leaf at the path."""
    if not path:
        return other(value)
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = mutated(copied[path[0]], path[1:])
    return copied


def other(leaf: Any) -> Any:
    """Another value of the leaf's own type: what a schema would let through."""
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, int | float):
        return leaf + 1
    if isinstance(leaf, str):
        return hashlib.sha256(leaf.encode()).hexdigest()[: len(leaf)] if leaf else "x"
    return {"x": 1} if isinstance(leaf, dict) else ["x"] if isinstance(leaf, list) else "x"


def pairs(folder: Path) -> keys.PrivateKey:
    """Another pair of keys."""
    return keys.read_private(keys.new_pair(folder)[0])
