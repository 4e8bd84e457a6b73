"""What a model's safetensors files hold, by their headers; single rows of a table can be read, no more."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck.errors import InputError
from ftcheck.inputs import bounded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
HEADS = ("lm_head", "embed_out", "output")
WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}
"""Bytes of a number in the dtypes that rows can be read of."""
MAX_HEADER = 16 << 20
"""Bytes of a header that are read at most: 100,000 tensors take 12 MB. safetensors itself stops at 100 MB."""


def raw_header(path: Path) -> tuple[bytes, int]:
    """The JSON header of a safetensors file, not parsed, and the size of the file in bytes.

    It lies behind its length, 8 bytes little-endian. Raises `InputError` for one that cannot be read, that
    is longer than the file or than `MAX_HEADER`.
    """
    try:
        with bounded.open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            if len(first) < 8 or length > size - 8:
                raise InputError(f"{path}: the header is longer than the file ({length:,} of {size:,} bytes)")
            if length > MAX_HEADER:
                raise InputError(
                    f"{path}: a header of {length:,} bytes; ftcheck reads {MAX_HEADER:,} at most"
                )
            return file.read(length), size
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `dtype` as safetensors writes it, and the bytes `start` to `stop` of the file `path`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a model's files, by name. Nothing of them is in memory."""

    tensors: Mapping[str, Tensor]

    @property
    def embedding(self) -> Tensor | None:
        """The input embedding, by the usual names; None where none has one."""
        return self._table(EMBEDDINGS)

    @property
    def head(self) -> Tensor | None:
        """The output layer; None where it is the embedding itself, or has an unusual name."""
        return self._table(HEADS)

    @property
    def total(self) -> int:
        """How many numbers there are in all."""
        return sum(math.prod(one.shape) for one in self.tensors.values())

    def _table(self, names: Sequence[str]) -> Tensor | None:
        """The table with the first of these names; the outermost one where there are several."""
        found = [
            (name.count("."), rank, tensor)
            for name, tensor in self.tensors.items()
            for rank, usual in enumerate(names)
            if len(tensor.shape) == 2 and f".{name}".endswith(f".{usual}.weight")
        ]
        return min(found, key=lambda one: one[:2])[2] if found else None

    def rows(self, tensor: Tensor, ids: Sequence[int]) -> NDArray[np.float32] | None:
        """These rows of a table, read from its file; None for a dtype that holds no plain numbers.

        Raises `InputError` where the file is another one by now.
        """
        if tensor.dtype not in WIDTHS or len(tensor.shape) != 2:
            return None
        size = tensor.shape[1] * WIDTHS[tensor.dtype]
        parts = []
        try:
            with bounded.open_file(tensor.path) as file:
                for one in ids:
                    file.seek(tensor.start + one * size)
                    parts.append(file.read(size))
        except OSError as error:
            raise InputError(f"{tensor.path}: cannot be read: {error.strerror or error}") from error
        if any(len(part) != size for part in parts):
            raise InputError(f"{tensor.path}: the file is shorter than its header states")
        raw = b"".join(parts)
        made: NDArray[np.float32] = _numbers(raw, tensor.dtype).reshape(len(ids), tensor.shape[1])
        return made


def _numbers(raw: bytes, dtype: str) -> NDArray[np.float32]:
    import numpy as np

    if dtype == "BF16":
        bits = np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16
        return bits.view(np.float32)
    return np.frombuffer(raw, dtype="<f2" if dtype == "F16" else "<f4").astype(np.float32)
