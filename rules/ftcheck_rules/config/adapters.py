"""Adapter rules: does LoRA reach what it names, and can the result be merged?"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ftcheck import (
    Change,
    Finding,
    Job,
    Machine,
    Measurement,
    ModelConfig,
    Severity,
    Skip,
    Summary,
    rule,
)
from ftcheck.estimate.lora_targets import (
    ALL_LINEAR,
    Targets,
    adapted,
    adapter_weights,
    expert_family,
    expert_weights,
    instead,
    layers,
    linear_names,
    targets_of,
    trained_weights,
    trained_whole,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.modules import Modules
from ftcheck.settings import Lora
from ftcheck_rules.tokens.vocabulary import tables_of

GIB = 1 << 30
TIED = ("embed_tokens", "lm_head")
"""The names under which PEFT's ensure_weight_tying knows tied tables."""
UNKNOWN = "the model's modules cannot be told: neither transformers nor weights on this machine list them"


@dataclass(frozen=True)
class LoraTargets:
    """Parameters of `lora-targets`."""

    max_trainable_share: float = 0.05
    """The share of the model's weights that LoRA on fused experts may train."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what is no share."""
        if not 0 < self.max_trainable_share <= 1:
            raise ValueError("max_trainable_share must lie above 0 and not above 1")


@rule("lora-targets", family="config", cases="ftcheck_rules.config.cases.adapters")
def lora_targets(
    job: Job, model: ModelConfig, modules: Modules | None, params: LoraTargets
) -> Iterator[Yield]:
    """Every module that LoRA names is there, every layer has some, and no more is trained than is meant.

    PEFT says nothing when one name of several matches no module: a fraction of the weights is trained, and
    the result is weak. When none matches, it stops after the model was loaded. On fused experts, LoRA makes
    matrices for each expert, which can be more weights than the memory holds.

    Matched as PEFT does, on the modules that transformers makes of config.json without weights, else on the
    names in the safetensors files. More LoRA weights than the modules have themselves are a warning.
    Parameter: max_trainable_share (default 0.05), for fused experts.
    """
    lora = job.training.lora
    if lora is None or modules is None:
        yield Skip("the whole model is trained, without LoRA" if lora is None else UNKNOWN)
        return
    try:
        found = targets_of(lora, modules)
    except re.error as error:
        message = f"{lora.target_modules!r} is no regular expression: {error}"
        yield Finding(message, at=job.at("training.lora.target_modules"), fix="write a list of names")
        return
    yield from _counted(lora, modules, found)
    yield from _unmatched(job, lora, modules, found)
    yield from _uncovered(job, lora, modules, found)
    yield from _too_much(job, lora, modules, found, params)


def _counted(lora: Lora, modules: Modules, found: Targets) -> Iterator[Yield]:
    _, places = layers(modules)
    covered, total = _covered(found, places), set(places.values())
    trained = trained_weights(lora, modules, found)
    share = trained / modules.total if modules.total else 0.0
    yield Measurement("modules", len(found.modules) + len(found.parameters))
    yield Measurement("patterns_unmatched", len(found.missing) + len(found.lost), limit="0")
    yield Measurement("layers", len(covered), limit=str(len(total)))
    yield Measurement("trainable", trained, unit="weights")
    yield Measurement("trainable_share", round(share, 6))
    yield Measurement("source", modules.source)
    said = f"{len(covered)} of {len(total)} layers, {trained:,} weights trained ({100 * share:.2g} %)"
    yield Summary(said)


def _covered(found: Targets, places: Mapping[str, int]) -> set[int]:
    owners = [name.rpartition(".")[0] for name in found.parameters]
    return {places[name] for name in (*found.modules, *owners) if name in places}


def _unmatched(job: Job, lora: Lora, modules: Modules, found: Targets) -> Iterator[Finding]:
    """Names that match nothing, or nothing that PEFT can adapt."""
    place = job.at("training.lora.target_modules")
    if not found.stated and not found.parameters and not found.lost:
        what = (
            f"PEFT has no default for {modules.model_type}" if lora.target_modules is None else "it is empty"
        )
        message = f"no target_modules: {what}. Linear modules: {_listed(linear_names(modules))}"
        yield Finding(message, at=place, fix="all-linear, or names", change=_change(job, ALL_LINEAR))
    elif found.missing:
        yield _missing(job, lora, modules, found)
    elif found.wrong:
        message = f"{found.wrong[0]} is neither linear nor an embedding, and PEFT adapts nothing else"
        message += f" ({len(found.wrong)} such modules are named)"
        names = instead([], [], modules)
        yield Finding(message, at=place, fix="name linear modules", change=_change(job, names))
    elif found.stated and not found.modules and not found.parameters:
        message = f"{found.stated!r} matches modules, but all are left out (exclude_modules, modules_to_save"
        yield Finding(message + ", layers_to_transform)", at=place, fix="leave fewer out")
    if found.lost:
        fused = [name for name, shape in modules.parameters.items() if len(shape) == 3]
        message = f"no weight is named {', '.join(found.lost)}"
        message += (
            f"; fused weights: {_listed(dict.fromkeys('.'.join(one.split('.')[-2:]) for one in fused))}"
        )
        yield Finding(message, at=job.at("training.lora.target_parameters"), fix="name weights that exist")


