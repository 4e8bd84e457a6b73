"""Keys: what is one, and what is said of what is none."""

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ftcheck.attest import keys
from ftcheck.attest.signers import Identity, KeyFile, signer
from ftcheck.errors import UsageError
from tests.cli.project import Project

PEM = serialization.Encoding.PEM


def test_a_pair_signs_and_verifies(tmp_path: Path) -> None:
    private, public = keys.new_pair(tmp_path / "keys")

    key = keys.read_private(private)

    assert stat.S_IMODE(os.stat(private).st_mode) == 0o600
    assert keys.read_public(public).keyid == key.public.keyid
    assert keys.read_public(public).verifies(key.sign(b"x"), b"x")
    assert not keys.read_public(public).verifies(key.sign(b"x"), b"y")


def test_a_pair_is_not_written_over(tmp_path: Path) -> None:
    keys.new_pair(tmp_path)

    with pytest.raises(UsageError, match="is there already"):
        keys.new_pair(tmp_path)


def _private(path: Path, key: object, password: bytes | None = None) -> Path:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))  # type: ignore[attr-defined]
    return path


def _public(path: Path, key: object) -> Path:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(PEM, form))  # type: ignore[attr-defined]
    return path


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())], ids=["rsa", "ec"]
)
def test_another_algorithm_is_refused_by_name(tmp_path: Path, key: object) -> None:
    """No signature is ever tried with another algorithm than Ed25519, whatever the file holds."""
    with pytest.raises(UsageError, match="not an Ed25519 key"):
        keys.read_private(_private(tmp_path / "k", key))
    with pytest.raises(UsageError, match="not an Ed25519 key"):
        keys.read_public(_public(tmp_path / "p", key))


def test_an_encrypted_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _private(tmp_path / "k", ed25519.Ed25519PrivateKey.generate(), b"secret")

    with pytest.raises(UsageError, match="put its password into FTCHECK_KEY_PASSWORD"):
        keys.read_private(path)
    monkeypatch.setenv("FTCHECK_KEY_PASSWORD", "wrong")
    with pytest.raises(UsageError, match="the password is wrong"):
        keys.read_private(path)
    monkeypatch.setenv("FTCHECK_KEY_PASSWORD", "secret")
    assert len(keys.read_private(path).sign(b"")) == 64


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\n", b"\xff" * 100])
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)

    for read in (keys.read_private, keys.read_public):
        with pytest.raises(UsageError, match=f"{path}: not a"):
            read(path)


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    private, _ = keys.new_pair(tmp_path)

    with pytest.raises(UsageError, match="a private key; name the public one"):
        keys.read_public(private)


def test_a_key_that_is_not_there_is_a_mistake_of_the_user(gated: Project) -> None:
    ran = gated.call("gate", "r.json", "--policy", "policy.yaml", "--require-signed", "absent.pem")

    assert (ran.code, ran.out) == (5, ""), ran.err
    assert "unsigned" in ran.err
    (gated.folder / "r.intoto.json").write_text(
        '{"payload": "", "signatures": [{"sig": ""}]}', encoding="utf-8"
    )
    ran = gated.call("gate", "r.json", "--policy", "policy.yaml", "--require-signed", "absent.pem")
    assert ran.code == 2
    assert ran.err.startswith("absent.pem: no key can be read")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("keys/a.pem", KeyFile(Path("keys/a.pem"))),
        ("a@b.org", Identity("a@b.org")),
        ("keys/a@b.org", KeyFile(Path("keys/a@b.org"))),
        ("https://i.example#w", Identity("w", "https://i.example")),
        (
            "https://i.example#https://w/x@refs/heads/main",
            Identity("https://w/x@refs/heads/main", "https://i.example"),
        ),
    ],
)
def test_what_names_a_signer(text: str, expected: object) -> None:
    assert signer(text) == expected


@pytest.mark.parametrize("text", ["", "https://i.example", "https://i.example#"])
def test_what_names_no_signer(text: str) -> None:
    with pytest.raises(UsageError):
        signer(text)
