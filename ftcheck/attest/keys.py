"""Ed25519 keys in PEM files: made, read, signed with, and held against a signature."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ftcheck.errors import MissingDependency, UsageError
from ftcheck.inputs import bounded

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE, PUBLIC = "ftcheck.key.pem", "ftcheck.pub.pem"
"""The files that `ftcheck attest --new-key` writes."""
PASSWORD = "FTCHECK_KEY_PASSWORD"
"""The environment variable that holds the password of an encrypted private key."""
MAX_KEY = 1 << 16
"""Bytes of a key file; an Ed25519 key has about 120."""
HINT = "ftcheck attest --new-key DIR makes a pair"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key; `keyid` is the sha256 of its DER form (SubjectPublicKeyInfo), 64 hex digits."""

    keyid: str
    key: "Ed25519PublicKey"

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Whether the signature over these bytes was made with the private key."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key, beside its public one."""

    key: "Ed25519PrivateKey"
    public: PublicKey

    def sign(self, data: bytes) -> bytes:
        """A signature of 64 bytes."""
        return self.key.sign(data)


def read_private(path: Path) -> PrivateKey:
    """The private key of a PEM file. Raises `UsageError` for one that is none, or cannot be opened."""
    serialization, ed25519 = _library()
    password = os.environ.get(PASSWORD)
    try:
        key = serialization.load_pem_private_key(_content(path), password.encode() if password else None)
    except TypeError as error:
        remedy = f"put its password into {PASSWORD}" if not password else f"unset {PASSWORD}: it has none"
        raise UsageError(f"{path}: {'an encrypted' if not password else 'this'} key; {remedy}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not a private key in PEM, or the password is wrong; {HINT}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{path}: not an Ed25519 key; {HINT}")
    return PrivateKey(key, _public(key.public_key()))


def read_public(path: Path) -> PublicKey:
    """The public key of a PEM file. Raises `UsageError` for one that is none."""
    serialization, ed25519 = _library()
    content = _content(path)
    if b"PRIVATE KEY-----" in content:
        raise UsageError(f"{path}: a private key; name the public one ({PUBLIC})")
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError as error:
        raise UsageError(f"{path}: not a public key in PEM; {HINT}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise UsageError(f"{path}: not an Ed25519 key; {HINT}")
    return _public(key)


def new_pair(folder: Path) -> tuple[Path, Path]:
    """Write a new pair of keys into a folder: the private one for its owner's eyes, the public one.

    Raises `UsageError` where one of the files is there, or cannot be written.
    """
    serialization, ed25519 = _library()
    key = ed25519.Ed25519PrivateKey.generate()
    encoding, bare = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, bare)
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    paths = folder / PRIVATE, folder / PUBLIC
    there = next((path for path in paths if os.path.lexists(path)), None)
    if there is not None:
        raise UsageError(f"{there}: is there already; name another folder, or move it away")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content, mode in zip(paths, (private, public), (0o600, 0o644), strict=True):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return paths


def _public(key: "Ed25519PublicKey") -> PublicKey:
    serialization, _ = _library()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der: bytes = key.public_bytes(serialization.Encoding.DER, form)
    return PublicKey(hashlib.sha256(der).hexdigest(), key)


def _content(path: Path) -> bytes:
    try:
        return bounded.read(path, MAX_KEY)
    except OSError as error:
        raise UsageError(f"{path}: no key can be read: {bounded.told(error)}; {HINT}") from error


def _library() -> tuple[ModuleType, ModuleType]:
    """The modules of `cryptography`. Raises `MissingDependency` without it."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingDependency("a key needs the library cryptography", "attest") from error
    return serialization, ed25519
