"""`ftcheck attest`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ftcheck.attest.attestation import Stored


@click.command(short_help="State a report's result for auditors, and sign it.")
@click.argument("report", required=False, type=click.Path(path_type=str), metavar="REPORT")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write here, or to stdout (-). [default: beside the report, night.intoto.json for night.json]",
)
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="KEY.pem", help="Sign with this Ed25519 private key."
)
@click.option(
    "--identity",
    metavar="ambient|FILE",
    help="Sign with sigstore: the identity of this CI job, or the OIDC token in a file.",
)
@click.option(
    "--new-key",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a new pair of keys into a folder, and stop.",
)
def attest(
    report: str | None, output: Path | None, key: Path | None, identity: str | None, new_key: Path | None
) -> None:
    """Write an in-toto statement (predicate test-result) of what REPORT says, and sign it.

    Its subjects are the report's own bytes and the digests of data, tokenizer, template and adapter; it holds
    the digests of policy and plan, and which checks passed, warned and failed. Without --key or --identity it
    is not signed. ftcheck gate --require-signed opens for signed reports only.
    """
    from ftcheck.errors import UsageError

    if new_key is not None:
        _new_key(new_key)
        return
    if report is None:
        raise UsageError(
            "name the report: ftcheck attest REPORT (or make keys: ftcheck attest --new-key DIR)"
        )
    if key is not None and identity is not None:
        raise UsageError("--key and --identity exclude each other: a statement has one signature")
    from ftcheck.attest.attestation import beside

    stored = _stored(report)
    content, by = _signed(stored, key, identity)
    if output == Path("-"):
        click.echo(content.decode(), nl=False)
        return
    file = _written(output or beside(report), content)
    click.echo(f"{file} written, {by}", err=True)


def _stored(report: str) -> "Stored":
    """The report. Raises `UsageError` for a file that is none."""
    from ftcheck.errors import UsageError
    from ftcheck.gate.stored import read_stored
    from ftcheck.gate.ticket import Reason

    found = read_stored(report)
    if isinstance(found, Reason):
        raise UsageError(found.message)
    return found


def _signed(stored: "Stored", key: Path | None, identity: str | None) -> tuple[bytes, str]:
    """What is written, and by whom it is signed, in words."""
    from ftcheck.attest import envelope, keys, sigstore_bundles
    from ftcheck.attest.statement import encoded, statement

    content = encoded(statement(stored.path.name, stored.content, stored.report))
    if key is not None:
        private = keys.read_private(key)
        sealed = envelope.sealed(content, private.sign, private.public.keyid)
        return sealed, f"signed with the key {private.public.keyid[:16]}…"
    if identity is not None:
        return sigstore_bundles.signed(content, identity), "signed with sigstore"
    return content, "not signed"


def _written(file: Path, content: bytes) -> Path:
    """Put it in its file, in one step. Raises `UsageError` where that cannot be."""
    from ftcheck.atomic import replace_file
    from ftcheck.errors import UsageError

    try:
        replace_file(file.resolve(), content)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror or error}") from error
    return file


def _new_key(folder: Path) -> None:
    """Make a pair of keys, and say which one is whose."""
    from ftcheck.attest import keys

    private, public = keys.new_pair(folder)
    click.echo(f"{private} signs reports (ftcheck attest --key): keep it secret")
    click.echo(f"{public} verifies them (gate.require_signed, ftcheck gate --require-signed)")
