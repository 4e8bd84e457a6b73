"""Signatures by sigstore (release 4.5): made with an identity, verified against its trust root.

This is the only module that opens the library. Signing needs the network; verifying asks for the newest trust
root and takes the last one that is on this machine where there is no network.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ftcheck.attest.envelope import PAYLOAD_TYPE
from ftcheck.attest.signers import Identity
from ftcheck.errors import FtcheckError, MissingDependency, UsageError
from ftcheck.exit_codes import ExitCode
from ftcheck.inputs import bounded

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

AMBIENT = "ambient"
"""In place of a token: the identity that GitHub Actions, GitLab and other CI give a job."""
MAX_TOKEN = 1 << 16


class SigningError(FtcheckError):
    """Sigstore did not sign: no network, an identity that it does not take, a service that is down."""

    exit_code = ExitCode.INCOMPLETE
    code = "signing"


class OtherSigner(Exception):
    """The certificate is valid, and is another identity's."""


class Invalid(Exception):
    """The signature does not hold."""


def signed(statement: bytes, identity: str) -> bytes:
    """A bundle around a statement, signed with an identity: `ambient`, or a file with an OIDC token.

    Raises `UsageError` for an identity that is not there, `SigningError` where sigstore does not sign.
    """
    sign, models, dsse = (_module(name) for name in ("sign", "models", "dsse"))
    token = _token(identity)
    try:
        context = sign.SigningContext.from_trust_config(models.ClientTrustConfig.production())
        with context.signer(token) as signer:
            bundle = signer.sign_dsse(dsse.Statement(statement))
    except Exception as error:  # its clients raise errors of their own and of requests, which share no class
        raise SigningError(f"sigstore did not sign: {_words(error)}") from error
    text: str = bundle.to_json()
    return text.encode() + b"\n"


def payload(bundle: bytes, identity: Identity, verifier: Any = None) -> bytes:
    """The statement in a bundle that this identity signed; `verifier` in place of sigstore's production.

    Raises `ValueError` for what is no such bundle, `Invalid` and `OtherSigner`.
    """
    models, policy, errors = (_module(name) for name in ("models", "verify.policy", "errors"))
    try:
        read = models.Bundle.from_json(bundle)
    except Exception as error:  # the library lets pydantic's errors and its own escape, for any content
        raise ValueError("not a sigstore bundle that can be read") from error
    asked = _Asked(policy.Identity(identity=identity.subject, issuer=identity.issuer), errors)
    with _quiet():
        try:
            kind, found = (verifier or _verifier(errors)).verify_dsse(read, asked)
        except errors.VerificationError as error:
            raise (OtherSigner if asked.refused else Invalid)(_words(error)) from error
    if kind != PAYLOAD_TYPE:
        raise ValueError(f"its payloadType is not {PAYLOAD_TYPE}")
    return bytes(found)


class _Asked:
    """A verification policy that remembers whether it was the identity that did not match."""

    def __init__(self, policy: Any, errors: ModuleType) -> None:
        self._policy, self._errors = policy, errors
        self.refused = False

    def verify(self, cert: "Certificate") -> None:
        try:
            self._policy.verify(cert)
        except self._errors.VerificationError:
            self.refused = True
            raise


def _token(identity: str) -> Any:
    """The OIDC token of an identity, as sigstore takes it; it is never shown."""
    oidc = _module("oidc")
    try:
        raw = oidc.detect_credential() if identity == AMBIENT else _stored_token(identity)
        if raw is None:
            raise UsageError(
                f"--identity {AMBIENT}: this machine gives no identity; a CI job has one if it may ask "
                "(GitHub Actions: permissions: id-token: write); else name a file with an OIDC token"
            )
        return oidc.IdentityToken(raw)
    except oidc.IdentityError as error:
        raise UsageError(f"--identity {identity}: {_words(error)}") from error


def _stored_token(file: str) -> str:
    try:
        return bounded.read_text(Path(bounded.expanded(file)), MAX_TOKEN).strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"--identity {file}: no token can be read: {bounded.told(error)}") from error


def _verifier(errors: ModuleType) -> Any:
    """Sigstore's own verifier: with the newest trust root, else with the last one on this machine."""
    made = _module("verify").Verifier
    try:
        return made.production()
    except errors.TUFError:
        return made.production(offline=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the library warns of goes into the refusal's words, or is said in the documentation."""
    logger = logging.getLogger("sigstore")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _module(name: str) -> ModuleType:
    """A module of the library. Raises `MissingDependency` without it."""
    from importlib import import_module

    try:
        return import_module(f"sigstore.{name}")
    except ImportError as error:
        raise MissingDependency("an identity needs sigstore", "sigstore") from error


def _words(error: Exception) -> str:
    """What the library says, in one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
