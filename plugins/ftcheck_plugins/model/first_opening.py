"""A tokenizer as AutoTokenizer makes it of a folder, without importing transformers.

transformers and torch take seconds to import. Where its sources are, letter by letter, those that were read
(`tables/tokenizer_openings.json`), and a folder has nothing in it but what is known here, the same steps are
taken with the Rust library alone. With anything else in the folder the answer is None: then transformers
opens it. A test compares the two on real tokenizers.
"""

import fnmatch
import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ftcheck import tables
from ftcheck.inputs import bounded
from ftcheck_plugins.model import chat_environment

TOKENIZER, SETTINGS, MODEL = "tokenizer.json", "tokenizer_config.json", "config.json"
SPECIALS, TEMPLATE = "special_tokens_map.json", "chat_template.jinja"
IN_DOUBT = ("added_tokens.json", "additional_chat_templates", "tekken.json")
"""Files and folders beside a tokenizer that change what is made of it."""
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = {"content", "lstrip", "rstrip", "normalized", "single_word", "special", "__type"}
MAX_LAYERS = 1_000
VERSION = re.compile(r"\d+(\.\d+)*(\.dev\d+)?")
WHOLE = "TokenizersBackend"
"""The class that takes tokenizer.json as it is."""


class Doubt(Exception):
    """Something that is not known here."""


def is_known() -> bool:
    """Whether the installed transformers is one whose steps were read."""
    return _version() is not None and chat_environment.is_known()


