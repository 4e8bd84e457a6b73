"""Saves tokenizer and generation config into a temporary folder, as the trainer does, and loads them."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ftcheck import tables
from ftcheck.errors import FtcheckError, InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.dry_save import DrySave, SavedGeneration
from ftcheck.inputs.loader import loader
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.settings import Job
from ftcheck_plugins.kept import Kept
from ftcheck_plugins.model.config import GENERATION
from ftcheck_plugins.model.tokenizer import ChatTokenizer, made_of
from ftcheck_plugins.quiet_transformers import quiet_transformers

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"
PROBES: Mapping[str, str] = {
    "a sentence": "The quick brown fox jumps over the lazy dog.",
    "spaces": "  two before, one   two   three between, one after ",
    "lines": "one\n\n  two\r\n\tthree\n",
    "numbers": "3.14159 1,234,567 0x1F 2026-11-22",
    "scripts": "naïve café – Straße, Привет, 你好世界, こんにちは, हिन्दी, العربية",
    "emoji": "👩‍💻🚀✅",
    "code": 'def f(x):\n    return {"a": [x**2, None]}\n',
}
LIBRARIES = ("jinja2", "sentencepiece", "tiktoken", "tokenizers", "torch", "transformers")
"""Libraries that save and load."""
CONVERSATION = ({"role": "user", "content": "What is 3 + 4?"}, {"role": "assistant", "content": "It is 7."})


@loader("saved")
def saved(job: Job, run: Run, tokenizer: Tokenizer, model: ModelConfig) -> DrySave:
    """What saving leaves behind: files, tokenizer class, template, ids after loading again."""
    if not isinstance(tokenizer, ChatTokenizer):
        raise InputError(f"{tokenizer.path}: only a transformers tokenizer can be test-saved")
    kept = Kept(run, f"{job.label}.saved", "saved", partial(_made_of, job, run, tokenizer, model), LIBRARIES)
    found = kept.read_as(DrySave)
    if found is not None:
        return found
    run.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="saved-", dir=run.folder) as name, quiet_transformers():
        made = _tried(Path(name), job, tokenizer, model)
    if made.problem is None:
        kept.keep_record(made)
    return made


def _made_of(job: Job, run: Run, tokenizer: ChatTokenizer, model: ModelConfig) -> Any:
    """All that saving and loading again depends on beside libraries; None where that cannot be told."""
    path = job.model.tokenizer or job.model.name
    files = made_of(job, run, path, None if job.model.tokenizer else job.model.revision)
    if files is None:
        return None
    return {
        "tokenizer": files,
        "template": tokenizer.chat_template,
        "specials": tokenizer.backend.special_tokens_map,
        "model": [
            model.path,
            model.config,
            model.generation,
            (Path(model.path) / "tokenizer.model").is_file(),
        ],
        "adapter": job.training.lora is not None,
    }


def _tried(folder: Path, job: Job, tokenizer: ChatTokenizer, model: ModelConfig) -> DrySave:
    from transformers import __version__

    generation = _generation(folder / "model", job, tokenizer, model)
    target = folder / "tokenizer"
    try:
        tokenizer.original.save_pretrained(target)
    except Exception as error:
        problem = f"saving the tokenizer raised {_words(error)}"
        return DrySave(problem=problem, generation=generation, transformers=__version__)
    files = tuple(sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()))
    config = _json(target / CONFIG_FILE)
    kept = {
        "files": files,
        "tokenizer_config": {key: value for key, value in config.items() if key != "chat_template"},
        "template_file": _template_file(files, config),
        "generation": generation,
        "transformers": __version__,
    }
    try:
        again = _again(target, job)
    except Exception as error:
        return DrySave(problem=f"the saved tokenizer could not be loaded again: {_words(error)}", **kept)
    names, differing = _compared(tokenizer, again)
    return DrySave(
        probes=len(names), differing=differing, pretokenizer=_pretokenizer(target, model, again), **kept
    )


def _again(folder: Path, job: Job) -> ChatTokenizer:
    """The tokenizer that a server will load from what was saved."""
    from transformers import AutoTokenizer

    trusted = job.model.trust_remote_code
    backend = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted, local_files_only=True)
    return ChatTokenizer(backend, str(folder))


def _compared(before: ChatTokenizer, after: ChatTokenizer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the probes, and of those that are tokenised otherwise after loading again."""
    names, differing = [], []
    texts = {**PROBES, **_conversation(before)}
    for name, text in texts.items():
        names.append(name)
        if before.encode(text, special=True) != after.encode(text, special=True):
            differing.append(name)
    if "a conversation" in texts and _conversation(after) != _conversation(before):
        differing.append("the rendered conversation")
    return tuple(names), tuple(differing)


