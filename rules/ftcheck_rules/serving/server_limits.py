"""The server rule: can the declared server load what this job will save?"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck import Finding, Job, Measurement, ModelConfig, Severity, Skip, Summary, rule, tables
from ftcheck.estimate.lora_targets import ALL_LINEAR, OTHER_SENSES
from ftcheck.extension.rules import Yield
from ftcheck.inputs import bounded
from ftcheck.inputs.dry_save import DrySave
from ftcheck.settings import Lora
from ftcheck_rules.serving.windows import before

NAMES = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tgi": "TGI",
    "ollama": "Ollama",
    "llama.cpp": "llama.cpp",
    "transformers": "transformers",
}
LOADS_WITH_TRANSFORMERS = ("vllm", "sglang", "transformers")
"""Engines that read tokenizer and template with the transformers installed beside them."""


@rule(
    "server-limits",
    family="serving",
    cases="ftcheck_rules.serving.cases.server_limits",
    only=("serving.engine", "serving.adapter", "serving.transformers"),
)
def server_limits(job: Job, saved: DrySave, model: ModelConfig) -> Iterator[Yield]:
    """The declared server can load what training saves: adapter, tokenizer, template and base model.

    What a server rejects shows after training: an adapter above its maximum rank, modules that are not LoRA
    matrices, a tokenizer class or a template file that its version does not know, a base model in a folder
    that only this machine has. An adapter whose names are not those of the served class is silently ignored.

    Checked where serving.engine, serving.adapter or serving.transformers is set, against dated tables of what
    engines and versions accept (serving_engines.json, llama_cpp_pretokenizers.json) and against the
    files that saving the tokenizer really writes. No parameters.
    """
    side = job.serving
    if side.engine is None and side.adapter is None and side.transformers is None:
        yield Skip("none of serving.engine, serving.adapter and serving.transformers is set")
        return
    said = [
        *_adapter(job),
        *_names(job, model),
        *_base_path(job),
        *_tokenizer_class(job, saved),
        *_template(job, saved),
    ]
    said += _pretokenizer(job, saved)
    yield from said
    looked = [one.name for one in said if isinstance(one, Measurement)]
    if not looked:
        yield Skip(f"no limit of {_name(job)} that applies to this job is known")
        return
    yield Summary(f"{_name(job)}: {', '.join(looked).replace('_', ' ')} checked")


def _name(job: Job) -> str:
    engine, version = job.serving.engine, job.serving.engine_version
    named = NAMES[engine] if engine is not None else "this server"
    return f"{named} {version}" if version else named


def _adapter(job: Job) -> Iterator[Yield]:
    """Rank and kind of the adapter, where the server loads it beside the base model."""
    if job.training.lora is None or job.serving.adapter != "separate":
        return
    table = tables.load("serving_engines")["adapters"].get(job.serving.engine or "", {})
    limit = job.serving.max_lora_rank or table.get("max_rank")
    if limit is not None:
        rank = _rank(job)
        yield Measurement("lora_rank", rank, limit=f"<= {limit}")
        yield from _above(job, rank, limit, table)
    for key, why in table.get("refuses", {}).items():
        yield from _refused(job, key, why)


def _rank(job: Job) -> int:
    """The largest rank of the adapter's matrices."""
    lora = job.training.lora
    if lora is None:
        return 0
    pattern = lora.extra.get("rank_pattern") or {}
    return max([lora.r, *(int(rank) for rank in pattern.values())])


def _above(job: Job, rank: int, limit: int, table: Mapping[str, Any]) -> Iterator[Finding]:
    ranks = table.get("ranks", [])
    if job.serving.max_lora_rank is not None and ranks and limit not in ranks:
        message = f"serving.max_lora_rank is {limit}, but {_name(job)} only accepts {_listed(ranks)}"
        why = "The server does not start with any other value."
        fix = f"set max_lora_rank to one of: {_listed(ranks)}"
        yield Finding(message, at=job.at("serving.max_lora_rank"), fix=fix, why=why)
    if rank <= limit:
        return
    by = "serving.max_lora_rank" if job.serving.max_lora_rank is not None else "its default"
    message = f"the adapter's rank is {rank}, but {_name(job)} loads adapters up to rank {limit} ({by})"
    enough = next((one for one in ranks if one >= rank), None)
    if enough is not None:
        fix = f"start the server with {table['flag']} {enough}, and set serving.max_lora_rank: {enough}"
    else:
        fix = "start the server for this rank and set serving.max_lora_rank, or serve the adapter merged"
    yield Finding(message, at=job.at("training.lora.r"), fix=fix)


