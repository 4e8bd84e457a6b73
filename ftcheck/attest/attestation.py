"""Whether a report is the one that somebody signed: the attestation beside it, held against its bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck import digest
from ftcheck.attest import envelope, keys, sigstore_bundles
from ftcheck.attest.signers import Identity, KeyFile, Signer
from ftcheck.attest.statement import PREDICATE_TYPE, SUFFIX, TYPE, statement
from ftcheck.errors import MissingDependency
from ftcheck.gate.ticket import Reason
from ftcheck.inputs import bounded
from ftcheck.report.record import Report

BUNDLE = "application/vnd.dev.sigstore.bundle"
"""How the media type of sigstore's bundles begins."""
OF_SIGNATURES = frozenset({"unsigned", "attestation-invalid", "signature-invalid", "other-signer"})
"""Refusals that a signature mends, and no new run of the checks."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A report as it lies in a file: its path, its bytes, and what they say."""

    path: Path
    content: bytes
    report: Report


class _Refused(Exception):
    """Why an attestation does not count, as the gate says it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.reason = Reason(code, message)


def beside(report: str | Path) -> Path:
    """Where a report's attestation lies by default: `night.json` -> `night.intoto.json`."""
    path = Path(report)
    return path.with_name(path.name.removesuffix(".json") + SUFFIX)


def refusals(stored: Stored, attestation: Path, signers: Sequence[Signer]) -> list[Reason]:
    """Why nobody of these signed this report; empty where one of them did.

    Raises `UsageError` for a key that cannot be read, `MissingDependency` where the library that a signature
    needs is not installed, and no other signature holds.
    """
    found, missing = [], None
    for one in signers:
        try:
            _hold(stored, attestation, one)
        except _Refused as refused:
            found.append(refused.reason)
        except MissingDependency as error:
            missing = error
        else:
            return []
    if missing is not None:
        raise missing
    return list(dict.fromkeys(found))


def _hold(stored: Stored, attestation: Path, signer: Signer) -> None:
    """Raise `_Refused` unless this signer signed this report. What is verified is what is read on."""
    content, value = _read(attestation, stored.path)
    try:
        if isinstance(signer, Identity):
            payload = _of_identity(content, value, attestation, signer)
        else:
            payload = _of_key(value, attestation, signer)
        said = _object(payload)
    except ValueError as error:
        raise _Refused("attestation-invalid", f"{attestation}: {error}") from error
    _same(said, stored, attestation)


def _read(attestation: Path, report: Path) -> tuple[bytes, dict[str, Any]]:
    """The attestation's bytes and its JSON object; a bare statement and no file at all are not signed."""
    remedy = f"ftcheck attest {report} --key KEY.pem signs it"
    try:
        content = bounded.read(attestation)
    except FileNotFoundError:
        raise _Refused("unsigned", f"{attestation} is not there: {remedy}") from None
    except OSError as error:
        raise _Refused("attestation-invalid", f"{attestation}: {bounded.told(error)}") from error
    try:
        value = _object(content)
    except ValueError as error:
        raise _Refused("attestation-invalid", f"{attestation}: {error}") from error
    if value.get("_type") == TYPE or value.get("signatures") == []:
        raise _Refused("unsigned", f"{attestation} carries no signature: {remedy}")
    return content, value


def _of_key(value: dict[str, Any], attestation: Path, signer: KeyFile) -> bytes:
    """The payload that the holder of a key signed."""
    key = keys.read_public(signer.path)
    if str(value.get("mediaType", "")).startswith(BUNDLE):
        raise _Refused("other-signer", f"{attestation} is signed with an identity, not with the key {signer}")
    found = envelope.opened(value)
    if any(key.verifies(one.value, found.signed) for one in found.signatures):
        return found.payload
    named = [one.keyid for one in found.signatures]
    if all(named) and key.keyid not in named:
        whose = f"the key {named[0][:16]}…, not by {key.keyid[:16]}… ({signer})"
        raise _Refused("other-signer", f"{attestation} is signed by {whose}")
    raise _Refused("signature-invalid", f"{attestation}: its signature does not verify with the key {signer}")


def _of_identity(content: bytes, value: dict[str, Any], attestation: Path, signer: Identity) -> bytes:
    """The payload that an identity signed."""
    if not str(value.get("mediaType", "")).startswith(BUNDLE):
        envelope.opened(value)
        raise _Refused("other-signer", f"{attestation} is signed with a key, not by {signer}")
    try:
        return sigstore_bundles.payload(content, signer)
    except sigstore_bundles.OtherSigner as error:
        raise _Refused("other-signer", f"{attestation} is not signed by {signer}: {error}") from error
    except sigstore_bundles.Invalid as error:
        raise _Refused("signature-invalid", f"{attestation}: {error}") from error


def _same(said: dict[str, Any], stored: Stored, attestation: Path) -> None:
    """Raise `_Refused` unless a signed statement is about this report, and says what it says."""
    if said.get("_type") != TYPE or said.get("predicateType") != PREDICATE_TYPE:
        raise _Refused("attestation-invalid", f"{attestation}: not a statement of a test result")
    subjects, predicate = said.get("subject"), said.get("predicate")
    if not isinstance(subjects, list) or not subjects or not isinstance(predicate, dict):
        raise _Refused("attestation-invalid", f"{attestation}: a statement without subject or predicate")
    mine = digest.of_bytes(stored.content).removeprefix("sha256:")
    named = _pairs(subjects)
    if mine not in {sha256 for _, sha256 in named}:
        message = f"{stored.path} is not the report that was signed: it was edited since, or is another one"
        raise _Refused("other-report", message)
    expected = statement(stored.path.name, stored.content, stored.report)
    wrong = [key for key, told in expected["predicate"].items() if predicate.get(key) != told]
    if {one for one in named ^ _pairs(expected["subject"]) if one[1] != mine}:
        wrong.append("subject")
    if wrong:
        raise _Refused(
            "inconsistent", f"{attestation}: {', '.join(wrong)} of the statement is not the report's"
        )


def _pairs(subjects: list[Any]) -> set[tuple[str, str]]:
    """Name and sha256 digest of each subject; the report's own file may have been renamed since."""
    found = set()
    for one in subjects:
        digests = one.get("digest") if isinstance(one, dict) else None
        sha256 = digests.get("sha256") if isinstance(digests, dict) else None
        found.add((str(one.get("name")) if isinstance(one, dict) else "", str(sha256)))
    return found


def _object(content: bytes) -> dict[str, Any]:
    """A JSON object in which no key stands twice. Raises `ValueError`."""
    try:
        value = bounded.loads(content, pairs=_once)
    except _Twice:
        raise
    except ValueError as error:
        raise ValueError(f"not JSON: {bounded.told(error)}") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


class _Twice(ValueError):
    """A key stands twice in an object, so that two readers may read two things."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice("a key stands twice in it")
    return found
