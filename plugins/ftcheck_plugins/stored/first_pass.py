"""Reads a folder of prepared rows once: each sequence becomes a row of the columns that rules look at."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.prepared_folder import AGAIN, MD5, PreparedFolder, StoredRows
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.records import Progress
from ftcheck.settings import Job
from ftcheck_plugins.preparation.arrow_store import ROWS, RowWriter
from ftcheck_plugins.preparation.batches import Batch
from ftcheck_plugins.preparation.token_engines import Ids
from ftcheck_plugins.preparation.trl_tokenize import Tokens
from ftcheck_plugins.stored import record_batches
from ftcheck_plugins.stored.flat_rows import IDS, READ, FlatRows, Reading, are_shifted, read, unmarked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "prepared"
"""The layout of rows that are ids already."""
BLOCKS = "blocks.npy"
LOOKED_AT = 20
"""Batches in which the first labels are looked for."""
TEXTLESS: Mapping[str, Any] = {
    "remarks": {},
    "marks": {},
    "key_sets": [],
    "opening": {},
    "system_prompts": [],
    "notes": [],
}
"""What is said of the texts of rows that have none."""
ODD = ("other", "displaced", "padded", "hidden")
"""Lists of sequences that something is odd with, as `FlatRows` and `StoredRows` name them."""
LLAMA_FACTORY = frozenset(("images", "videos", "audios"))
TRL = frozenset(("seq_lengths", "completion_mask", "assistant_masks"))


class FirstPass:
    """One pass over the files of a split, from which `write` makes the files that `RowFile` maps."""

    def __init__(
        self, job: Job, run: Run, folder: PreparedFolder, split: str, tokenizer: Tokenizer | None
    ) -> None:
        """`tokenizer` tells where a sequence ends, if nothing in packed rows does."""
        self._job, self._run = job, run
        self._files = folder.splits[split]
        self._path = folder.path
        self._columns = self._checked()
        self._reading = self._how(tokenizer)
        self._errors: dict[int, RowError] = {}
        self._odd: dict[str, list[int]] = {name: [] for name in ODD}
        self._blocks: list[NDArray[np.int64]] = []
        self._padding = self._seen = 0
        self._packed = False

    def write(self, folder: Path) -> None:
        """Read everything into a folder. Raises `InputError` for a file that cannot be read to its end."""
        with RowWriter(folder / ROWS) as writer:
            for file, name in enumerate(self._files):
                line = 1
                for batch in record_batches.batches(name, self._read_columns()):
                    found = read(batch, self._reading)
                    writer.add(self._batch(found, file, line))
                    line += batch.num_rows
                    self._tell()
        self._save(folder)
        self._tell(finished=True)

    def _checked(self) -> tuple[str, ...]:
        """The columns of the files, if they are those of prepared rows and the same in all."""
        import pyarrow as pa

        first: Any = None
        for name in self._files:
            schema = record_batches.schema_of(name)
            if IDS not in schema.names:
                named = ", ".join(schema.names) or "none"
                raise InputError(
                    f"{name}: no column input_ids (its columns: {named}): these rows are not prepared;"
                    " name them in data.train"
                )
            for column in READ:
                if schema.names.count(column) > 1:
                    raise InputError(f"{name}: has the column {column} twice: {AGAIN}")
                if column in schema.names and not _is_list(pa, schema.field(column).type):
                    kind = schema.field(column).type
                    raise InputError(
                        f"{name}: the column {column} is {kind}, not a list of integers: {AGAIN}"
                    )
            first = first if first is not None else schema.names
            if set(schema.names) != set(first):
                raise InputError(f"{name}: has other columns than {self._files[0]}: {AGAIN}")
        return tuple(first)

    def _how(self, tokenizer: Tokenizer | None) -> Reading:
        """How to read the rows; packed ones that nothing marks by BOS, or by an EOS that ends no turns."""
        completion_only = bool(self._job.training.completion_only_loss)
        reading = Reading(self._columns, completion_only, self._shifted())
        first = next(self._stream(), None)
        if (
            tokenizer is None
            or first is None
            or not self._job.training.packing
            or not unmarked(first, reading)
        ):
            return reading
        if tokenizer.bos_token_id is not None:
            return replace(reading, bos=tokenizer.bos_token_id)
        eos = tokenizer.eos_token_id
        ends_turns = eos is None or tokenizer.show([eos]) in (tokenizer.chat_template or "")
        return reading if ends_turns else replace(reading, eos=eos)

    def _shifted(self) -> bool:
        for number, batch in enumerate(self._stream()):
            told = are_shifted(batch, self._columns)
            if told is not None:
                return told
            if number >= LOOKED_AT:
                break
        return False

    def _stream(self) -> Iterator[Any]:
        for name in self._files:
            yield from record_batches.batches(name, self._read_columns())

    def _read_columns(self) -> list[str]:
        return [name for name in self._columns if name in READ]

    def _batch(self, found: FlatRows, file: int, line: int) -> Batch:
        """The sequences as a batch of rows, under whose numbers what was found is kept."""
        import numpy as np

        count = len(found.row)
        errors = {n: RowError("ids", said, AGAIN) for n, said in found.errors.items()}
        self._errors |= {self._seen + n: one for n, one in errors.items()}
        for name, rows in self._odd.items():
            rows += [self._seen + n for n in getattr(found, name)]
        self._padding += found.padding
        self._packed |= count > len(found.stored)
        self._blocks.append(found.stored)
        self._seen += count
        nothing = np.zeros(count, dtype=np.int64)
        columns = dict.fromkeys(("turns", "asked", "said", "answered", "spelled", "ending"), nothing)
        columns |= {"file": nothing + file, "line": line + found.row, "offset": found.offset}
        return Batch(
            columns=columns | {"system": nothing - 1},
            records=b"".join(_records(found)),
            tokens=Tokens(Ids(found.ids, found.starts), found.mask, nothing.astype(np.int32), errors),
            layout=FORMAT,
            row_errors=errors,
            remarks={},
            marks={},
            prompts=(),
            engine=FORMAT,
            notes=(),
            key_sets={},
            opening=None,
        )

    def _save(self, folder: Path) -> None:
        import numpy as np

        blocks = np.concatenate(self._blocks) if self._blocks else np.zeros(0, dtype=np.int64)
        if self._packed:
            np.save(folder / BLOCKS, blocks)
        about = {
            "path": self._path,
            "framework": self._framework(),
            "columns": list(self._columns),
            "apart": self._reading.apart if self._packed else None,
            "shifted": bool(self._reading.shifted),
            "padding": self._padding,
            **self._odd,
            "written": max(Path(name).stat().st_mtime for name in self._files),
        }
        errors = [[row, t.code, t.message, t.fix, t.column, t.content] for row, t in self._errors.items()]
        said = {"files": self._files, "format": FORMAT, "engine": FORMAT, "row_errors": errors}
        written = json.dumps({**TEXTLESS, **said, "stored": about})
        (folder / "done.json").write_text(written, encoding="utf-8")

    def _framework(self) -> str | None:
        """Which framework wrote the folder, by what only it writes."""
        stated = next(iter(self._job.from_ or ()), None)
        if stated is not None:
            return stated
        if LLAMA_FACTORY.issubset(self._columns):
            return "llama-factory"
        if MD5.fullmatch(Path(self._path).name):
            return "axolotl"
        return "trl" if TRL & set(self._columns) else None

    def _tell(self, *, finished: bool = False) -> None:
        what = f"reading prepared rows of {self._job.label}"
        self._run.report(Progress(what, self._seen, None, "rows", finished))


def stored_rows(folder: Path) -> StoredRows:
    """What `FirstPass.write` found out beside the ids."""
    import numpy as np

    about = json.loads((folder / "done.json").read_text(encoding="utf-8"))["stored"]
    blocks = np.load(folder / BLOCKS, allow_pickle=False) if (folder / BLOCKS).is_file() else None
    sequences = {name: tuple(about[name]) for name in ("columns", *ODD)}
    return StoredRows(**about | sequences, blocks=blocks)


def _is_list(pa: Any, kind: Any) -> bool:
    """Whether a column holds lists of numbers or truth values."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    values = (pa.types.is_integer, pa.types.is_boolean)
    return any(one(kind) for one in lists) and any(one(kind.value_type) for one in values)


def _records(found: FlatRows) -> Iterator[bytes]:
    """sha256 of each sequence's ids and mask."""
    for start, stop in pairwise(found.starts.tolist()):
        yield hashlib.sha256(found.ids[start:stop].tobytes() + found.mask[start:stop].tobytes()).digest()
