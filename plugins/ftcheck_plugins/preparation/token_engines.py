"""Turns texts into token ids, many at a time: with `tokenizers`, or with gigatoken where it agrees.

gigatoken (extra `fast`) is made from the trainer's own tokenizer object. It has to give the ids that
`tokenizers` gave to the first rows and to a list of awkward texts, and goes on being held against it on
some rows of each batch. Where it cannot be loaded or fails, `tokenizers` does the work and a note says so.
"""

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ftcheck_plugins.model.kept_backend import KeptBackend, rust_of
from ftcheck_plugins.preparation.rendering import Differs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WARM = 1_000
"""Texts that `tokenizers` takes before it pays to load gigatoken; they are what it is tried on."""
WARM_TEXT = 400_000
"""Characters of long texts that are as good as `WARM` short ones."""
CHECKED_EVERY = 250
CHECKED_RARE = 4
"""Texts with other characters than ASCII that are checked in each batch, beside one in `CHECKED_EVERY`."""
MAX_ADDED = 1_000
BREAK = re.compile(r"(?<!\\)((?:\\\\)*)\\([rn])")
BREAKS = {"r": "\r", "n": "\n"}
"""Line breaks as patterns escape them."""
AWKWARD = (
    "",
    " ",
    "\n\n\n",
    "  two  spaces ",
    "\ttabs\tand\r\nlines\r\r\n \n ",
    "don't can't I'LL we'Ve 1234567 3.14 0x1F a_b-c/d\\e",
    "naïve café Ångström ﬁne",
    "Привет, мир! ελληνικά עברית العربية हिन्दी ไทย",
    "漢字かな交じり文。한국어 문장",
    "👩‍👩‍👧 🇩🇪 ✅ \u200b\ufeff\u00a0\u2028",
    '{"a": [1, 2.5e-3, null], "b": "\\u00e9"}',
    "def f(x):\n    return x ** 2  # ok\n",
)


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids of several texts in one row (int32), and where each begins; `starts` has one entry more."""

    flat: "NDArray[np.int32]"
    starts: "NDArray[np.int64]"

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    def of(self, index: int) -> "NDArray[np.int32]":
        """The ids of one text."""
        return self.flat[self.starts[index] : self.starts[index + 1]]

    def same(self, other: "Ids") -> bool:
        """Whether both hold the same ids of the same texts."""
        import numpy as np

        return np.array_equal(self.starts, other.starts) and np.array_equal(self.flat, other.flat)


def joined(rows: Sequence[Any]) -> Ids:
    """Ids of several texts put one behind the other."""
    import numpy as np

    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)), out=starts[1:])
    if not starts[-1]:
        return Ids(np.zeros(0, dtype=np.int32), starts)
    return Ids(np.concatenate(rows).astype(np.int32, copy=False), starts)


class Reference:
    """The trainer's tokenizer itself: what the other engine is held against."""

    def __init__(self, backend: Any) -> None:
        """`backend` is a transformers tokenizer; its Rust tokenizer is called directly where it has one."""
        self.backend = backend
        self.raw = rust_of(backend)

    def encode(self, texts: Sequence[str], *, special: bool) -> Ids:
        """Ids as `backend(texts, add_special_tokens=special)` gives them."""
        if self.raw is None:
            rows: Sequence[Any] = self.backend(list(texts), add_special_tokens=special)["input_ids"]
        else:
            self._settle(texts, special)
            made = self.raw.encode_batch_fast(list(texts), add_special_tokens=special)
            rows = [one.ids for one in made]
        return joined(rows)

    def encodings(self, texts: Sequence[str], *, special: bool) -> list[Any] | None:
        """Encodings that know the place of each token; None for a tokenizer that is not Rust."""
        if self.raw is None:
            return None
        self._settle(texts, special)
        made: list[Any] = self.raw.encode_batch(list(texts), add_special_tokens=special)
        return made

    def _settle(self, texts: Sequence[str], special: bool) -> None:
        """Let transformers set what it sets before each call: no truncation, no padding, its switches."""
        self.backend(list(texts[:1]) or [""], add_special_tokens=special)