def _missing(job: Job, lora: Lora, modules: Modules, found: Targets) -> Finding:
    lost, names = found.missing, linear_names(modules)
    if isinstance(found.stated, str):
        new: str | list[str] = ALL_LINEAR
    else:
        new = instead(found.stated, lost, modules)
    here = f"; {len(found.modules)} modules match the others, and PEFT says nothing" if found.modules else ""
    message = f"no module matches {', '.join(lost)}{here}. Linear modules: {_listed(names)}"
    fix = f"target_modules: {new}"
    return Finding(message, at=job.at("training.lora.target_modules"), fix=fix, change=_change(job, new))


def _change(job: Job, new: str | Sequence[str]) -> Change:
    old = job.training.lora.target_modules if job.training.lora is not None else None
    stated = list(old) if isinstance(old, tuple) else old
    return Change(f"jobs.{job.name}.training.lora.target_modules", stated, new, safe=False)


def _listed(names: Collection[str], most: int = 12) -> str:
    shown = ", ".join(list(names)[:most])
    return (shown + (f" and {len(names) - most} more" if len(names) > most else "")) or "none"


def _uncovered(job: Job, lora: Lora, modules: Modules, found: Targets) -> Iterator[Finding]:
    """Layers without any LoRA, unless the policy chose layers itself."""
    _, places = layers(modules)
    covered, every = _covered(found, places), set(places.values())
    if not covered or covered == every or _chosen(lora):
        return
    left = sorted(every - covered)
    message = (
        f"{len(covered)} of {len(every)} layers have LoRA; {len(left)} have none, such as layer {left[0]}"
    )
    yield Finding(
        message,
        Severity.WARNING,
        at=job.at("training.lora.target_modules"),
        fix="target_modules: all-linear, or state layers_to_transform",
        change=_change(job, ALL_LINEAR),
    )


def _chosen(lora: Lora) -> bool:
    """Whether layers are named: by layers_to_transform, by a regular expression, by full names."""
    stated = lora.target_modules
    if lora.extra.get("layers_to_transform") is not None:
        return True
    if isinstance(stated, str):
        return stated.lower() != ALL_LINEAR
    return any(re.search(r"\.\d+\.", one) for one in stated or ())


def _too_much(
    job: Job, lora: Lora, modules: Modules, found: Targets, params: LoraTargets
) -> Iterator[Finding]:
    """More weights than is sensible: on fused experts, or more than the modules have themselves."""
    experts, others = expert_weights(found), adapter_weights(lora, found)
    own = sum(math.prod(shape) for shape in found.modules.values())
    share = experts / modules.total if modules.total else 0.0
    if found.parameters and lora.lora_dropout:
        message = f"lora_dropout is {lora.lora_dropout:g}, and PEFT takes none on fused weights"
        change = Change(f"jobs.{job.name}.training.lora.lora_dropout", lora.lora_dropout, 0.0, safe=False)
        yield Finding(message, at=job.at("training.lora.lora_dropout"), fix="lora_dropout: 0", change=change)
    if share > params.max_trainable_share:
        message = f"LoRA on {len(found.parameters)} fused weights trains {experts:,} weights,"
        message += f" {100 * share:.3g} % of the model, above {100 * params.max_trainable_share:g} %;"
        message += " every expert has matrices of its own"
        yield _fewer(job, lora, modules, found, message)
    if others > own > 0:
        message = f"LoRA of rank {lora.r} trains {others:,} weights, the modules under it have {own:,}"
        fix = "lower r, or train these modules whole"
        yield Finding(message, Severity.WARNING, at=job.at("training.lora.r"), fix=fix)


def _fewer(job: Job, lora: Lora, modules: Modules, found: Targets, message: str) -> Finding:
    """Leave the experts out, at the setting that names them."""
    key = "target_modules" if found.converted else "target_parameters"
    experts = expert_family(modules.model_type).get("parameters", {})
    others = [name for name in linear_names(modules) if name not in experts]
    path, old = f"jobs.{job.name}.training.lora.{key}", list(lora.extra.get("target_parameters") or ())
    change = _change(job, others) if found.converted else Change(path, old, None, safe=False)
    fix = "leave the experts out and target attention, or lower r"
    return Finding(message, Severity.WARNING, at=job.at(f"training.lora.{key}"), fix=fix, change=change)


