"""A tokenizer's first opening without transformers: what AutoTokenizer makes of the folder, or nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model import first_opening
from ftcheck_plugins.model.first_opening import found
from ftcheck_plugins.model.kept_backend import facts_of

from ftcheck import tables
from tests.places import CHECKOUT, DATA

SAMPLES = CHECKOUT / "policies" / "samples" / "models"
OPENED = (
    "Llama-3.1-8B-Instruct",
    "Qwen2.5-Instruct",
    "Qwen3",
    "TinyLlama-1.1B-Chat-v1.0",
    "gpt2",
    "llama-2-in-the-wild",
    "llama-3-instruct",
    "phi-3-mini-instruct",
    "phi-3-mini-without-config",
)
"""Folders of the shared data that need no transformers."""
LEFT = ("Mistral-7B-Instruct-v0.3", "phi-2", "qwen2-instruct-vocab-merges")
"""Others: a family with several backends, a class of its own, no tokenizer.json."""


def by_transformers(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts, and the Rust tokenizer, as AutoTokenizer makes them."""
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(str(folder))
    kept = facts_of(backend)
    assert kept is not None
    return kept[0], json.loads(backend.backend_tokenizer.to_str())


def directly(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The same without transformers."""
    made = found(folder)
    return None if made is None else (made[0], json.loads(made[1].to_str()))


@pytest.fixture
def mapper(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLES / "mapper-tiny", tmp_path / "model"))


@pytest.mark.realdata
@pytest.mark.parametrize("name", OPENED)
def test_real_tokenizers_are_those_of_auto_tokenizer(name: str) -> None:
    folder = DATA / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("no shared data here")
    assert directly(folder) == by_transformers(folder)


@pytest.mark.realdata
@pytest.mark.parametrize("name", LEFT)
def test_others_are_left_to_transformers(name: str) -> None:
    folder = DATA / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("no shared data here")
    assert found(folder) is None


@pytest.mark.realdata
def test_every_shared_tokenizer_is_looked_at() -> None:
    folder = DATA / "tokenizers"
    if not folder.is_dir():
        pytest.skip("no shared data here")
    there = {one.name for one in folder.iterdir() if one.is_dir() and one.name != "config-only"}
    assert there == {*OPENED, *LEFT}


@pytest.mark.parametrize("name", ["mapper-tiny", "analyst-tiny"])
def test_sample_tokenizers_are_those_of_auto_tokenizer(name: str) -> None:
    assert directly(SAMPLES / name) == by_transformers(SAMPLES / name)


def edited(folder: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / file
    stated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    change(stated)
    path.write_text(json.dumps(stated), encoding="utf-8")


SAME: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "a token that is not there yet": ("tokenizer_config.json", lambda it: it.update(pad_token="<new>")),
    "tokens that replace those of the file": (
        "tokenizer_config.json",
        lambda it: it.update(extra_special_tokens=["<one>", "<two>"]),
    ),
    "no end of sequence": ("tokenizer_config.json", lambda it: it.pop("eos_token")),
    "a Fast name": ("tokenizer_config.json", lambda it: it.update(tokenizer_class="LlamaTokenizerFast")),
    "no class": ("tokenizer_config.json", lambda it: it.update(tokenizer_class="TokenizersBackend")),
    "special tokens in a file of their own": (
        "special_tokens_map.json",
        lambda it: it.update(
            unk_token={
                "content": "<unk>",
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "single_word": False,
            }
        ),
    ),
    "no post-processor": ("tokenizer.json", lambda it: it.update(post_processor=None)),
    "scaled positions": (
        "config.json",
        lambda it: it.update(rope_scaling={"rope_type": "linear", "factor": 2.0}),
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_edited_folders_are_opened_as_auto_tokenizer_does_it(mapper: Path, what: str) -> None:
    edited(mapper, *SAME[what])
    made = directly(mapper)
    assert made is not None
    assert made == by_transformers(mapper)


DOUBT: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "code of its own": (
        "tokenizer_config.json",
        lambda it: it.update(auto_map={"AutoTokenizer": ["a.B", None]}),
    ),
    "the model's own code": ("config.json", lambda it: it.update(auto_map={"AutoConfig": "a.B"})),
    "an unknown setting": ("tokenizer_config.json", lambda it: it.update(fix_mistral_regex=True)),
    "another class": ("tokenizer_config.json", lambda it: it.update(tokenizer_class="GemmaTokenizer")),
    "a special token of the model's own": (
        "tokenizer_config.json",
        lambda it: it.update(image_token="<image>"),
    ),
    "special tokens by name": (
        "tokenizer_config.json",
        lambda it: it.update(extra_special_tokens={"image_token": "<image>"}),
    ),
    "a special token that is a number": ("tokenizer_config.json", lambda it: it.update(pad_token=3)),
    "special tokens are split": ("tokenizer_config.json", lambda it: it.update(split_special_tokens=True)),
    "several templates": (
        "tokenizer_config.json",
        lambda it: it.update(chat_template=[{"name": "default", "template": "x"}]),
    ),
    "a family with several backends": ("config.json", lambda it: it.update(model_type="mistral")),
    "no model type": ("config.json", lambda it: it.pop("model_type")),
    "an unknown key of the model": ("config.json", lambda it: it.update(model_name="qwen2")),
    "a number that is a text": ("config.json", lambda it: it.update(hidden_size="128")),
    "heads that do not divide the width": ("config.json", lambda it: it.update(num_attention_heads=7)),
    "positions scaled in another way": (
        "config.json",
        lambda it: it.update(rope_scaling={"rope_type": "yarn", "factor": 2.0}),
    ),
    "a dtype that torch has not": ("config.json", lambda it: it.update(dtype="float7")),
    "a side that there is not": ("tokenizer_config.json", lambda it: it.update(padding_side="top")),
    "no heads": ("config.json", lambda it: it.update(num_attention_heads=0)),
    "truncation": (
        "tokenizer.json",
        lambda it: it.update(
            truncation={"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
        ),
    ),
    "a tokenizer.json of another kind": ("tokenizer.json", lambda it: it.update(model={})),
    "a list of older added tokens": ("added_tokens.json", lambda it: it.update({"<x>": 7})),
}


@pytest.mark.parametrize("what", DOUBT)
def test_in_doubt_transformers_opens_it(mapper: Path, what: str) -> None:
    assert found(mapper) is not None
    edited(mapper, *DOUBT[what])
    assert found(mapper) is None


def test_files_that_are_no_json_are_left_to_transformers(mapper: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        was = (mapper / name).read_bytes()
        for content in (b"{", b"[]", b"\xef\xbb\xbf" + was):
            (mapper / name).write_bytes(content)
            assert found(mapper) is None
        (mapper / name).write_bytes(was)
    assert found(mapper) is not None


def test_line_breaks_of_another_system_in_a_template_are_those_of_unix(mapper: Path) -> None:
    file = mapper / "chat_template.jinja"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n") + b"a\rb")
    made = directly(mapper)
    assert made is not None
    assert made == by_transformers(mapper)


def test_more_templates_in_a_folder_of_their_own_are_left_to_transformers(mapper: Path) -> None:
    (mapper / "additional_chat_templates").mkdir()
    assert found(mapper) is None


def test_a_first_opening_imports_neither_transformers_nor_torch(mapper: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom ftcheck.inputs.container import Run\n"
        "from ftcheck.settings import Data, Job, Model\n"
        "from ftcheck_plugins.model.tokenizer import tokenizer\n"
        f"job = Job(name='job', model=Model(name={str(mapper)!r}), data=Data(train='none.jsonl'))\n"
        f"made = tokenizer.open(job, Run(folder=Path({str(tmp_path)!r}), cache=False))\n"
        "made.render([{'role': 'user', 'content': 'x'}]); made.encode('x'); made.stop_ids; made.show([5])\n"
        "print(made.kept, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


def test_another_transformers_is_left_to_itself(mapper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_opening, "is_known", lambda: False)
    assert found(mapper) is None


def test_the_installed_sources_are_those_that_were_read() -> None:
    assert first_opening.is_known()


VALUES: tuple[Any, ...] = (
    0, 1, 2, 7, 64, 0.5, 1.5, -2, None, True, False, "x", "bfloat16", "5.0", [], [1], ["x"],
)  # fmt: skip


@pytest.mark.parametrize("model_type", ["llama", "phi3", "qwen2", "qwen3"])
def test_values_of_a_model_that_are_not_in_doubt_are_taken_by_its_configuration(
    model_type: str, tmp_path: Path
) -> None:
    """AutoTokenizer reads config.json first, and fails where that fails."""
    from transformers import AutoConfig

    taken = 0
    for key in tables.load("tokenizer_openings")["model"]:
        for value in VALUES:
            stated = {"hidden_size": 16, "num_attention_heads": 4, key: value, "model_type": model_type}
            (tmp_path / "config.json").write_text(json.dumps(stated), encoding="utf-8")
            try:
                first_opening._model_type(tmp_path)
            except first_opening.Doubt:
                continue
            made = AutoConfig.from_pretrained(str(tmp_path))
            assert made.model_type == model_type, (key, value)
            taken += 1
    assert taken > 80