@dataclass
class Engine:
    """Ids from the fastest engine that gives the trainer's. Raises `Differs` where one stops agreeing."""

    reference: Reference
    fast: bool = True
    name: str = "tokenizers"
    note: str | None = None
    _other: "_Gigatoken | None" = None
    _known: dict[bool, list[tuple[Sequence[str], Ids]]] = field(default_factory=dict)
    _agreed: set[bool] = field(default_factory=set)
    _batches: int = 0
    _ahead: "Future[_Gigatoken | str | None] | None" = None

    def load_ahead(self) -> None:
        """Begin to load gigatoken in a thread: its library and `tokenizers` let others run meanwhile.

        Only for a tokenizer that was opened without transformers, which sets switches of the Rust tokenizer
        before each call: that fails while another thread reads it. `close` has to be called before a fork
        unless it is `settled`.
        """
        if self.fast and not self._agreed and isinstance(self.reference.backend, KeptBackend):
            with_thread = ThreadPoolExecutor(1)
            self._ahead = with_thread.submit(_load, self.reference)
            with_thread.shutdown(wait=False)

    def close(self) -> None:
        """Wait for what `load_ahead` began and nobody asked for."""
        if self._ahead is not None:
            wait([self._ahead])

    @property
    def settled(self) -> bool:
        """Whether it has chosen: gigatoken gives the ids, or will never be tried again."""
        return not self.fast or bool(self._agreed)

    def encode(self, texts: Sequence[str], *, special: bool) -> Ids:
        """Ids of texts; `special` adds the special tokens that the tokenizer adds on its own."""
        if not texts:
            return joined([])
        self._batches += 1
        if special in self._agreed and self._other is not None:
            done = self._by_other(self._other, texts, special)
            if done is not None:
                return done
        known = self.reference.encode(texts, special=special)
        if self.fast and special not in self._agreed:
            self._known.setdefault(special, []).append((texts, known))
            if self._is_warm(special):
                self._try(special)
        return known

    def _is_warm(self, special: bool) -> bool:
        """Whether it has seen enough to try the other engine on."""
        seen = [text for some, _ in self._known[special] for text in some]
        return len(seen) >= WARM or sum(map(len, seen)) >= WARM_TEXT

    def _by_other(self, other: "_Gigatoken", texts: Sequence[str], special: bool) -> Ids | None:
        done: Ids | None = _survived(lambda: other.encode(texts, special=special))
        if done is None:
            self._give_up("gigatoken failed on a row")
            return None
        rare = [n for n, text in enumerate(texts) if not text.isascii()]
        step = len(rare) // CHECKED_RARE + 1
        chosen = sorted({*range(self._batches % CHECKED_EVERY, len(texts), CHECKED_EVERY), *rare[::step]})
        again = self.reference.encode([texts[n] for n in chosen], special=special)
        if not again.same(joined([done.of(n) for n in chosen])):
            raise Differs("gigatoken gave other ids than tokenizers on a row; it is not used")
        return done

    def _try(self, special: bool) -> None:
        """Load gigatoken, and hold it against what `tokenizers` said so far."""
        known = self._known.pop(special)
        ahead, self._ahead = self._ahead, None
        other = self._other or (ahead.result() if ahead is not None else _load(self.reference))
        if not isinstance(other, _Gigatoken):
            self._give_up(other)
            return
        awkward = [*AWKWARD, *_added(self.reference.backend)]
        known = [*known, (awkward, self.reference.encode(awkward, special=special))]
        agreed = _survived(
            lambda: (
                other.learn(self.reference, special)
                and all(other.encode(texts, special=special).same(ids) for texts, ids in known)
            )
        )
        if not agreed:
            self._give_up("gigatoken gives other ids than tokenizers on samples; it is not used")
            return
        self._other = other
        self._agreed.add(special)
        self.name = other.name

    def _give_up(self, why: str | None) -> None:
        self.fast, self._other, self.note = False, None, why or self.note
        self._agreed.clear()
        self._known.clear()
        self.name = "tokenizers"


class _Gigatoken:
    """gigatoken's tokenizer with the special tokens that the post-processor puts around a text."""

    def __init__(self, made: Any, version: str) -> None:
        self._encode = made.encode
        self.name = f"gigatoken {version}"
        self._around: dict[bool, tuple[list[int], list[int]]] = {False: ([], [])}

    def learn(self, reference: Reference, special: bool) -> bool:
        """Find out what stands around a text; False if the text's own ids are not there as they are."""
        if special not in self._around:
            whole = reference.encode(["a"], special=True).flat.tolist()
            bare = reference.encode(["a"], special=False).flat.tolist()
            places = [n for n in range(len(whole)) if bare and whole[n : n + len(bare)] == bare]
            if len(places) != 1:
                return False
            self._around[True] = whole[: places[0]], whole[places[0] + len(bare) :]
        return True

    def encode(self, texts: Sequence[str], *, special: bool) -> Ids:
        import numpy as np

        made = [self._encode(text) for text in texts]
        before, after = self._around[special]
        if before or after:
            parts = [np.array(part, dtype=np.uint32) for part in (before, after)]
            made = [np.concatenate([parts[0], ids, parts[1]]) for ids in made]
        return joined(made)


def _load(reference: Reference) -> "_Gigatoken | str | None":
    """gigatoken made of the trainer's tokenizer; a note why not, or None where it is not installed."""
    if reference.raw is None or getattr(reference.backend, "split_special_tokens", False):
        return "gigatoken supports tokenizers of the Rust library only; it is not used"
    try:
        import gigatoken
    except ImportError:
        return None
    from importlib.metadata import version

    for described in _spelled(reference.raw.to_str()):
        made = _survived(partial(gigatoken.gigatoken_rs.load_hf_json, described))
        if made is not None:
            return _Gigatoken(made, version("gigatoken"))
    return "gigatoken cannot load this tokenizer"


def _spelled(described: str) -> Iterator[str]:
    """A tokenizer's JSON, and the same with line breaks in its patterns as characters.

    gigatoken knows patterns by their letters, and DeepSeek's by those characters.
    """
    yield described
    head, model, rest = described.partition(',"model":')
    words = json.loads(head + "}").get("pre_tokenizer") or {}
    splits = [one for one in words.get("pretokenizers", ()) if one["type"] == "Split"]
    escaped = [one["pattern"] for one in splits if BREAK.search(one["pattern"].get("Regex", ""))]
    for pattern in escaped:
        pattern["Regex"] = BREAK.sub(lambda found: found[1] + BREAKS[found[2]], pattern["Regex"])
    if escaped:
        whole = {**json.loads(head + "}"), "pre_tokenizer": words}
        yield json.dumps(whole, ensure_ascii=False)[:-1] + model + rest


def _added(backend: Any) -> list[str]:
    """Texts in which the added tokens stand between words, spaces and line breaks."""
    tokens = [str(one) for one in backend.added_tokens_decoder.values()][:MAX_ADDED]
    return [f"a{one}b {one} c\n{one}\n\n {one}" for one in tokens] + [one * 2 for one in tokens[:50]]


def _survived(work: Any) -> Any:
    """What `work` returns; None if it fails. A panic of a Rust library is no `Exception`."""
    try:
        return work()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            return None
        raise
