"""A transformers tokenizer from what an earlier run kept of it: no transformers, no torch, the same ids.

Only tokenizers whose texts go to the Rust library as they are, and come back as it gives them, are kept. What
is asked of them beyond that is answered by the tokenizer itself, opened then.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck_plugins.model import chat_environment

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Raw

FILE = "tokenizer.json"
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
TRIED = (
    "",
    "  two  spaces , and \tmore .\r\n\n",
    "don't 1234567 naïve café 漢字 한국어 👩‍👩‍👧 <unk> def f(x):\n    return x ** 2",
)
"""Texts that both have to tokenise and show in the same way."""


class KeptBackend:
    """What ftcheck asks of a transformers tokenizer, without transformers."""

    def __init__(self, facts: dict[str, Any], raw: "Raw", opened: Callable[[], Any]) -> None:
        """`facts` are those of `facts_of`; `opened()` opens the tokenizer itself."""
        raw.no_truncation()
        raw.no_padding()
        self.backend_tokenizer = raw
        self.class_name: str = facts["class"]
        self.special_tokens_map: dict[str, str] = dict(facts["special_tokens_map"])
        self.added_tokens_decoder = raw.get_added_tokens_decoder()
        self.split_special_tokens = False
        self._size: int = facts["size"]
        self._template: str | None = facts["chat_template"]
        self._ids: dict[str, int | None] = dict(facts["ids"])
        self._opened = opened
        self._original: Any = None
        self._changes: dict[str, Any] = {}

    def __len__(self) -> int:
        """Entries of the vocabulary, added tokens included."""
        return self._size

    @property
    def original(self) -> Any:
        """The transformers tokenizer itself, with what was changed since."""
        if self._original is None:
            self._original = self._opened()
            for name, value in self._changes.items():
                setattr(self._original, name, value)
        return self._original

    def __getattr__(self, name: str) -> Any:
        """All else is the tokenizer's own; `bos_token` and `bos_token_id` are known."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name in NAMED:
            return self.special_tokens_map.get(name)
        if name.removesuffix("_id") in NAMED:
            return self._ids[name.removesuffix("_id")]
        return getattr(self.original, name)

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's template."""
        return self._template

    @chat_template.setter
    def chat_template(self, template: str | None) -> None:
        self._template = template
        self._change("chat_template", template)

    def set_eos(self, token: str) -> None:
        """Take another token, one of the vocabulary, for the end of a sequence."""
        self.special_tokens_map = {**self.special_tokens_map, "eos_token": token}
        self._ids["eos_token"] = self.backend_tokenizer.token_to_id(token)
        self._change("eos_token", token)

    def _change(self, name: str, value: Any) -> None:
        self._changes[name] = value
        if self._original is not None:
            setattr(self._original, name, value)

    def get_vocab(self) -> dict[str, int]:
        """All tokens with their ids."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def __call__(self, texts: str | Sequence[str], *, add_special_tokens: bool = True) -> dict[str, Any]:
        """`input_ids` of one text, or of each of several."""
        raw = self.backend_tokenizer
        if isinstance(texts, str):
            return {"input_ids": self([texts], add_special_tokens=add_special_tokens)["input_ids"][0]}
        made = raw.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return {"input_ids": [one.ids for one in made]}

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Tokens as text."""
        return self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)


def facts_of(backend: Any) -> tuple[dict[str, Any], bytes] | None:
    """What is kept of a transformers tokenizer: facts, and the file of its Rust tokenizer, for `restored`.

    None for one that does more than its Rust tokenizer. Its calls are held against a `KeptBackend` of the
    facts: one that answers otherwise is not kept.
    """
    raw = rust_of(backend)
    template = backend.chat_template
    if raw is None or not _shows_as_it_is(backend, raw) or not chat_environment.is_known():
        return None
    if backend.split_special_tokens or not (template is None or isinstance(template, str)):
        return None
    facts: dict[str, Any] = {
        "class": type(backend).__name__,
        "size": len(backend),
        "chat_template": template,
        "special_tokens_map": dict(backend.special_tokens_map),
        "ids": {name: getattr(backend, f"{name}_id") for name in NAMED},
    }
    from tokenizers import Tokenizer as Raw

    text: str = raw.to_str()
    copy = Raw.from_str(text)
    if not _is_same(KeptBackend(facts, copy, lambda: backend), backend):
        return None
    plain = raw.truncation is None and raw.padding is None
    return facts, (text if plain else copy.to_str()).encode()


def restored(facts: dict[str, Any], folder: Path, opened: Callable[[], Any]) -> KeptBackend:
    """The tokenizer from its facts and its file in a folder. Raises what is wrong with either."""
    from tokenizers import Tokenizer as Raw

    return KeptBackend(facts, Raw.from_file(str(folder / FILE)), opened)


def rust_of(backend: Any) -> Any:
    """The Rust tokenizer that transformers calls with the texts as they are; None if it does more."""
    if isinstance(backend, KeptBackend):
        return backend.backend_tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    kind = type(backend)
    if not isinstance(backend, PreTrainedTokenizerFast):
        return None
    plain = kind.__call__ is PreTrainedTokenizerBase.__call__
    for name in ("_encode_plus", "_batch_encode_plus"):
        plain = plain and getattr(kind, name, None) is getattr(PreTrainedTokenizerFast, name, None)
    return backend.backend_tokenizer if plain else None


def _shows_as_it_is(backend: Any, raw: Any) -> bool:
    """Whether ids are shown and conversations rendered by transformers' own methods, with no cleaning up."""
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    kind = type(backend)
    own = (
        kind.decode is PreTrainedTokenizerBase.decode
        and kind._decode is PreTrainedTokenizerFast._decode
        and kind.apply_chat_template is PreTrainedTokenizerBase.apply_chat_template
        and kind.get_chat_template is PreTrainedTokenizerBase.get_chat_template
    )
    corrupting = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    left = type(raw.model).__name__ == "BPE" and not getattr(backend, corrupting, False)
    return own and (left or not backend.clean_up_tokenization_spaces)


def _is_same(kept: KeptBackend, backend: Any) -> bool:
    """Whether a few texts, and all added tokens, come out the same."""
    added = backend.added_tokens_decoder
    texts = [*TRIED, *(f"a{one.content}b {one.content} c" for one in added.values())]
    for special in (True, False):
        ids = backend(texts, add_special_tokens=special)["input_ids"]
        if ids != kept(texts, add_special_tokens=special)["input_ids"]:
            return False
        for skip in (True, False):
            shown = [backend.decode(one, skip_special_tokens=skip) for one in ids]
            if shown != [kept.decode(one, skip_special_tokens=skip) for one in ids]:
                return False
    same_added = {n: repr(one) for n, one in added.items()} == {
        n: repr(one) for n, one in kept.added_tokens_decoder.items()
    }
    return same_added and backend.get_vocab() == kept.get_vocab()
