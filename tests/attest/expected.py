"""What attestations must be, and which refusal each attack must meet: written before the code."""

PAE = (
    (
        "http://example.com/HelloWorld",
        b"hello world",
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world",
    ),
    ("", b"", b"DSSEv1 0  0 "),
    ("é", "ü".encode(), "DSSEv1 2 é 2 ü".encode()),
)
"""Type, body and pre-authentication encoding. The first is DSSE 1.0.2's own test vector (protocol.md), the
others were worked out by hand from its definition: lengths are those of the UTF-8 bytes.
"""

REPORT_EDITS = {
    "verdict": "other-report",
    "counts": "other-report",
    "one result": "other-report",
    "verdict, counts and results, consistently": "other-report",
    "a data file's digest": "other-report",
    "when it was made": "other-report",
    "white space alone": "other-report",
}
"""Edits of a report that was signed. Without a signature all but the last two that keep the report consistent
would open the gate."""

STATEMENT_EDITS = {
    "_type": "signature-invalid",
    "predicateType": "signature-invalid",
    "subject digest": "signature-invalid",
    "subject name": "signature-invalid",
    "result": "signature-invalid",
    "configuration": "signature-invalid",
    "passedTests": "signature-invalid",
}
"""Edits of the statement in an envelope, whose signature is left as it was."""

SIGNED_LIES = {
    "_type": "attestation-invalid",
    "predicateType": "attestation-invalid",
    "no subject": "attestation-invalid",
    "another report": "other-report",
    "result": "inconsistent",
    "configuration": "inconsistent",
    "passedTests": "inconsistent",
    "failedTests": "inconsistent",
    "subject digest": "inconsistent",
    "duplicate keys": "attestation-invalid",
    "not JSON": "attestation-invalid",
}
"""Statements that somebody signed with the right key, and that do not say what the report says."""

ENVELOPE_EDITS = {
    "payload of another statement": "signature-invalid",
    "payload not base64": "attestation-invalid",
    "payloadType": "attestation-invalid",
    "payloadType absent": "attestation-invalid",
    "no signatures": "unsigned",
    "signatures absent": "attestation-invalid",
    "an empty signature": "signature-invalid",
    "a bit of the signature": "signature-invalid",
    "a signature cut short": "signature-invalid",
    "a signature by another key": "other-signer",
    "a signature by another key under the right keyid": "signature-invalid",
    "an HMAC with the public key": "signature-invalid",
    "duplicate keys": "attestation-invalid",
    "a bare statement": "unsigned",
    "no file": "unsigned",
    "an empty file": "attestation-invalid",
    "a list": "attestation-invalid",
}
"""Edits of the envelope around the statement. `keyid` is a hint that nothing is decided by (DSSE, section
Parameters): an envelope whose keyid alone was changed or removed opens the gate as before."""
