"""Reports as they were written before: the digest over ids and labels as one stream over all rows."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def older_digest(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> str:
    """sha256 over the sha256 of all lengths, of all ids and of all labels (little-endian int32)."""
    lengths = [len(ids) for ids, _ in rows]
    flat = [[one for row in rows for one in row[part]] for part in (0, 1)]
    streams = [np.array(values, dtype="<i4").tobytes() for values in (lengths, *flat)]
    return "sha256:" + hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in streams)).hexdigest()


def with_ids(report: Path, job: str, digest: str) -> None:
    """Write another digest into a report."""
    found = json.loads(report.read_text(encoding="utf-8"))
    found["jobs"][job]["ids"] = digest
    report.write_text(json.dumps(found), encoding="utf-8")
