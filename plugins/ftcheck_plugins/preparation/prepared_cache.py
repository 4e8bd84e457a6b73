"""Preparations kept between runs: what goes into an entry's key, and the tokenizer's answers in it.

The first pass over a job's rows is kept, by content, and with it the second (outliers, truncation, the digest
over ids and labels) for the settings it was done with; with others the second is done again, and all rules
always run. The second pass asks the tokenizer a few things: its answers lie beside the columns, so that an
unchanged run opens no tokenizer for rules that look at columns only. What else takes long to work out of the
same rows may be kept as a `Result`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, cast

from ftcheck import distribution, templates
from ftcheck.cache import Store, usable_store
from ftcheck.digest import of_files, of_json, of_text
from ftcheck.errors import FtcheckError
from ftcheck.field_metadata import Mark, marked
from ftcheck.inputs import bounded
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.inputs.work_folders import work_folder
from ftcheck.paths import is_folder, model_folder
from ftcheck.records import Progress
from ftcheck.settings import Job, Training
from ftcheck_plugins.kept import tokenizer_files, versions_of
from ftcheck_plugins.preparation.arrow_store import ROWS
from ftcheck_plugins.preparation.version import PREPARATION_VERSION
from ftcheck_plugins.reading.files import Source

ANSWERS = "answers.json"
RESULT = "result.json"
LIBRARIES = (
    "gigatoken",
    "jinja2",
    "numpy",
    "orjson",
    "pyarrow",
    "sentencepiece",
    "tiktoken",
    "tokenizers",
    "transformers",
)
"""Libraries whose version may change ids, masks or the file's layout."""
READERS = ("datasets", "pandas", "pyarrow")
"""Libraries that read the rows where they are taken as datasets loads them."""
CALL = re.compile(rb"strftime_now\s*\(")
DAY = re.compile(rb"strftime_now\s*\(\s*\\?[\"']((?:%[-#]?[aAbBdDeFgGjmuUVwWxyY]|[^%\"'\\])*)\\?[\"']\s*\)")
"""A template that writes the date, and nothing finer than a day."""


