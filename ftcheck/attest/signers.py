"""Whose signature is asked for: a public key in a file, or an identity that sigstore vouches for."""

import re
from dataclasses import dataclass
from pathlib import Path

from ftcheck.errors import UsageError

EMAIL = re.compile(r"[^\s@/\\]+@[^\s@/\\]+\.[^\s@/\\]+")
URL = "https://"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The holder of the private key to a public one in a PEM file."""

    path: Path

    def __str__(self) -> str:
        """The file."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity in a certificate of sigstore's: an email address, or a workflow's URL.

    `issuer` is the URL of the OIDC provider that must have confirmed it; None: whichever did.
    """

    subject: str
    issuer: str | None = None

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.issuer}#{self.subject}" if self.issuer else self.subject


Signer = KeyFile | Identity


def is_identity(text: str) -> bool:
    """Whether a text names an identity, `issuer#subject` or an email address, and not a file."""
    return text.startswith(URL) or EMAIL.fullmatch(text) is not None


def signer(text: str) -> Signer:
    """What a text names. Raises `UsageError` for an identity without its issuer or subject."""
    if not is_identity(text):
        if not text:
            raise UsageError("the signer is empty: name a file with a public key, or an identity")
        return KeyFile(Path(text))
    if not text.startswith(URL):
        return Identity(text)
    issuer, _, subject = text.partition("#")
    if not subject:
        raise UsageError(f"'{text}': write an identity as ISSUER#SUBJECT, or as an email address")
    return Identity(subject, issuer)
