"""Must-fail and must-pass inputs of the imported-config rule."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftcheck.importers.records import IDS, Difference, Imported, Mapped, NotMapped
from ftcheck.records import Location
from ftcheck.testing import Case, job

AT = Location("qlora.yml", 5, 1)
POLICY = Location("policy.yaml", 7, 9)
RECORD = Imported(
    framework="axolotl",
    version="0.18.0",
    source="",
    path="qlora.yml",
    mapped=(Mapped("sequence_len", AT, 4096, ("training.max_length",)),),
)
LONGER = Difference("training.max_length", 2048, 4096, "sequence_len", AT, POLICY)


def _of(record: Imported, use: str = "command") -> Mapping[str, Any]:
    return {"job": job(trainer={"use": use}, imported=record)}


CASES: tuple[Case, ...] = (
    Case(
        "imported-config",
        "axolotl trains with another length than the policy says",
        True,
        lambda: _of(replace(RECORD, differences=(LONGER,))),
    ),
    Case(
        "imported-config",
        "a key that is not mapped and changes the ids",
        True,
        lambda: _of(replace(RECORD, not_mapped=(NotMapped("eot_tokens", AT, ["<|x|>"], "", (IDS,)),))),
    ),
    Case(
        "imported-config",
        "a key that the framework does not have",
        True,
        lambda: _of(replace(RECORD, not_mapped=(NotMapped("sequence_length", AT, 1, "", known=False),))),
    ),
    Case("imported-config", "the policy states nothing else", False, lambda: _of(RECORD)),
    Case(
        "imported-config",
        "ftcheck's own trainer trains by the policy",
        False,
        lambda: _of(replace(RECORD, differences=(LONGER,)), "qlora"),
    ),
)
