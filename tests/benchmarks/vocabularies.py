"""Tokenizers like Falcon's and DeepSeek-V3's: their pre-tokenizers over vocabularies that are here.

Speed, and what gigatoken loads, depend on how texts are cut into words, which is theirs; the vocabularies are
GPT-2's and Qwen3's, with ChatML as the template, so that no files of the models are needed.
"""

import json
from pathlib import Path
from typing import Any

from tests.places import DATA

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}\n{% endfor %}"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def split(pattern: str) -> dict[str, Any]:
    """A pre-tokenizer that cuts out what a pattern finds."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


FALCON: list[dict[str, Any]] = [
    {"type": "Punctuation", "behavior": "Contiguous"},
    BYTES,
    {"type": "Digits", "individual_digits": False},
    split("[0-9][0-9][0-9]"),
]
DEEPSEEK = [  # line breaks are characters in the published pattern, no escapes (gigatoken names it)
    split(r"\p{N}{1,3}"),
    split("[一-龥぀-ゟ゠-ヿ]+"),
    split(
        (
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
        .replace(r"\r", "\r")
        .replace(r"\n", "\n")
    ),
    {**BYTES, "use_regex": False},
]


def made(folder: Path, base: str, words: list[dict[str, Any]]) -> Path:
    """A tokenizer in a folder: the vocabulary of one of the shared ones, cut into words in another way."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = json.loads((DATA / "tokenizers" / base / "tokenizer.json").read_text(encoding="utf-8"))
    stated["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": words}
    known = {one["content"] for one in stated["added_tokens"]}
    size = 1 + max([*stated["model"]["vocab"].values(), *(one["id"] for one in stated["added_tokens"])])
    for number, name in enumerate(one for one in ("<|im_start|>", "<|im_end|>") if one not in known):
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        stated["added_tokens"].append({"id": size + number, "content": name, "special": True, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(stated), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "chat_template": CHATML,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def falcon_like(folder: Path) -> Path:
    """Falcon's cutting over GPT-2's vocabulary: gigatoken does not load it."""
    return made(folder, "gpt2", FALCON)


def deepseek_like(folder: Path) -> Path:
    """DeepSeek-V3's cutting over Qwen3's vocabulary."""
    return made(folder, "Qwen3", DEEPSEEK)
