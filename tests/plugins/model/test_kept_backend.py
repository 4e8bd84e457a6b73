"""Tokenizers that an earlier run kept: the same answers without transformers, and none where in doubt."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model import chat_environment, first_opening, tokenizer
from ftcheck_plugins.model.kept_backend import KeptBackend, facts_of, restored
from ftcheck_plugins.model.tokenizer import ChatTokenizer

from ftcheck.inputs.container import Inputs, Run
from ftcheck.settings import Data, Job, Model, Training
from tests.places import DATA

REAL = (
    "llama-3-instruct",
    "phi-3-mini-instruct",
    "Qwen3",
    "Mistral-7B-Instruct-v0.3",
    "gpt2",
    "Qwen2.5-Instruct",
)
TEXTS = (
    "",
    "one  two , three .",
    "naïve 漢字 👩‍👩‍👧\r\n\n",
    "<|eot_id|> <unk></s><|im_end|>",
    "It's 1234 + 5.6",
)
TURNS = (
    {"role": "user", "content": "What is 3 + 4?"},
    {"role": "assistant", "content": "It is 7.", "reasoning_content": "3 + 4"},
    {"role": "user", "content": "And <|im_end|>?"},
)


@pytest.fixture(autouse=True)
def cache_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where entries lie; and transformers opens all tokenizers that are not kept."""
    monkeypatch.setattr(first_opening, "found", lambda folder: None)
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prepared"


@pytest.fixture
def job(tmp_path: Path, samples: Path) -> Job:
    model = tmp_path / "model"
    shutil.copytree(samples / "models" / "mapper-tiny", model)
    return Job(name="job", model=Model(name=str(model)), data=Data(train="none.jsonl"))


def opened(job: Job, folder: Path) -> tuple[ChatTokenizer, list[str]]:
    """One run's tokenizer, and what came from the cache."""
    cached: list[str] = []
    run = Run(folder=folder, cache=True, cached=cached.append)
    made: Any = Inputs({"tokenizer": tokenizer.tokenizer}, {"run": run}, job).get("tokenizer")
    return made, cached


def answers(side: ChatTokenizer) -> dict[str, Any]:
    """What rules and the preparation ask of a tokenizer."""
    asked: dict[str, Any] = {
        "ids": [side.encode(text, special=special) for text in TEXTS for special in (True, False)],
        "named": [side.bos_token_id, side.eos_token_id, side.pad_token_id, side.turn_end_id],
        "sets": [sorted(side.special_ids), sorted(side.stop_ids)],
        "class": [side.class_name, side.size, side.chat_template, side.training_template],
        "shown": [side.show(side.encode(text)) + "|" + side.plain(side.encode(text)) for text in TEXTS],
        "specials": side.backend.special_tokens_map,
        "added": {n: repr(one) for n, one in side.backend.added_tokens_decoder.items()},
        "vocabulary": side.backend.get_vocab(),
    }
    if side.chat_template is not None:
        asked["rendered"] = [side.render(TURNS), side.render(TURNS, prompt=True, enable_thinking=False)]
    return asked


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_answer_the_same_from_what_was_kept(name: str, tmp_path: Path) -> None:
    folder = DATA / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("no shared data here")
    job = Job(name="job", model=Model(name=str(folder)), data=Data(train="none.jsonl"))

    first, none = opened(job, tmp_path)
    second, cached = opened(job, tmp_path)

    assert (none, cached) == ([], ["job.tokenizer"])
    assert (first.kept, second.kept) == (False, True)
    assert answers(second) == answers(first)


@pytest.mark.realdata
def test_a_tokenizer_that_shows_ids_in_its_own_way_is_not_kept(tmp_path: Path) -> None:
    folder = DATA / "tokenizers" / "phi-2"
    if not folder.is_dir():
        pytest.skip("no shared data here")
    job = Job(name="job", model=Model(name=str(folder)), data=Data(train="none.jsonl"))
    assert type(opened(job, tmp_path)[0].backend).__name__ == "CodeGenTokenizer"
    assert opened(job, tmp_path)[1] == []


