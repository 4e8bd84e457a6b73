import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.finished.dry_save import saved as open_saved
from ftcheck_plugins.model.config import model as open_model
from ftcheck_plugins.model.tokenizer import tokenizer as open_tokenizer

from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.dry_save import DrySave
from ftcheck.tables import load
from ftcheck.testing import job, tokenizer
from tests.places import SAMPLES

TINY = SAMPLES / "models" / "mapper-tiny"
VOID = {"do_sample": False, "temperature": 0.6}


def looked(folder: Path, generation: Mapping[str, Any] | None = None, **sections: Any) -> DrySave:
    """The sample model with another generation config, saved on trial."""
    base = folder / "model"
    shutil.copytree(TINY, base, ignore=shutil.ignore_patterns("*.safetensors"))
    if generation is not None:
        (base / "generation_config.json").write_text(json.dumps(generation))
    return opened(base, folder / "run", **sections)


def opened(base: Path, folder: Path, **sections: Any) -> DrySave:
    one, run = job(model={"name": str(base)}, **sections), Run(folder, offline=True)
    found: DrySave = open_saved.open(one, run, open_tokenizer.open(one, run), open_model.open(one, run))
    return found


def test_saving_leaves_the_class_and_the_template_of_transformers_5_and_no_folder(tmp_path: Path) -> None:
    found = looked(tmp_path)

    assert found.files == ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json")
    assert found.tokenizer_class == "TokenizersBackend"
    assert found.template_file == "chat_template.jinja"
    assert (found.probes, found.differing, found.problem) == (8, (), None)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_config_that_the_trainer_changes_and_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    found = looked(tmp_path, {"bos_token_id": 0, "eos_token_id": [5, 1], **VOID}).generation

    assert found is not None
    assert found.contradictions == ("temperature",)
    assert found.changed == ("pad_token_id",)
    assert found.refused is not None
    assert found.refused.startswith("ValueError: GenerationConfig is invalid")


@pytest.mark.parametrize(
    ("generation", "sections"),
    [
        ({"bos_token_id": 0, "eos_token_id": [5, 1], "pad_token_id": 2, **VOID}, {}),
        ({"eos_token_id": [5, 1], **VOID}, {"training": {"lora": {}}}),
    ],
)
def test_a_contradiction_is_saved_where_nothing_changes_or_an_adapter_is_saved(
    tmp_path: Path, generation: dict[str, Any], sections: dict[str, Any]
) -> None:
    found = looked(tmp_path, generation, **sections).generation

    assert found is not None
    assert (found.contradictions, found.refused) == (("temperature",), None)


def test_sampling_that_is_on_is_saved_whatever_the_trainer_sets(tmp_path: Path) -> None:
    found = looked(tmp_path, {"eos_token_id": 5, "do_sample": True, "temperature": 0.6}).generation

    assert found is not None
    assert (found.contradictions, found.refused) == ((), None)


def test_a_model_without_a_generation_config_has_none(tmp_path: Path) -> None:
    assert looked(tmp_path, {}).generation is None


def test_transformers_is_as_loud_afterwards_as_before(tmp_path: Path) -> None:
    level = logging.getLogger("transformers").level

    looked(tmp_path)

    assert logging.getLogger("transformers").level == level


def test_a_tokenizer_that_cannot_be_saved_is_an_input_error(tmp_path: Path) -> None:
    one = job(model={"name": str(TINY)})
    run = Run(tmp_path, offline=True)

    with pytest.raises(InputError, match="only a transformers tokenizer"):
        open_saved.open(one, run, tokenizer(), open_model.open(one, run))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "pretokenizer", "class_name"),
    [
        ("llama-3-instruct", "llama-bpe", "TokenizersBackend"),
        ("Qwen2.5-Instruct", "qwen2", "Qwen2Tokenizer"),
        ("qwen2-instruct-vocab-merges", "qwen2", "Qwen2Tokenizer"),
        ("phi-2", "phi-2", "CodeGenTokenizer"),
        ("gpt2", "gpt-2", "TokenizersBackend"),
        ("TinyLlama-1.1B-Chat-v1.0", None, "LlamaTokenizer"),
        ("Mistral-7B-Instruct-v0.3", None, "TokenizersBackend"),
    ],
)
def test_real_tokenizers_come_back_as_they_were_and_llama_cpp_knows_them(
    name: str, pretokenizer: str | None, class_name: str, tmp_path: Path, realdata: Path
) -> None:
    base = tmp_path / "model"
    base.mkdir()
    for path in (realdata / "tokenizers" / name).iterdir():
        (base / path.name).symlink_to(path)
    if not (base / "config.json").exists():
        (base / "config.json").write_text(json.dumps({"model_type": "llama"}))

    found = opened(base, tmp_path / "run")

    known = load("llama_cpp_pretokenizers")["known"]
    assert (found.problem, found.differing) == (None, ())
    assert (known.get(found.pretokenizer), found.tokenizer_class) == (pretokenizer, class_name)
    assert (found.pretokenizer is None) == (pretokenizer is None)