class CacheSlot:
    """One preparation's place in the cache: looked for before the first pass, kept after it."""

    def __init__(self, job: Job, run: Run, source: Source, side: Any, split: str) -> None:
        """`side` is the tokenizer, the `Inputs` that may open it, or None for rows without tokens."""
        self._job, self._run, self._source, self._split = job, run, source, split
        self._side = side
        self._known: dict[str, Any] = {}

    @cached_property
    def key(self) -> str | None:
        """The key of the first pass over the rows; None where something that goes into it cannot be told."""
        if self._side is not None and self._moves():
            _ = self.tokenizer
        return self._made_key(self._run.digests.get(self.name))

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer itself, opened now if it was not."""
        opened = self._side.get("tokenizer") if isinstance(self._side, Inputs) else self._side
        return cast("Tokenizer | None", opened)

    @cached_property
    def answering(self) -> Tokenizer | None:
        """The tokenizer as the second pass asks it; None for rows without tokens."""
        if self._side is None or not self._run.cache:
            return self.tokenizer
        return cast(Tokenizer, Generations(self, self._known))

    @property
    def name(self) -> str:
        """`mapper.train`: the data set as reports name it."""
        return f"{self._job.label}.{self._split}"

    def find(self) -> Path | None:
        """The folder of an earlier run's first pass over the same rows, tokenised the same way."""
        entries = self._store()
        if entries is None:
            return None
        found = entries.find(self.key, later=(ROWS,)) if self.key is not None else None
        if found is not None and self._side is not None:
            try:
                known = json.loads((found / ANSWERS).read_bytes())
                self._known.update(bos=known["bos"], stops=known["stops"], shown=known["shown"])
            except (OSError, ValueError, KeyError, TypeError):
                self.drop()
                return None
        return found

    def has_rows(self, found: Path) -> bool:
        """Whether the token file of what was found is as it was written: said before it is read."""
        entries = self._store()
        return entries is not None and entries.whole(found, ROWS)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Prepare the rows while no other run prepares them, here or wherever the cache is shared."""
        entries = self._store()
        if entries is None or self.key is None:
            yield
            return
        told = "waiting for another run that prepares the same rows"
        waiting = partial(self._run.report, Progress(f"preparing {self._what}", 0, None, "rows", False, told))
        with entries.alone(self.key, waiting):
            yield

    @property
    def _what(self) -> str:
        return self._job.label if self._split == "train" else f"{self._job.label} {self._split}"

    def drop(self) -> None:
        """What was found is of no use."""
        entries = self._store()
        self._known.clear()
        if entries is not None and self.key is not None:
            entries.drop(self.key)

    def took(self, prepared: Prepared) -> None:
        """Say that a preparation came out of the cache."""
        told = f"{int(prepared.length.sum()):,} tokens  from the cache"
        self._run.report(Progress(f"preparing {self._what}", len(prepared), None, "rows", True, told))
        self._run.cached(self.name)

    def keep(self, folder: Path, prepared: Prepared) -> None:
        """Keep the first pass that lies in `folder`, if nothing it was made of changed meanwhile.

        A template that raised may have run into a limit of time or memory: the next time it may not.
        """
        entries = self._store()
        if (
            entries is None
            or self.key is None
            or any(t.code == "template" for t in prepared.row_errors.values())
        ):
            return
        if self._made_key(None) != self.key:
            self._run.note(f"{self.name}: not cached for the next run: the files changed during reading")
            return
        answers = {ANSWERS: json.dumps(self._answers()).encode()} if self._side is not None else {}
        about = {
            "job": self._job.label,
            "split": self._split,
            "rows": len(prepared),
            "tokens": int(prepared.length.sum()),
        }
        why = entries.keep(self.key, folder, about, answers)
        if why is not None:
            self._run.note(f"{self.name}: not cached for the next run: {why}")

    def _answers(self) -> dict[str, Any]:
        asked = cast(Tokenizer, self.answering)
        return {
            "bos": asked.bos_token_id,
            "stops": sorted(asked.stop_ids),
            "shown": self._known.get("shown", {}),
        }

    def _store(self) -> Store | None:
        wanted = self._run.cache and self._source.hub is None
        return usable_store(wanted, lambda why: self._run.note(f"{self.name}: {why}"))

    def _moves(self) -> bool:
        """Whether opening the tokenizer may bring another version of it than the hub's cache has now."""
        name = self._job.model.tokenizer or self._job.model.name
        return not self._run.offline and not is_folder(Path(bounded.expanded(name)))

    def _made_key(self, data: str | None) -> str | None:
        """The key; None where something that goes into it cannot be told."""
        files = self._source.files
        parts = {
            "preparation": PREPARATION_VERSION,
            "versions": _versions(),
            "split": self._split,
            "data": data or of_files(files),
            "suffixes": [Path(name).suffix for name in files],
            "excluded": {file: sorted(offsets) for file, offsets in sorted(self._source.excluded.items())},
            "shape": asdict(self._source.shape),
            "loaded": None if self._source.through is None else versions_of(READERS),
            "format": self._job.data.format,
            "drop_nulls": self._job.data.drop_nulls,
            "training": _seen_by_the_first_pass(self._job.training),
            "tokenizer": None if self._side is None else _tokenizer(self._job),
        }
        if self._source.picks is not None:
            parts["sample"] = asdict(self._source.picks.sampling)
        told = parts["data"] is not None and (self._side is None or parts["tokenizer"] is not None)
        return of_json(parts) if told else None


