"""The DSSE envelope, against its specification and against what another library makes of it."""

import base64
import json

import pytest
from securesystemslib.dsse import Envelope as OtherEnvelope

from ftcheck.attest import envelope
from tests.attest.expected import PAE


@pytest.mark.parametrize(("kind", "body", "encoded"), PAE)
def test_the_encoding_that_is_signed(kind: str, body: bytes, encoded: bytes) -> None:
    assert envelope.pae(kind, body) == encoded


def test_another_library_reads_the_envelope_and_the_same_bytes_are_signed() -> None:
    made = envelope.sealed(b'{"a": "\xc3\xbc"}', lambda data: data[::-1], "k1")

    read = OtherEnvelope.from_dict(json.loads(made))

    assert read.pae() == envelope.pae(envelope.PAYLOAD_TYPE, b'{"a": "\xc3\xbc"}')
    assert read.signatures["k1"].signature == read.pae()[::-1].hex()


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_both_alphabets_of_base64_are_read(encode: object) -> None:
    payload = b"\xff\xfe\xfd?>"
    assert callable(encode)
    value = {
        "payload": encode(payload).decode(),
        "payloadType": envelope.PAYLOAD_TYPE,
        "signatures": [{"sig": encode(payload).decode()}],
    }

    read = envelope.opened(json.loads(json.dumps(value)))

    assert read.payload == payload
    assert read.signatures == (envelope.Signature(payload),)