def found(folder: Path) -> tuple[dict[str, Any], Any] | None:
    """Facts of a folder's tokenizer (see `kept_backend.facts_of`) and its Rust tokenizer; None in doubt."""
    if not is_known():
        return None
    try:
        return _made(folder)
    except (Doubt, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    except BaseException as error:  # tokenizers raises plain exceptions, and panics in Rust
        if type(error) is Exception or type(error).__name__ == "PanicException":
            return None
        raise


@cache
def _version() -> str | None:
    """The version of transformers of which each source has the digest in the table; None for any other."""
    spec = importlib.util.find_spec("transformers")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for version, files in tables.load("tokenizer_openings")["transformers"].items():
            if all(_digest(Path(location) / name) == digest for name, digest in files.items()):
                return str(version)
    return None


def _digest(path: Path) -> str | None:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" if path.is_file() else None


def _made(folder: Path) -> tuple[dict[str, Any], Any]:
    from tokenizers import Tokenizer as Raw

    if not folder.is_dir() or any((folder / name).exists() for name in IN_DOUBT):
        raise Doubt
    settings = _object(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    _check(settings, tables.load("tokenizer_openings")["settings"])
    kind = CLASSES[_class_of(folder, settings)]
    raw = Raw.from_file(str(folder / TOKENIZER))
    if raw.truncation is not None or raw.padding is not None:
        raise Doubt
    if settings.get("clean_up_tokenization_spaces") and type(raw.model).__name__ != "BPE":
        raise Doubt
    tokens = _Tokens.of(folder, settings, raw, kind)
    kind.shape(raw, settings)
    tokens.add(raw, again=kind.again)
    if raw.post_processor is None:
        from tokenizers import processors

        raw.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
    raw.encode_special_tokens = False
    return _facts(folder, settings, raw, kind, tokens), raw


def _object(path: Path) -> dict[str, Any]:
    """The object of a JSON file in UTF-8 without a mark: transformers reads no other."""
    value = bounded.loads(bounded.read_text(path))
    if not isinstance(value, dict):
        raise Doubt
    return value


def _facts(
    folder: Path, settings: Mapping[str, Any], raw: Any, kind: "_Class", tokens: "_Tokens"
) -> dict[str, Any]:
    ids = {name: raw.token_to_id(token) for name, token in tokens.texts.items()}
    if None in ids.values():
        raise Doubt
    file = folder / TEMPLATE
    template = settings.get("chat_template")
    if file.exists():  # read as text: any line break is one of Unix
        template = "\n".join(re.split(r"\r\n|\r|\n", bounded.read_text(file)))
    return {
        "class": kind.name,
        "size": raw.get_vocab_size(with_added_tokens=True),
        "chat_template": template,
        "special_tokens_map": tokens.texts,
        "ids": {name: ids.get(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")},
    }


# --- which class ----------------------------------------------------------------------------------------


def _class_of(folder: Path, settings: Mapping[str, Any]) -> str:
    """The class that AutoTokenizer chooses."""
    table = tables.load("tokenizer_openings")
    model_type = _model_type(folder)
    declared = settings.get("tokenizer_class")
    if any(fnmatch.fnmatch(str(folder).lower(), one) for one in table["names_of_tokenizers_backend"]):
        return WHOLE
    if declared is None:
        if model_type is not None:
            raise Doubt
        return WHOLE
    declared = declared.removesuffix("Fast")
    registered = None if model_type is None else table["model_types"][model_type]
    wrong = model_type in table["wrong_on_the_hub"]
    if declared == "LlamaTokenizer" and not wrong and _is_byte_level(folder):
        return WHOLE
    if registered is None or registered == declared:
        chosen = declared
    elif registered == WHOLE:
        chosen = WHOLE
    else:
        chosen = registered if wrong else declared
    return WHOLE if chosen == "PreTrainedTokenizer" else chosen


def _is_byte_level(folder: Path) -> bool:
    return b'"ByteLevel"' in bounded.read(folder / TOKENIZER)


def _model_type(folder: Path) -> str | None:
    """The type of the model beside the tokenizer; None without config.json. Raises `Doubt`."""
    if not (folder / MODEL).exists():
        return None
    table = tables.load("tokenizer_openings")
    config = _object(folder / MODEL)
    _check(config, table["model"])
    if config.get("model_type") not in table["model_types"]:
        raise Doubt
    heads, width = config.get("num_attention_heads", 1), config.get("hidden_size", 2)
    if width % heads or ("head_dim" not in config and width // heads % 2):
        raise Doubt
    for key in ("rope_scaling", "rope_parameters"):
        if config.get(key):
            _check_positions(config[key], table["positions"], config["model_type"] in table["scaled"])
    return str(config["model_type"])


def _check_positions(stated: Mapping[str, Any], known: Mapping[str, list[str]], scaled: bool) -> None:
    """Raise `Doubt` unless a way to scale positions is known and has its numbers, and no others."""
    way = stated.get("rope_type", stated.get("type", "default"))
    needed = known.get(way) if scaled or way == "default" else None
    numbers = {key for key, value in stated.items() if _is_of(value, "number")}
    if needed is None or not set(needed) <= numbers:
        raise Doubt
    if stated.keys() - {"rope_type", "type", "rope_theta", "partial_rotary_factor", *needed}:
        raise Doubt


def _check(stated: Mapping[str, Any], known: Mapping[str, list[str]]) -> None:
    """Raise `Doubt` for a key that is not known, or one with a value of another kind."""
    for key, value in stated.items():
        if key not in known or not any(_is_of(value, kind) for kind in known[key]):
            raise Doubt


def _is_of(value: Any, kind: str) -> bool:
    """Whether a value of JSON is of a kind that the table names."""
    return KINDS[kind](value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


KINDS: Mapping[str, Callable[[Any], bool]] = {
    "count": _is_count,
    "counts": lambda value: isinstance(value, list) and all(map(_is_count, value)),
    "dtype": lambda value: value in ("bfloat16", "float16", "float32"),
    "even": lambda value: _is_count(value) and value > 0 and value % 2 == 0,
    "layers": lambda value: _is_count(value) and value <= MAX_LAYERS,
    "no": lambda value: value is False,
    "null": lambda value: value is None,
    "number": _is_number,
    "object": lambda value: isinstance(value, dict),
    "positive": lambda value: _is_count(value) and value > 0,
    "real": lambda value: _is_number(value) and value > 0,
    "share": lambda value: isinstance(value, float) and 0 < value < 1,
    "side": lambda value: value in ("left", "right"),
    "text": lambda value: isinstance(value, str),
    "texts": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "version": lambda value: isinstance(value, str) and VERSION.fullmatch(value) is not None,
    "yes": lambda value: value is True,
}
"""Kinds of values: those of config.json are such as the configuration's class takes."""


# --- what a class makes of the file ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Class:
    """What a class of transformers does to what tokenizer.json describes.

    `shape` gives it the class's own parts. `defaults` are special tokens that are set unless the settings
    state others, and `again` says that the special tokens are added once more at the end.
    """

    name: str
    shape: Callable[[Any, Mapping[str, Any]], None]
    defaults: Mapping[str, str]
    again: bool = False


def _as_it_is(raw: Any, settings: Mapping[str, Any]) -> None:
    """Nothing is changed."""


def _set_switches(raw: Any, model: Mapping[str, Any], set_here: Mapping[str, Any]) -> None:
    """Raise `Doubt` unless the model is BPE of these switches; set those that the class sets."""
    if type(raw.model).__name__ != "BPE":
        raise Doubt
    for name, value in model.items():
        if (getattr(raw.model, name) or None) != (value or None):
            raise Doubt
    for name, value in set_here.items():
        setattr(raw.model, name, value)


def _as_qwen(raw: Any, settings: Mapping[str, Any]) -> None:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    switches = ("dropout", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges")
    _set_switches(raw, dict.fromkeys(switches), {"continuing_subword_prefix": "", "end_of_word_suffix": ""})
    raw.decoder = decoders.ByteLevel()
    raw.normalizer = normalizers.NFC()
    pattern = Regex(tables.load("tokenizer_openings")["qwen_words"])
    spaced = bool(settings.get("add_prefix_space"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=spaced, use_regex=False),
        ]
    )


def _as_llama(raw: Any, settings: Mapping[str, Any]) -> None:
    from tokenizers import decoders, pre_tokenizers

    switches = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    _set_switches(raw, dict.fromkeys(switches), {"unk_token": None, "fuse_unk": True, "byte_fallback": True})
    spaced = settings.get("add_prefix_space") is not False
    scheme = ("first" if settings.get("legacy", False) is False else "always") if spaced else "never"
    raw.normalizer = None
    raw.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    parts: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if spaced:
        parts.append(decoders.Strip(content=" ", left=1))
    raw.decoder = decoders.Sequence(parts)


QWEN_ENDS = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")
CLASSES = {
    WHOLE: _Class(WHOLE, _as_it_is, {}),
    "Qwen2Tokenizer": _Class("Qwen2Tokenizer", _as_qwen, QWEN_ENDS, again=True),
    "LlamaTokenizer": _Class(
        "LlamaTokenizer", _as_llama, {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    ),
}


# --- special and added tokens ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tokens:
    """A tokenizer's named special tokens, further ones, and the added tokens that are stated."""

    named: dict[str, Any]
    more: list[Any]
    stated: dict[int, Any]

    @classmethod
    def of(cls, folder: Path, settings: Mapping[str, Any], raw: Any, kind: _Class) -> "_Tokens":
        """As the settings state them; without added tokens there, as tokenizer.json has them."""
        values = dict(settings)
        if values.get("additional_special_tokens") is not None and not values.get("extra_special_tokens"):
            values["extra_special_tokens"] = values["additional_special_tokens"]
        there = raw.get_added_tokens_decoder()
        if "added_tokens_decoder" in settings:
            stated = {int(number): _added(one) for number, one in settings["added_tokens_decoder"].items()}
        else:
            stated = there
            values |= _older(folder)
        if kind.name != WHOLE and {n: repr(one) for n, one in stated.items()} != {
            n: repr(one) for n, one in there.items()
        }:
            raise Doubt  # the class begins without the file's
        known = {one.content: one for one in stated.values()}
        named = {name: _named(values.get(name, kind.defaults.get(name)), known) for name in NAMED}
        more = list(values.get("extra_special_tokens") or [])
        return cls({name: one for name, one in named.items() if one is not None}, more, stated)

    @property
    def texts(self) -> dict[str, str]:
        """The special tokens by name."""
        return {name: str(getattr(one, "content", one)) for name, one in self.named.items()}

    def add(self, raw: Any, *, again: bool) -> None:
        """Add them to the Rust tokenizer as `TokenizersBackend.__init__` does it."""
        from tokenizers import AddedToken

        adding = [one for _, one in sorted(self.stated.items())]
        there = [one.content for one in raw.get_added_tokens_decoder().values()]
        for one in (*self.named.values(), *self.more):
            text = str(getattr(one, "content", one))
            if text not in (*there, *(known.content for known in adding)):
                adding.append(one if isinstance(one, AddedToken) else AddedToken(text, special=True))
        for one in adding:
            one.special = one.special or one.content in self.texts.values()
        raw.add_tokens(adding)
        if again:
            texts = dict.fromkeys([*self.texts.values(), *map(str, self.more)])
            raw.add_tokens([AddedToken(text, special=True) for text in texts])


def _added(stated: Mapping[str, Any]) -> Any:
    """An added token as the settings describe it."""
    from tokenizers import AddedToken

    if stated.keys() - FLAGS:
        raise Doubt
    return AddedToken(**{key: value for key, value in stated.items() if key != "__type"})


def _named(value: Any, known: Mapping[str, Any]) -> Any:
    """A special token; the added one of the same text, where there is one."""
    if value is None:
        return None
    if isinstance(value, dict):
        if value.get("__type") != "AddedToken":
            raise Doubt
        value = _added(value)
    return known.get(getattr(value, "content", value), value)


def _older(folder: Path) -> dict[str, Any]:
    """Special tokens of special_tokens_map.json, which count where the settings list no added tokens."""
    if not (folder / SPECIALS).exists():
        return {}
    stated = _object(folder / SPECIALS)
    if stated.keys() - set(NAMED):
        raise Doubt
    return {
        key: {**value, "special": True, "__type": "AddedToken"} if isinstance(value, dict) else value
        for key, value in stated.items()
    }
