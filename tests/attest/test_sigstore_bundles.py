"""Sigstore at its boundary: a stand-in for its services, and the installed library's own names.

No network is here, so nothing is signed by sigstore itself: the stand-in has the functions that the installed
release has (their parameters are compared), and verification meets the real library with broken bundles.
"""

import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import sigstore.models
import sigstore.oidc
import sigstore.sign
import sigstore.verify
import sigstore.verify.policy
from sigstore.errors import Error, VerificationError

from ftcheck.attest import sigstore_bundles
from ftcheck.attest.envelope import PAYLOAD_TYPE
from ftcheck.attest.signers import Identity
from ftcheck.errors import MissingDependency, UsageError
from tests.attest.kit import PROOF, codes, statement_of
from tests.cli.project import Project

WORKFLOW = "https://github.com/o/r/.github/workflows/night.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
SIGNER = f"{ISSUER}#{WORKFLOW}"


class Bundle:
    """A bundle of the stand-in: the statement, and who signed it."""

    def __init__(self, statement: bytes, by: str) -> None:
        self.statement, self.by = statement, by

    def to_json(self) -> str:
        media = "application/vnd.dev.sigstore.bundle.v0.3+json"
        return json.dumps({"mediaType": media, "statement": self.statement.decode(), "by": self.by})

    @classmethod
    def from_json(cls, raw: bytes | str) -> "Bundle":
        said = json.loads(raw)
        return cls(said["statement"].encode(), said["by"])


class Verifier:
    """Sigstore's verifier as far as it is called; `by` is the certificate."""

    kind = PAYLOAD_TYPE
    broken = False

    @classmethod
    def production(cls, *, offline: bool = False) -> "Verifier":
        return cls()

    def verify_dsse(self, bundle: Bundle, policy: Any) -> tuple[str, bytes]:
        policy.verify(bundle.by)
        if self.broken:
            raise VerificationError("DSSE: invalid signature")
        return self.kind, bundle.statement


class Asked:
    """Sigstore's policy `Identity`, on the stand-in's certificates."""

    def __init__(self, *, identity: str, issuer: str | None = None) -> None:
        self.wanted = f"{issuer}#{identity}" if issuer else identity

    def verify(self, cert: Any) -> None:
        if not str(cert).endswith(self.wanted):
            raise VerificationError(f"Certificate's SANs do not match {self.wanted}")