def _listed(ranks: list[int]) -> str:
    return ", ".join(str(rank) for rank in ranks)


def _refused(job: Job, key: str, why: Mapping[str, str]) -> Iterator[Finding]:
    lora = job.training.lora
    value = getattr(lora, key, None) or (lora.extra.get(key) if lora is not None else None)
    if not value or value == "none":
        return
    message = f"{key} is set, but {_name(job)} only loads LoRA matrices ({why['says']}; {why['thread']})"
    fix = f"serve the adapter merged (serving.adapter: merged), or train without {key}"
    yield Finding(message, at=job.at(f"training.lora.{key}"), fix=fix)


def _names(job: Job, model: ModelConfig) -> Iterator[Yield]:
    """Names of an adapter's tensors that the class which the server loads does not have."""
    lora, kind = job.training.lora, _multimodal(model)
    known = tables.load("serving_engines")["adapters"].get(job.serving.engine or "", {}).get("names")
    if lora is None or kind is None or known is None or job.serving.adapter != "separate":
        return
    yield Measurement("served_class", kind)
    beside = _beside_the_text_model(lora)
    why = f"The server starts, answers, and ignores what was trained: {known['says']} ({known['thread']})."
    if job.trainer.use == "command":
        yield Finding(
            f"the base is multimodal ({kind}): if the command trains its text model alone"
            " (AutoModelForCausalLM), the adapter's names (model.layers.…) are not those of the class that"
            f" {_name(job)} loads (language_model.…), and are ignored",
            Severity.WARNING,
            at=job.at("model.name"),
            fix=f"load the base as {kind} (or AutoModelForImageTextToText) in training; or rename the"
            " adapter's tensors, or serve it merged (serving.adapter: merged)",
            why=why,
        )
    elif beside:
        yield Finding(
            f"the base is multimodal ({kind}), and {beside} puts LoRA on modules beside its text model too:"
            f" {_name(job)} loads adapters for the text model, and ignores the names of the others",
            Severity.WARNING,
            at=job.at("training.lora.target_modules"),
            fix="name modules of the text model alone in target_modules, or exclude the others with"
            " training.lora.exclude_modules",
            why=why,
        )


def _multimodal(model: ModelConfig) -> str | None:
    """The class of a base that has more than a text model; None for any other."""
    named = model.config.get("architectures")
    parts = [key for key in model.config if key.endswith("_config") and OTHER_SENSES.search(key)]
    if not isinstance(named, list) or not named or not parts or "text_config" not in model.config:
        return None
    kind = str(named[0])
    return None if kind.endswith("ForCausalLM") else kind


def _beside_the_text_model(lora: Lora) -> str | None:
    """The setting by which LoRA reaches the vision or audio part too; None where nothing says so."""
    if lora.extra.get("exclude_modules") or lora.target_modules != ALL_LINEAR:
        return None
    return "target_modules: all-linear"


def _base_path(job: Job) -> Iterator[Yield]:
    """adapter_config.json names the base as model.name does, which may be a folder that disappears."""
    if job.training.lora is None or job.serving.adapter != "separate" or job.serving.engine is None:
        return
    passing = _passing(job.model.name)
    yield Measurement("base_model", "a folder" if Path(job.model.name).is_absolute() else job.model.name)
    if passing is not None:
        yield Finding(
            f"adapter_config.json will name {job.model.name} as the base model, {passing}",
            Severity.WARNING,
            at=job.at("model.name"),
            fix="set model.name to the hub id, or to a folder that exists on the server too",
        )