class Result:
    """What was worked out of a preparation's rows, as JSON: an entry of its own, found by the same key."""

    def __init__(self, shelf: CacheSlot, name: str, of: Any) -> None:
        """`name` is what it is, `of` all that it depends on beside the shelf's rows and tokenizer."""
        self._shelf, self._name, self._of = shelf, name, of
        self._entries = shelf._store()
        self._key = self._made_key()

    def _made_key(self) -> str | None:
        rows = self._shelf._made_key(None) if self._entries is not None else None
        return of_json([self._name, rows, self._of]) if rows is not None else None

    def read(self) -> Any:
        """What an earlier run kept; None where there is nothing."""
        if self._entries is None or self._key is None:
            return None
        found = self._entries.find(self._key)
        try:
            return json.loads((found / RESULT).read_bytes()) if found is not None else None
        except (OSError, ValueError):
            return None

    def keep(self, value: Any, **about: int) -> None:
        """Keep it, if nothing it was made of changed meanwhile. `about` are its `rows` and `tokens`."""
        if self._entries is None or self._key is None or self._made_key() != self._key:
            return
        named = {"job": self._shelf._job.label, "split": f"{self._shelf._split} {self._name}", **about}
        with work_folder() as empty:
            self._entries.keep(self._key, empty, named, {RESULT: json.dumps(value).encode()})


class Generations:
    """A tokenizer that remembers what it was asked, and is only opened for what is not known yet."""

    def __init__(self, shelf: CacheSlot, known: dict[str, Any]) -> None:
        """`known` is read and added to: `bos`, `stops`, and `shown`, texts by ids."""
        self._shelf = shelf
        self._known = known

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that begins a sequence."""
        if "bos" not in self._known:
            self._known["bos"] = self._real.bos_token_id
        return cast("int | None", self._known["bos"])

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a turn."""
        if "stops" not in self._known:
            self._known["stops"] = sorted(self._real.stop_ids)
        return frozenset(self._known["stops"])

    def show(self, ids: Sequence[int]) -> str:
        """Tokens as text."""
        shown: dict[str, str] = self._known.setdefault("shown", {})
        name = " ".join(map(str, ids))
        if name not in shown:
            shown[name] = self._real.show(ids)
        return shown[name]

    @property
    def _real(self) -> Tokenizer:
        return cast(Tokenizer, self._shelf.tokenizer)

    def __getattr__(self, name: str) -> Any:
        """All else is the tokenizer's own."""
        return getattr(self._real, name)


def _seen_by_the_first_pass(training: Training) -> dict[str, Any]:
    """The arguments that may change ids or masks: all but those that are marked as looked at later."""
    later = marked(type(training), Mark.AFTER_TOKENISING)
    return {one.name: getattr(training, one.name) for one in fields(training) if one.name not in later}


def _tokenizer(job: Job) -> Any:
    """Digests of what the ids come from beside the rows: the tokenizer's files, the template as applied.

    None where it cannot be told: the files are not here, the tokenizer runs code of its own, or a
    template writes the time of day.
    """
    folder = model_folder(job.model.tokenizer or job.model.name, job.model.revision)
    if folder is None or job.model.trust_remote_code:
        return None
    named = tokenizer_files(folder)
    if named is None:
        return None
    stated = Path(job.model.chat_template) if job.model.chat_template is not None else None
    try:
        text = templates.read_template(stated) if stated is not None else templates.of_folder(folder)
    except FtcheckError:
        return None
    applied = templates.applied(text, assistant_only_loss=job.training.assistant_only_loss) or ""
    days = _days([applied.encode("utf-8", "replace"), *(_template_in(folder / one) for one in named)])
    name = Path(job.model.tokenizer or job.model.name).name
    return None if days is None else [name, named, of_text(text or ""), of_text(applied), days]


def _template_in(file: Path) -> bytes:
    """The bytes of a file that may hold a template."""
    if file.suffix != ".jinja" and file.name not in ("tokenizer_config.json", "chat_template.json"):
        return b""
    try:
        return bounded.read(file)
    except OSError:
        return b""


def _days(texts: Iterable[bytes]) -> str | None:
    """Today's date where a template writes it, `""` where none does; None for anything finer than a day."""
    found = [text for text in texts if CALL.search(text)]
    if not found:
        return ""
    if any(len(CALL.findall(text)) != len(DAY.findall(text)) for text in found):
        return None
    return datetime.now().astimezone().date().isoformat()


@cache
def _versions() -> dict[str, str]:
    return {"ftcheck": distribution.version()} | versions_of(LIBRARIES)