class Context:
    """Sigstore's signing context: signs as whoever the token is."""

    @classmethod
    def from_trust_config(cls, config: Any) -> "Context":
        return cls()

    def signer(self, identity_token: Any) -> Any:
        import contextlib

        made = types.SimpleNamespace(sign_dsse=lambda said: Bundle(said._contents, str(identity_token)))
        return contextlib.nullcontext(made)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for Fulcio, Rekor and the trust root; tokens are who they say."""
    monkeypatch.setattr("sigstore.models.Bundle", Bundle)
    monkeypatch.setattr("sigstore.models.ClientTrustConfig.production", lambda: None)
    monkeypatch.setattr("sigstore.verify.Verifier", Verifier)
    monkeypatch.setattr("sigstore.verify.policy.Identity", Asked)
    monkeypatch.setattr("sigstore.sign.SigningContext", Context)
    monkeypatch.setattr("sigstore.oidc.IdentityToken", lambda raw: raw)


@pytest.fixture
def signed(gated: Project, services: None) -> Project:
    """The project's report, signed with a token in a file through the command's own code."""
    from ftcheck.attest.statement import encoded

    token = gated.write("token", f"{SIGNER}\n")
    content = sigstore_bundles.signed(encoded(statement_of(gated)), str(token))
    (gated.folder / PROOF).write_bytes(content)
    return gated


def test_the_gate_opens_for_the_identity(signed: Project) -> None:
    assert codes(signed, SIGNER) == []


@pytest.mark.parametrize(
    ("signer", "code"),
    [
        (f"{ISSUER}#{WORKFLOW.replace('night', 'other')}", "other-signer"),
        (f"https://accounts.example#{WORKFLOW}", "other-signer"),
        ("somebody@example.org", "other-signer"),
    ],
)
def test_another_identity(signed: Project, signer: str, code: str) -> None:
    assert codes(signed, signer) == [code]


def test_a_key_is_asked_for_and_an_identity_signed(signed: Project, tmp_path: Path) -> None:
    from tests.attest.kit import pairs

    pairs(tmp_path / "pair")

    assert codes(signed, str(tmp_path / "pair" / "ftcheck.pub.pem")) == ["other-signer"]


def test_a_signature_that_does_not_hold(signed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verifier, "broken", True)

    assert codes(signed, SIGNER) == ["signature-invalid"]


def test_a_payload_of_another_type(signed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verifier, "kind", "text/plain")

    assert codes(signed, SIGNER) == ["attestation-invalid"]


def test_an_edited_report(signed: Project) -> None:
    path = signed.folder / "r.json"
    path.write_bytes(path.read_bytes().replace(b'"passed"', b'"failed"', 1))

    assert codes(signed, SIGNER) != []
    path.write_bytes(path.read_bytes().replace(b'"failed"', b'"passed"', 1) + b"\n")
    assert codes(signed, SIGNER) == ["other-report"]


def test_an_identity_is_asked_for_and_a_key_signed(gated: Project) -> None:
    from tests.attest.kit import signed as with_key

    with_key(gated)

    assert codes(gated, SIGNER) == ["other-signer"]


@pytest.mark.parametrize(
    "text",
    [
        '{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}',
        '{"mediaType": "application/vnd.dev.sigstore.bundle.v9+json", "verificationMaterial": {}}',
        '{"mediaType": "application/vnd.dev.sigstore.bundle", "dsseEnvelope": {"payload": "e30="}}',
    ],
)
def test_the_library_itself_refuses_what_is_no_bundle(gated: Project, text: str) -> None:
    (gated.folder / PROOF).write_text(text, encoding="utf-8")

    assert codes(gated, SIGNER) == ["attestation-invalid"]


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (sigstore.sign.SigningContext.from_trust_config, {"trust_config"}),
        (sigstore.sign.SigningContext.signer, {"identity_token"}),
        (sigstore.sign.Signer.sign_dsse, {"input_"}),
        (sigstore.models.ClientTrustConfig.production, {"offline"}),
        (sigstore.models.Bundle.from_json, {"raw"}),
        (sigstore.models.Bundle.to_json, set()),
        (sigstore.verify.Verifier.production, {"offline"}),
        (sigstore.verify.Verifier.verify_dsse, {"bundle", "policy"}),
        (sigstore.verify.policy.Identity.__init__, {"identity", "issuer"}),
        (sigstore.oidc.IdentityToken.__init__, {"raw_token"}),
        (sigstore.oidc.detect_credential, set()),
    ],
)
def test_the_installed_library_has_what_is_called(function: Any, parameters: set[str]) -> None:
    assert parameters <= set(inspect.signature(function).parameters)


def test_no_network_is_told_in_one_line(gated: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigstore.oidc.IdentityToken", lambda raw: raw)

    def unreachable() -> None:
        raise Error("Failed to refresh\nTUF metadata.")

    monkeypatch.setattr("sigstore.models.ClientTrustConfig.production", unreachable)

    with pytest.raises(sigstore_bundles.SigningError, match="did not sign: Failed to refresh TUF"):
        sigstore_bundles.signed(b"{}", str(gated.write("token", "t")))


def test_a_token_that_is_none(gated: Project) -> None:
    with pytest.raises(UsageError, match="Identity token is malformed"):
        sigstore_bundles.signed(b"{}", str(gated.write("token", "t")))
    with pytest.raises(UsageError, match="no token can be read"):
        sigstore_bundles.signed(b"{}", str(gated.folder / "absent"))


def test_a_machine_without_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: None)

    with pytest.raises(UsageError, match="id-token: write"):
        sigstore_bundles.signed(b"{}", "ambient")


def test_the_library_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigstore.models", None)

    with pytest.raises(MissingDependency, match=r"ftcheck\[sigstore\]"):
        sigstore_bundles.payload(b"{}", Identity("a@b.org"))