def test_the_second_run_opens_it_without_transformers(job: Job, tmp_path: Path) -> None:
    opened(job, tmp_path)
    program = (
        "import sys\nfrom pathlib import Path\nfrom ftcheck.inputs.container import Run\n"
        "from ftcheck.settings import Data, Job, Model\n"
        "from ftcheck_plugins.model.tokenizer import tokenizer\n"
        f"job = Job(name='job', model=Model(name={job.model.name!r}), data=Data(train='none.jsonl'))\n"
        f"made = tokenizer.open(job, Run(folder=Path({str(tmp_path)!r}), cache=True))\n"
        f"made.render({list(TURNS)!r}); made.encode('x'); made.stop_ids; made.show([5])\n"
        "print(made.kept, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_another_byte_in_its_folder_is_another_tokenizer(job: Job, tmp_path: Path, file: str) -> None:
    opened(job, tmp_path)
    path = Path(job.model.name) / file
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")

    again, cached = opened(job, tmp_path)

    assert (again.kept, cached) == (False, [])


def test_other_libraries_and_other_code_are_another_tokenizer(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(job, tmp_path)
    for name, value in (("versions_of", lambda names: {"transformers": "9"}), ("code", lambda: "other")):
        with monkeypatch.context() as changed:
            changed.setattr(f"ftcheck_plugins.kept.{name}", value)
            assert opened(job, tmp_path)[1] == []
    assert opened(job, tmp_path)[1] == ["job.tokenizer"]


@pytest.mark.parametrize("file", ["value.json", "tokenizer.json"])
def test_an_entry_that_was_edited_is_not_used(
    job: Job, tmp_path: Path, file: str, cache_entries: Path
) -> None:
    first, _ = opened(job, tmp_path)
    [entry] = [one for one in cache_entries.iterdir() if (one / "value.json").is_file()]
    changed = (entry / file).read_text(encoding="utf-8").replace("eot_id", "xxx_id", 1)
    (entry / file).chmod(0o600)
    (entry / file).write_text(changed, encoding="utf-8")

    again, cached = opened(job, tmp_path)

    assert (again.kept, cached) == (False, [])
    assert answers(again) == answers(first)


def test_entries_that_others_may_write_are_not_used(job: Job, tmp_path: Path, cache_entries: Path) -> None:
    opened(job, tmp_path)
    cache_entries.chmod(0o777)
    assert opened(job, tmp_path)[1] == []


def test_code_of_its_own_is_never_kept(job: Job, tmp_path: Path) -> None:
    trusted = replace(job, model=replace(job.model, trust_remote_code=True))
    opened(trusted, tmp_path)
    assert opened(trusted, tmp_path)[1] == []


def test_an_eos_that_the_policy_names_is_the_one_of_the_kept_tokenizer_too(job: Job, tmp_path: Path) -> None:
    other = replace(job, training=Training(eos_token="<|pad|>"))
    first, second = opened(other, tmp_path)[0], opened(other, tmp_path)[0]
    assert second.kept
    assert answers(second) == answers(first)
    assert second.original.eos_token == "<|pad|>"
    assert opened(job, tmp_path)[0].eos_token_id != second.eos_token_id


def test_what_is_not_kept_is_asked_of_the_tokenizer_itself(job: Job, tmp_path: Path) -> None:
    opened(job, tmp_path)
    kept = opened(job, tmp_path)[0]
    kept.backend.chat_template = "{{ messages[0].content }}"
    assert kept.backend.padding_side == "right"
    assert type(kept.original).__name__ == kept.class_name
    assert kept.original.chat_template == "{{ messages[0].content }}"


def test_a_tokenizer_that_answers_otherwise_is_not_kept(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(job.model.name)
    found = facts_of(backend)
    assert found is not None
    facts = found[0]
    assert json.loads(json.dumps(facts)) == facts
    monkeypatch.setattr(KeptBackend, "decode", lambda *_, **__: "x")
    assert facts_of(backend) is None
    monkeypatch.undo()
    monkeypatch.setattr(chat_environment, "is_known", lambda: False)
    assert facts_of(backend) is None
    monkeypatch.undo()
    backend.split_special_tokens = True
    assert facts_of(backend) is None


def test_truncation_that_was_set_is_not_kept(job: Job, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(job.model.name)
    backend(["a b c d e"], truncation=True, max_length=2)
    found = facts_of(backend)
    assert found is not None
    (tmp_path / "tokenizer.json").write_bytes(found[1])
    kept = restored(found[0], tmp_path, lambda: backend)
    whole = backend(["a b c d e"], add_special_tokens=False)["input_ids"]
    assert kept(["a b c d e"], add_special_tokens=False)["input_ids"] == whole


def test_one_that_cannot_be_restored_is_opened_anew_and_not_said_to_be_cached(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(job, tmp_path)

    def broken(*_: Any) -> None:
        raise ValueError("of another release")

    monkeypatch.setattr(tokenizer, "restored", broken)
    again, cached = opened(job, tmp_path)
    assert (again.kept, cached) == (False, [])