def _passing(name: str) -> str | None:
    """Why a folder will not exist on the server; None if nothing speaks against it."""
    if not name.startswith(("/", "~", ".")):
        return None
    path = Path(bounded.expanded(name)).resolve()
    parts = path.parts
    if any(part.startswith("models--") for part in parts) and "snapshots" in parts:
        return "which is a snapshot in this machine's hub cache"
    temporary = {Path(folder).resolve() for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp")}
    return "which is a temporary folder of this machine" if temporary & set(path.parents) else None


def _reader(job: Job, saved: DrySave) -> str | None:
    """The version of transformers that reads the saved files; None where the engine uses none."""
    if job.serving.transformers is not None:
        return job.serving.transformers
    return saved.transformers or None if job.serving.engine in LOADS_WITH_TRANSFORMERS else None


def _loads_saved(job: Job) -> bool:
    """Whether the server loads the saved tokenizer, not its own or the base model's beside an adapter."""
    return job.serving.tokenizer is None and job.serving.adapter != "separate"


def _tokenizer_class(job: Job, saved: DrySave) -> Iterator[Yield]:
    version, name = _reader(job, saved), saved.tokenizer_class
    if version is None or name is None or not _loads_saved(job):
        return
    yield Measurement("tokenizer_class", name)
    if not before(version, "5"):
        return
    at = job.at("serving.transformers")
    known = tables.load("serving_engines")["tokenizer_classes"].get(name)
    if known is not None and before(version, known["from"]):
        yield Finding(
            f"transformers {saved.transformers} saves tokenizer_class {name}, which transformers {version} on"
            f" the server does not know: the server will not start ({known['thread']})",
            at=at,
            fix="install transformers 5 on the server, or set tokenizer_class: PreTrainedTokenizerFast in the"
            " saved tokenizer_config.json",
        )
    if isinstance(saved.tokenizer_config.get("extra_special_tokens"), list):
        yield Finding(
            f"transformers {saved.transformers} saves extra_special_tokens as a list, but transformers"
            f" {version} on the server expects a mapping: the server will not start",
            at=at,
            fix="install transformers 5 on the server, or rename the key to additional_special_tokens in the"
            " saved tokenizer_config.json",
        )


def _template(job: Job, saved: DrySave) -> Iterator[Yield]:
    """Whether the server reads the file that the chat template is saved in."""
    if saved.template_file is None or job.serving.chat_template is not None or not _loads_saved(job):
        return
    found = _blind(job, saved)
    if found is None:
        return
    yield Measurement("template_file", saved.template_file)
    if not saved.template_file.endswith(".jinja") or not found.reader:
        return
    yield Finding(
        f"the chat template will be saved in {saved.template_file}, but {found.reader} only reads"
        f" tokenizer_config.json ({found.thread})",
        Severity.WARNING,
        at=job.at(found.key),
        fix="write the template into the saved tokenizer_config.json too, as chat_template, or pass it to the"
        " server and set serving.chat_template",
        why="The server fails, or silently uses another template.",
    )


@dataclass(frozen=True, slots=True)
class Blind:
    """Who does not read the template's file, by the setting `key`; `reader` is empty if nobody."""

    key: str
    reader: str = ""
    thread: str = ""


def _blind(job: Job, saved: DrySave) -> Blind | None:
    """None where nothing is known of how the server reads templates."""
    table = tables.load("serving_engines")["template_file"]
    engine = table["engines"].get(job.serving.engine or "")
    if engine is not None:
        stated, first = job.serving.engine_version, engine["from"]
        reads = first is not None and stated is not None and not before(stated, first)
        return Blind("serving.engine", "" if reads else _name(job), engine["thread"])
    version = _reader(job, saved)
    if version is None:
        return None
    known = table["transformers"]
    blind = before(version, known["from"])
    return Blind("serving.transformers", f"transformers {version}" if blind else "", known["thread"])


def _pretokenizer(job: Job, saved: DrySave) -> Iterator[Yield]:
    """Whether llama.cpp's converter knows the tokenizer, which it identifies by a hash."""
    if job.serving.engine != "llama.cpp" or saved.pretokenizer is None or job.serving.tokenizer is not None:
        return
    table = tables.load("llama_cpp_pretokenizers")
    name = table["known"].get(saved.pretokenizer)
    yield Measurement("pretokenizer", name or "unknown")
    if name is None:
        yield Finding(
            f"llama.cpp's converter does not know this pre-tokenizer: its hash {saved.pretokenizer[:12]} is"
            f" not among the {len(table['known'])} known ones (as of {table['as_of']})",
            Severity.WARNING,
            at=job.at("serving.engine"),
            fix="convert the base model before training; added tokens and another BOS change the hash. A new"
            " hash must be added to convert_hf_to_gguf_update.py, and its splitting to llama.cpp",
            why="The converter refuses to write the GGUF file, after the whole training.",
        )