def _conversation(side: ChatTokenizer) -> dict[str, str]:
    """A rendered conversation; nothing without a template, or where the template refuses it."""
    if side.chat_template is None:
        return {}
    try:
        return {"a conversation": side.render(CONVERSATION)}
    except FtcheckError:
        return {}


def _template_file(files: tuple[str, ...], config: Mapping[str, Any]) -> str | None:
    if TEMPLATE_FILE in files:
        return TEMPLATE_FILE
    return CONFIG_FILE if config.get("chat_template") else None


def _generation(
    folder: Path, job: Job, tokenizer: ChatTokenizer, model: ModelConfig
) -> SavedGeneration | None:
    """Save the model's generation config as it stands after the trainer aligned its special tokens.

    One that holds together is saved whatever its tokens are, and beside an adapter none is saved: these
    are left as they are.
    """
    if not model.generation:
        return None
    from transformers import GenerationConfig

    path = str(Path(model.path) / GENERATION)
    source = folder.with_name("base")
    source.mkdir()
    (source / GENERATION).write_text(json.dumps(model.generation), encoding="utf-8")
    try:
        config = GenerationConfig.from_pretrained(source)
        contradictions = _contradictions(config)
        before = config.to_dict()
        if contradictions and job.training.lora is None:
            _align(config, tokenizer, model)
        changed = tuple(sorted(key for key, value in config.to_dict().items() if before.get(key) != value))
    except Exception as error:
        return SavedGeneration(path, refused=f"it could not be loaded: {_words(error)}")
    try:
        config.save_pretrained(folder)
    except Exception as error:
        return SavedGeneration(path, contradictions, changed, refused=_words(error))
    return SavedGeneration(path, contradictions, changed)


def _contradictions(config: Any) -> tuple[str, ...]:
    """What strict validation says against the file, by setting; empty where nothing."""
    try:
        config.validate(strict=True)
    except ValueError as error:
        lines = [line for line in str(error).splitlines() if line.startswith("- `")]
        return tuple(line.split("`")[1] for line in lines) or (_words(error),)
    return ()


def _align(config: Any, tokenizer: ChatTokenizer, model: ModelConfig) -> None:
    """What TRL (the padding token) and transformers' Trainer (EOS, BOS, padding) do before training."""
    backend = tokenizer.backend
    ids = {name: getattr(backend, name) for name in ("eos_token_id", "bos_token_id", "pad_token_id")}
    if ids["pad_token_id"] is None:
        ids["pad_token_id"] = ids["eos_token_id"]
    stated = _text_config(model)
    stated.pad_token_id = config.pad_token_id = ids["pad_token_id"]
    side = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: stated), generation_config=config)
    try:
        from transformers.trainer_utils import align_special_tokens
    except ImportError:
        return
    align_special_tokens(side, SimpleNamespace(**ids))


def _text_config(model: ModelConfig) -> Any:
    """The model's configuration with its class's defaults; as it stands in the file for unknown classes."""
    from transformers import AutoConfig

    stated = dict(model.config)
    try:
        return AutoConfig.for_model(stated.pop("model_type"), **stated).get_text_config()
    except Exception:
        names = ("eos_token_id", "bos_token_id", "pad_token_id")
        return SimpleNamespace(**{name: model.config.get(name) for name in names})


def _pretokenizer(folder: Path, model: ModelConfig, again: ChatTokenizer) -> str | None:
    """The hash that llama.cpp's converter takes of a fixed text's ids; None where it takes none.

    It goes by the hash for BPE without byte fallback only; SentencePiece vocabularies are copied.
    """
    found = _json(folder / "tokenizer.json").get("model") or {}
    if (Path(model.path) / "tokenizer.model").is_file() or found.get("byte_fallback"):
        return None
    if found.get("type") != "BPE":
        return None
    ids = again.encode(tables.load("llama_cpp_pretokenizers")["text"], special=True)
    return hashlib.sha256(str(ids).encode()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
