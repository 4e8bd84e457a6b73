"""The reader of a safetensors header, which the loader and the digests share."""

import json
import struct
from pathlib import Path

import pytest

from ftcheck.errors import InputError
from ftcheck.gate.input_digests import model_digest
from ftcheck.inputs.weights import MAX_HEADER, raw_header
from ftcheck.testing import job


def stored(path: Path, header: bytes, length: int | None = None, behind: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + behind)
    return path


def test_the_header_and_the_size_of_the_file_are_read(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    assert raw_header(stored(tmp_path / "one.safetensors", header, behind=b"1234")) == (
        header,
        8 + len(header) + 4,
    )


@pytest.mark.parametrize(
    ("length", "why"), [(1 << 40, "longer than the file"), (MAX_HEADER + 1, "ftcheck reads")]
)
def test_loader_and_digest_stop_at_the_same_length(tmp_path: Path, length: int, why: str) -> None:
    path = stored(tmp_path / "model.safetensors", b"{}", length)
    if length < 1 << 30:
        with path.open("r+b") as file:
            file.truncate(8 + length)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")

    with pytest.raises(InputError, match=why):
        raw_header(path)
    one = job(model={"name": str(tmp_path)})
    refused = model_digest(one)
    path.unlink()
    assert refused is not None
    assert refused != model_digest(one)


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        raw_header(tmp_path / "absent")