@dataclass(frozen=True)
class Merge:
    """Parameters of `merge`."""

    overhead: float = 1.2
    """Memory for merging, as a multiple of the weights in bfloat16."""


@rule("merge", family="config", cases="ftcheck_rules.config.cases.adapters")
def merge(
    job: Job, model: ModelConfig, modules: Modules | None, machine: Machine, params: Merge
) -> Iterator[Yield]:
    """The adapter can be merged into its base without loss, where it is to be served merged.

    Tied tables are one in the merged model: what was trained in one of them only is overwritten, and the
    output is garbage. Merging into 4-bit weights rounds the adapter away. Merging loads the whole model in
    bfloat16: with too little memory the process is killed at the very end.

    Memory is asked for only where serving.adapter is `merged`, and only if no hardware.gpu says that all
    this happens elsewhere; it is this machine's memory, or that of its GPUs together, if larger. Parameter:
    overhead (default 1.2).
    """
    lora = job.training.lora
    merged = job.serving.adapter in ("merged", "merged-4bit")
    if lora is None:
        yield Skip("there is no adapter to merge")
        return
    known = tables_of(model, modules, None)
    whole = [one for one in (known.embedding, known.head) if trained_whole(lora, one)]
    with_lora = [one for one in (known.embedding, known.head) if adapted(lora, one) and one not in whole]
    yield Measurement("tied", known.tied)
    yield Measurement("embeddings_trained", len(whole) + len(with_lora))
    what = (
        "" if merged else "not merged when served" + ("" if whole or with_lora else ", no embedding trained")
    )
    yield Summary(" · ".join(filter(None, ("tied tables" if known.tied else "nothing is tied", what))))
    if known.tied and (whole or with_lora) and not _kept_tied(lora, [*whole, *with_lora]):
        yield _torn(job, whole, with_lora, merged=merged)
    if job.serving.adapter == "merged-4bit":
        yield _rounded(job)
    if job.serving.adapter == "merged":
        yield from _memory(job, modules, machine, params)


def _kept_tied(lora: Lora, names: Sequence[str]) -> bool:
    """Whether ensure_weight_tying holds: PEFT knows tables of two names only."""
    return bool(lora.extra.get("ensure_weight_tying")) and all(
        name.rpartition(".")[2] in TIED for name in names
    )


def _torn(job: Job, whole: Sequence[str], adapted: Sequence[str], *, merged: bool) -> Finding:
    key = "modules_to_save" if whole else "target_modules"
    names = [*whole, *adapted]
    message = f"{' and '.join(names)} would be trained, and input and output embedding are one tensor:"
    message += " the merged model ties them again" if merged else " the adapter keeps two of what was one"
    can = all(name.rpartition(".")[2] in TIED for name in names)
    path = f"jobs.{job.name}.training.lora.ensure_weight_tying"
    old = job.training.lora.extra.get("ensure_weight_tying") if job.training.lora is not None else None
    return Finding(
        message,
        Severity.ERROR if merged else Severity.WARNING,
        at=job.at(f"training.lora.{key}"),
        fix=("ensure_weight_tying: true, or " if can else "") + "leave them out",
        change=Change(path, old, True, safe=False) if can else None,
    )


def _rounded(job: Job) -> Finding:
    return Finding(
        "merging into 4-bit weights rounds what was learned: the merged model is not what was trained",
        Severity.WARNING,
        at=job.at("serving.adapter"),
        fix="merge into the base in bfloat16, and quantise that if it must be",
        change=Change(f"jobs.{job.name}.serving.adapter", "merged-4bit", "merged", safe=False),
    )


def _memory(job: Job, modules: Modules | None, machine: Machine, params: Merge) -> Iterator[Yield]:
    place = job.at("serving.adapter")
    if modules is None:
        yield Finding(f"how much memory merging takes cannot be told: {UNKNOWN}", Severity.INFO, at=place)
        return
    need = modules.total * 2 * params.overhead
    room = max(machine.memory, sum(gpu.memory or 0 for gpu in machine.gpus))
    elsewhere = job.hardware.gpu is not None
    limit = None if elsewhere else f"<= {room / GIB:.0f}"
    yield Measurement("merge_memory_gib", round(need / GIB, 1), unit="GiB", limit=limit)
    if need > room and not elsewhere:
        message = f"merging loads {modules.total:,} weights in bfloat16 and takes {need / GIB:,.0f} GiB;"
        message += f" this machine has {room / GIB:,.0f} GiB"
        fix = "merge on a larger machine (the adapter is saved first), or serve the adapter separately"
        change = Change(f"jobs.{job.name}.serving.adapter", "merged", "separate", safe=False)
        yield Finding(message, at=place, fix=fix, change=change)
