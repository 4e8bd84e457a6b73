"""What a loader worked out, kept by content: found again only for the same bytes, libraries and code.

Rules always run. What is kept is what they look at, where that takes seconds of imports and follows from
files, settings and libraries alone. The report lists what came out of the cache.
"""

import inspect
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from ftcheck.cache import usable_store
from ftcheck.digest import of_file, of_json
from ftcheck.inputs.container import Run
from ftcheck.inputs.work_folders import work_folder

VALUE = "value.json"
Made = TypeVar("Made")
# fmt: off
NO_TOKENIZER = frozenset((
    ".arrow", ".bin", ".ckpt", ".csv", ".gguf", ".gz", ".h5", ".jpg", ".jsonl", ".lock", ".log", ".md",
    ".msgpack", ".npz", ".onnx", ".parquet", ".pdf", ".png", ".pt", ".pth", ".safetensors", ".zip",
))
# fmt: on
"""Files beside a tokenizer that it is not made of."""


class Kept:
    """One value of a loader, as JSON and files beside it, in an entry of the cache of its own."""

    def __init__(
        self, run: Run, name: str, kind: str, of: Callable[[], Any], libraries: Iterable[str]
    ) -> None:
        """`name` is the input as reports name it (`mapper.saved`), `of` gives all that it is made of.

        Where `of` gives None, it cannot be told what it is made of, and nothing is found or kept.
        """
        self._run, self._name, self._kind, self._of = run, name, kind, of
        self._libraries = tuple(libraries)
        self._entries = usable_store(run.cache, lambda why: run.note(f"{name}: {why}"))
        self._key = self._made_key()

    def _made_key(self) -> str | None:
        of = self._of() if self._entries is not None else None
        if of is None:
            return None
        versions = versions_of(self._libraries)
        return of_json({"kept": self._kind, "of": of, "versions": versions, "code": code()})

    @property
    def wanted(self) -> bool:
        """Whether there is a place to keep it."""
        return self._key is not None

    def folder(self) -> Path | None:
        """The entry that an earlier run made, each byte as it was written; None where there is none."""
        if self._entries is None or self._key is None:
            return None
        return self._entries.find(self._key)

    def value(self) -> Any:
        """The value that an earlier run kept; None where there is nothing. Call `used` where it is taken."""
        found = self.folder()
        if found is None:
            return None
        try:
            return json.loads((found / VALUE).read_bytes())
        except (OSError, ValueError):
            return None

    def used(self) -> None:
        """Have the report say that the value came out of the cache."""
        self._run.cached(self._name)

    def read_as(self, kind: type[Made]) -> Made | None:
        """The record that an earlier run kept with `keep_record`; None where there is none of this kind."""
        from pydantic import TypeAdapter, ValidationError

        value = self.value()
        if value is None:
            return None
        try:
            made = TypeAdapter(kind).validate_python(value)
        except ValidationError:
            return None
        self.used()
        return made

    def keep_record(self, record: Any) -> None:
        """Keep a record, which holds nothing but what JSON has."""
        self.keep(asdict(record))

    def keep(self, value: Any, files: Mapping[str, bytes] | None = None) -> None:
        """Keep a value, which is not None, if nothing it was made of changed meanwhile."""
        if self._entries is None or self._key is None or self._made_key() != self._key:
            return
        about = {"job": self._name.rpartition(".")[0], "split": self._kind, "rows": None, "tokens": None}
        with work_folder() as empty:
            content = {VALUE: json.dumps(value).encode(), **(files or {})}
            self._entries.keep(self._key, empty, about, content)


@cache
def code() -> str:
    """A digest over all of ftcheck's own code and tables, as it lies here."""
    roots = (Path(inspect.getfile(usable_store)).parent, Path(__file__).parent)
    files = [one for root in roots for kind in ("py", "json") for one in sorted(root.rglob(f"*.{kind}"))]
    return of_json([of_file(one) for one in files])


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of these packages that are installed here, and Python's."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def tokenizer_files(folder: Path) -> dict[str, str] | None:
    """Digests of the files in a folder that a tokenizer may be made of; None where one cannot be read."""
    files = [one for one in sorted(folder.iterdir()) if one.is_file() and one.suffix not in NO_TOKENIZER]
    files += sorted(folder.glob("additional_chat_templates/*.jinja"))
    named = {str(one.relative_to(folder)): of_file(one) for one in files}
    whole = {name: digest for name, digest in named.items() if digest is not None}
    return whole if len(whole) == len(named) else None
