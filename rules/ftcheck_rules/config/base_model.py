"""Base model rule: is the base loaded and trained as the policy says, in spite of what its folder holds?"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftcheck import Change, Finding, Job, Measurement, ModelConfig, Severity, Summary, rule, tables
from ftcheck.extension.rules import Yield
from ftcheck.inputs.model_shape import text_config

TRAINER = "qlora"
ADAPTER = "adapter_config.json"
AT = "training.quantization"
WITHOUT = "name the base's unquantised weights (often a -bf16 or -BF16 repository)"


@rule("base-model", family="config", cases="ftcheck_rules.config.cases.base_model")
def base_model(job: Job, model: ModelConfig) -> Iterator[Yield]:
    """The base loads as the policy says: no other quantization, and no adapter in its folder.

    transformers loads a base that is published in MXFP4, FP8 or GPTQ by its own method, and refuses a
    BitsAndBytesConfig beside it; several methods cannot be trained at all, with an adapter or without. Both
    end the run after the base was downloaded. Where the folder holds an adapter, transformers silently loads
    it onto the base.

    Compares quantization_config in the base's config.json with training.quantization and training.lora. The
    methods are in a dated table (ftcheck/tables/quantization_methods.json). Looks for adapter_config.json
    beside config.json. No parameters.
    """
    yield from _adapter_beside(job, model)
    stated = stated_quantization(model.config)
    method = method_of(stated)
    yield Measurement("base_quantization", method)
    if method is None:
        yield Summary("the base is not quantised")
        return
    table = tables.load("quantization_methods")
    known = table["methods"].get(method)
    name = known["name"] if known is not None else method
    yield Summary(f"the base is quantised ({name})")
    if method in table["own"]:
        yield from _other_bits(job, stated)
    elif known is None:
        message = f"config.json states the quantization method {method}, which ftcheck does not know"
        yield Finding(message, Severity.INFO, at=job.at("model.name"))
        return
    else:
        yield from _refused(job, name)
    if job.training.lora is None:
        yield _untrained(job, name)
    elif known is not None and known["trains"] is False and not stated.get("dequantize"):
        yield _not_trainable(job, name)


def _adapter_beside(job: Job, model: ModelConfig) -> Iterator[Finding]:
    """PreTrainedModel.from_pretrained loads the adapter beside a config.json (transformers 5.23)."""
    path = Path(model.path) / ADAPTER
    if not path.is_file():
        return
    yield Finding(
        f"the base's folder contains {ADAPTER}: transformers silently loads that adapter onto the base",
        at=job.at("model.name"),
        fix="move the adapter's files out of the folder, or merge the adapter into the base",
        why="What is trained is another model than the one that was checked.",
    )


def stated_quantization(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """quantization_config of a config.json, of its text model where it stands there; empty without one."""
    places = [part.get(key) for part in (config, text_config(config)) for key in KEYS]
    return next((one for one in places if isinstance(one, Mapping)), {})


KEYS = ("quantization_config", "compression_config")


def method_of(stated: Mapping[str, Any]) -> str | None:
    """The quantization method; None for a base that is not quantised."""
    method = stated.get("quant_method")
    if isinstance(method, str):
        return method.lower()
    return "bitsandbytes" if stated.get("load_in_4bit") or stated.get("load_in_8bit") else None


def _refused(job: Job, name: str) -> Iterator[Finding]:
    """BitsAndBytesConfig over another method."""
    chosen = job.training.quantization
    if chosen is None or not (chosen.load_in_4bit or chosen.load_in_8bit):
        return
    bits = "load_in_4bit" if chosen.load_in_4bit else "load_in_8bit"
    yield Finding(
        f"the base is quantised in {name} already, and {bits} asks for bitsandbytes: transformers refuses to"
        " load it ('The model is quantized with … but you are passing a BitsAndBytesConfig config')",
        _sure(job),
        at=job.at(f"{AT}.{bits}"),
        fix=f"{WITHOUT}, or remove training.quantization",
        why="The run ends while the model loads.",
    )


def _sure(job: Job) -> Severity:
    """A command may load the base by other means than transformers."""
    return Severity.ERROR if job.trainer.use == TRAINER else Severity.WARNING


def _untrained(job: Job, name: str) -> Finding:
    return Finding(
        f"the base is quantised ({name}), and training.lora is not set: transformers trains no quantised"
        " weights",
        _sure(job),
        at=job.at("training.lora"),
        fix=f"set training.lora, or {WITHOUT}",
        why="The run ends before its first step.",
    )


def _not_trainable(job: Job, name: str) -> Finding:
    return Finding(
        f"the base is quantised in {name}, a method that does not support training in transformers (as of"
        f" {tables.load('quantization_methods')['as_of']})",
        _sure(job),
        at=job.at("model.name"),
        fix=f"{WITHOUT}; with training.quantization it is then quantised by bitsandbytes",
        why="The run ends before its first step ('that quantization method do not support training').",
    )


def _other_bits(job: Job, stated: Mapping[str, Any]) -> Iterator[Finding]:
    """A base in bitsandbytes' own format is loaded as it was quantised, whatever the policy says."""
    chosen = job.training.quantization
    if chosen is None:
        return
    for key in ("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type"):
        was, asked = stated.get(key), getattr(chosen, key)
        if was is not None and was != asked and not (key == "bnb_4bit_quant_type" and chosen.load_in_8bit):
            yield Finding(
                f"the base was quantised with {key} {_shown(was)}; the policy's {_shown(asked)} is ignored",
                Severity.WARNING,
                at=job.at(f"{AT}.{key}"),
                fix=f"set {key}: {_shown(was)}, or {WITHOUT}",
                change=Change(f"jobs.{job.name}.{AT}.{key}", asked, was, safe=False),
                why="The memory and the precision are those of the base's own quantization.",
            )


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
