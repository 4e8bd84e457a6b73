"""The DSSE envelope (secure-systems-lab/dsse 1.0.2): what is signed, and the JSON around it."""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""What an envelope around an in-toto statement says of its payload."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature; `keyid` is a hint of whose it is, which nothing may be decided by."""

    value: bytes
    keyid: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with its signatures, taken out of its JSON."""

    payload: bytes
    signatures: tuple[Signature, ...]

    @property
    def signed(self) -> bytes:
        """The bytes that each signature is over."""
        return pae(PAYLOAD_TYPE, self.payload)


def pae(kind: str, body: bytes) -> bytes:
    """The pre-authentication encoding: type and body with their lengths in bytes, so that none runs over."""
    named = kind.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(named), named, len(body), body)


def sealed(payload: bytes, sign: Callable[[bytes], bytes], keyid: str) -> bytes:
    """An envelope around a statement as JSON, with one signature."""
    signature = {"keyid": keyid, "sig": _encoded(sign(pae(PAYLOAD_TYPE, payload)))}
    value = {"payload": _encoded(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def opened(value: dict[str, Any]) -> Envelope:
    """The envelope of a JSON object. Raises `ValueError` with what is wrong with it."""
    if value.get("payloadType") != PAYLOAD_TYPE:
        raise ValueError(f"its payloadType is not {PAYLOAD_TYPE}")
    signatures = value.get("signatures")
    if not isinstance(signatures, list):
        raise ValueError("it has no list of signatures")
    payload = _decoded(value.get("payload"), "payload")
    return Envelope(payload, tuple(_signature(one) for one in signatures))


def _signature(value: Any) -> Signature:
    if not isinstance(value, dict):
        raise ValueError("a signature is not an object")
    keyid = value.get("keyid") or ""
    return Signature(_decoded(value.get("sig"), "sig"), keyid if isinstance(keyid, str) else "")


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(text: Any, key: str) -> bytes:
    """Bytes from base64, in the standard alphabet or the URL-safe one: readers must take both."""
    if not isinstance(text, str):
        raise ValueError(f"it has no {key}")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"its {key} is not base64") from None
