"""Adapter rules: does LoRA match the modules that it names, and can the adapter be merged?"""

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
    OTHER_SENSES,
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
from ftcheck.plurals import agreeing, counted
from ftcheck.settings import Lora
from ftcheck_rules.tokens.vocabulary import tables_of

GIB = 1 << 30
TIED = ("embed_tokens", "lm_head")
"""The names of tied embeddings that PEFT's ensure_weight_tying knows."""
UNKNOWN = "the model's modules are unknown: neither transformers nor weights on this machine list them"


@dataclass(frozen=True)
class LoraTargets:
    """Parameters of `lora-targets`."""

    max_trainable_share: float = 0.05
    """The share of the model's weights that LoRA on fused experts may train."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a share outside its range."""
        if not 0 < self.max_trainable_share <= 1:
            raise ValueError("max_trainable_share must be above 0 and at most 1")


@rule("lora-targets", family="config", cases="ftcheck_rules.config.cases.adapters")
def lora_targets(
    job: Job, model: ModelConfig, modules: Modules | None, params: LoraTargets
) -> Iterator[Yield]:
    """Every name in LoRA's targets matches a module, every layer is covered, and no excess is trained.

    PEFT is silent when one of several names matches no module: only a fraction of the weights is trained, and
    the result is weak. When no name matches, PEFT raises an error after the model has been loaded. On fused
    experts LoRA creates matrices for each expert, which can be more weights than fit into memory.

    Names are matched as PEFT does, against the modules that transformers builds from config.json without
    weights, else against the names in the safetensors files. More LoRA weights than the modules themselves
    have are a warning. Parameter: max_trainable_share (default 0.05), for fused experts.
    """
    lora = job.training.lora
    if lora is None or modules is None:
        yield Skip("training.lora is not set: all weights are trained" if lora is None else UNKNOWN)
        return
    try:
        found = targets_of(lora, modules)
    except re.error as error:
        message = f"target_modules {lora.target_modules!r} is not a valid regular expression: {error}"
        yield Finding(message, at=job.at("training.lora.target_modules"), fix="use a list of module names")
        return
    yield from _counted(lora, modules, found)
    yield from _unmatched(job, lora, modules, found)
    yield from _uncovered(job, lora, modules, found)
    yield from _too_much(job, lora, modules, found, params)
    yield from _other_senses(job, lora, found)


def _other_senses(job: Job, lora: Lora, found: Targets) -> Iterator[Finding]:
    """Modules of a vision or audio tower, which rows of text never reach."""
    unused = [name for name in found.modules if OTHER_SENSES.search(name)]
    if not unused or len(unused) == len(found.modules):
        return
    towers = sorted({_tower(name) for name in unused})
    key, old = "training.lora.exclude_modules", lora.extra.get("exclude_modules")
    new = f".*({'|'.join(re.escape(one) for one in towers)}).*"
    are = agreeing(len(unused), "is", "are")
    message = (
        f"{len(unused)} of {counted(len(found.modules), 'adapted module')} {are} in {', '.join(towers)}, such"
    )
    message += (
        f" as {unused[0]}: no row of text reaches them, and their adapters stay as they are at the start"
    )
    change = Change(f"jobs.{job.name}.{key}", old, new, safe=False) if old is None else None
    fix = f'set exclude_modules: "{new}"'
    why = "The adapter has tensors that were never trained; servers may refuse adapters on such modules."
    at = job.at("training.lora.target_modules")
    yield Finding(message, Severity.WARNING, at=at, fix=fix, change=change, why=why)


def _tower(name: str) -> str:
    """The part of a module's name that names the tower, such as `visual` or `vision_tower`."""
    return next(part for part in name.split(".") if OTHER_SENSES.search(part))


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
    said = f"{len(covered)} of {counted(len(total), 'layer')}"
    yield Summary(f"{said}, {counted(trained, 'weight')} trained ({100 * share:.2g} %)")


def _covered(found: Targets, places: Mapping[str, int]) -> set[int]:
    owners = [name.rpartition(".")[0] for name in found.parameters]
    return {places[name] for name in (*found.modules, *owners) if name in places}


def _unmatched(job: Job, lora: Lora, modules: Modules, found: Targets) -> Iterator[Finding]:
    """Names that match nothing, or nothing that PEFT can adapt."""
    place = job.at("training.lora.target_modules")
    if not found.stated and not found.parameters and not found.lost:
        what = (
            f"target_modules is not set, and PEFT has no default for {modules.model_type}"
            if lora.target_modules is None
            else "target_modules is empty"
        )
        message = f"{what}; the model's linear modules: {_listed(linear_names(modules))}"
        fix = "set target_modules: all-linear, or a list of names"
        why = "PEFT raises an error after the model has been loaded."
        change = _change(job, ALL_LINEAR)
        yield Finding(message, at=place, fix=fix, change=change, why=why)
    elif found.missing:
        yield _missing(job, lora, modules, found)
    elif found.wrong:
        message = f"target_modules matches {counted(len(found.wrong), 'module')} that"
        message += f" {agreeing(len(found.wrong), 'is', 'are')} neither linear nor an embedding, such as"
        message += f" {found.wrong[0]}"
        names = instead([], [], modules)
        why = "PEFT cannot adapt other modules, and raises an error after the model has been loaded."
        fix = "name linear modules only"
        yield Finding(message, at=place, fix=fix, change=_change(job, names), why=why)
    elif found.stated and not found.modules and not found.parameters:
        message = f"target_modules {found.stated!r} matches modules, but all of them are excluded"
        message += " (by exclude_modules, modules_to_save or layers_to_transform)"
        yield Finding(message, at=place, fix="exclude fewer modules")
    if found.lost:
        fused = [name for name, shape in modules.parameters.items() if len(shape) == 3]
        known = _listed(dict.fromkeys(".".join(one.split(".")[-2:]) for one in fused))
        message = f"target_parameters: no weight matches {', '.join(found.lost)}"
        message += f"; the model's fused weights: {known}"
        fix = "use names of existing weights"
        yield Finding(message, at=job.at("training.lora.target_parameters"), fix=fix)


def _missing(job: Job, lora: Lora, modules: Modules, found: Targets) -> Finding:
    lost, names = found.missing, linear_names(modules)
    if isinstance(found.stated, str):
        new: str | list[str] = ALL_LINEAR
    else:
        new = instead(found.stated, lost, modules)
    count = len(found.modules)
    match = agreeing(count, "matches", "match")
    here = f" ({counted(count, 'module')} {match} the other names)" if found.modules else ""
    message = f"target_modules: no module matches {', '.join(lost)}{here};"
    message += f" the model's linear modules: {_listed(names)}"
    fix = f"target_modules: {new}"
    why = (
        "PEFT ignores names that match nothing: fewer weights are trained than intended, without any message."
        if found.modules
        else "PEFT raises an error after the model has been loaded."
    )
    change = _change(job, new)
    return Finding(message, at=job.at("training.lora.target_modules"), fix=fix, change=change, why=why)


def _change(job: Job, new: str | Sequence[str]) -> Change:
    old = job.training.lora.target_modules if job.training.lora is not None else None
    stated = list(old) if isinstance(old, tuple) else old
    return Change(f"jobs.{job.name}.training.lora.target_modules", stated, new, safe=False)


def _listed(names: Collection[str], most: int = 12) -> str:
    shown = ", ".join(list(names)[:most])
    return (shown + (f" and {len(names) - most} more" if len(names) > most else "")) or "none"


def _uncovered(job: Job, lora: Lora, modules: Modules, found: Targets) -> Iterator[Finding]:
    """Layers without LoRA, unless the policy chose layers itself."""
    _, places = layers(modules)
    covered, every = _covered(found, places), set(places.values())
    if not covered or covered == every or _chosen(lora):
        return
    left = sorted(every - covered)
    have = agreeing(len(left), "has", "have")
    message = f"{len(left)} of {counted(len(every), 'layer')} {have} no LoRA module, such as layer {left[0]}"
    yield Finding(
        message,
        Severity.WARNING,
        at=job.at("training.lora.target_modules"),
        fix="set target_modules: all-linear, or layers_to_transform if this is intended",
        change=_change(job, ALL_LINEAR),
        why="Layers without an adapter stay as they are: fewer weights are trained than intended.",
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
    """More weights than is sensible: on fused experts, or more than the modules themselves have."""
    experts, others = expert_weights(found), adapter_weights(lora, found)
    own = sum(math.prod(shape) for shape in found.modules.values())
    share = experts / modules.total if modules.total else 0.0
    if found.parameters and lora.lora_dropout:
        message = f"lora_dropout is {lora.lora_dropout:g}, but PEFT supports no dropout on fused weights"
        change = Change(f"jobs.{job.name}.training.lora.lora_dropout", lora.lora_dropout, 0.0, safe=False)
        why = "PEFT raises an error after the model has been loaded."
        at = job.at("training.lora.lora_dropout")
        yield Finding(message, at=at, fix="set lora_dropout: 0", change=change, why=why)
    if share > params.max_trainable_share:
        message = f"LoRA on {counted(len(found.parameters), 'fused weight')} trains {experts:,} weights,"
        message += f" {100 * share:.3g} % of the model, above {100 * params.max_trainable_share:g} %:"
        message += " it adds matrices to every expert"
        yield _fewer(job, lora, modules, found, message)
    if others > own > 0:
        message = f"LoRA of rank {lora.r} trains {others:,} weights, more than its modules have ({own:,})"
        fix = "lower r, or train these modules in full (modules_to_save)"
        why = "At this rank LoRA costs more memory than training the modules themselves."
        yield Finding(message, Severity.WARNING, at=job.at("training.lora.r"), fix=fix, why=why)


def _fewer(job: Job, lora: Lora, modules: Modules, found: Targets, message: str) -> Finding:
    """Exclude the experts, at the setting that names them."""
    key = "target_modules" if found.converted else "target_parameters"
    experts = expert_family(modules.model_type).get("parameters", {})
    others = [name for name in linear_names(modules) if name not in experts]
    path, old = f"jobs.{job.name}.training.lora.{key}", list(lora.extra.get("target_parameters") or ())
    change = _change(job, others) if found.converted else Change(path, old, None, safe=False)
    fix = "remove the experts and target the attention modules only, or lower r"
    why = "Adapters on all experts can exceed the GPU's memory, and many servers cannot load them."
    at = job.at(f"training.lora.{key}")
    return Finding(message, Severity.WARNING, at=at, fix=fix, change=change, why=why)


@dataclass(frozen=True)
class Merge:
    """Parameters of `merge`."""

    overhead: float = 1.2
    """Memory needed for merging, as a multiple of the weights in bfloat16."""


@rule("merge", family="config", cases="ftcheck_rules.config.cases.adapters")
def merge(
    job: Job, model: ModelConfig, modules: Modules | None, machine: Machine, params: Merge
) -> Iterator[Yield]:
    """The adapter can be merged into its base without loss, where it is served merged.

    Tied embeddings are one tensor in the merged model: what was trained in only one of them is overwritten,
    and the output is garbage. Merging into 4-bit weights rounds the adapter away. Merging loads the whole
    model in bfloat16: with too little memory the process is killed at the very end.

    Memory is checked only where serving.adapter is `merged`, and only if hardware.gpu does not say that this
    happens elsewhere; it is this machine's memory, or the total memory of its GPUs if that is larger.
    Parameter: overhead (default 1.2).
    """
    lora = job.training.lora
    merged = job.serving.adapter in ("merged", "merged-4bit")
    if lora is None:
        yield Skip("training.lora is not set: there is no adapter to merge")
        return
    known = tables_of(model, modules, None)
    whole = [one for one in (known.embedding, known.head) if trained_whole(lora, one)]
    with_lora = [one for one in (known.embedding, known.head) if adapted(lora, one) and one not in whole]
    yield Measurement("tied", known.tied)
    yield Measurement("embeddings_trained", len(whole) + len(with_lora))
    what = (
        "" if merged else "adapter served unmerged" + ("" if whole or with_lora else ", no embedding trained")
    )
    tied = "tied embeddings" if known.tied else "no tied embeddings"
    yield Summary(" · ".join(filter(None, (tied, what))))
    if known.tied and (whole or with_lora) and not _kept_tied(lora, [*whole, *with_lora]):
        yield _torn(job, whole, with_lora, merged=merged)
    if job.serving.adapter == "merged-4bit":
        yield _rounded(job)
    if job.serving.adapter == "merged":
        yield from _memory(job, modules, machine, params)


def _kept_tied(lora: Lora, names: Sequence[str]) -> bool:
    """Whether ensure_weight_tying applies: PEFT knows embeddings of two names only."""
    return bool(lora.extra.get("ensure_weight_tying")) and all(
        name.rpartition(".")[2] in TIED for name in names
    )


def _torn(job: Job, whole: Sequence[str], adapted: Sequence[str], *, merged: bool) -> Finding:
    key = "modules_to_save" if whole else "target_modules"
    names = [*whole, *adapted]
    are = agreeing(len(names), "is", "are")
    message = f"{' and '.join(names)} {are} trained, but input and output embedding are tied (one tensor)"
    why = (
        "The merged model ties them again: what was trained in one of them is lost, the output is garbage."
        if merged
        else "The adapter stores two tensors for what is one in the base: it cannot be merged later."
    )
    can = all(name.rpartition(".")[2] in TIED for name in names)
    path = f"jobs.{job.name}.training.lora.ensure_weight_tying"
    old = job.training.lora.extra.get("ensure_weight_tying") if job.training.lora is not None else None
    return Finding(
        message,
        Severity.ERROR if merged else Severity.WARNING,
        at=job.at(f"training.lora.{key}"),
        fix=("set ensure_weight_tying: true, or " if can else "")
        + f"remove {' and '.join(names)} from {key}",
        change=Change(path, old, True, safe=False) if can else None,
        why=why,
    )


def _rounded(job: Job) -> Finding:
    return Finding(
        "serving.adapter is merged-4bit: merging into 4-bit weights rounds the adapter away",
        Severity.WARNING,
        at=job.at("serving.adapter"),
        fix="merge into the base in bfloat16, and quantise the result if needed",
        why="The served model is not the one that was trained and evaluated.",
        change=Change(f"jobs.{job.name}.serving.adapter", "merged-4bit", "merged", safe=False),
    )


def _memory(job: Job, modules: Modules | None, machine: Machine, params: Merge) -> Iterator[Yield]:
    place = job.at("serving.adapter")
    if modules is None:
        yield Finding(f"the memory that merging needs is unknown: {UNKNOWN}", Severity.INFO, at=place)
        return
    need = modules.total * 2 * params.overhead
    room = max(machine.memory, sum(gpu.memory or 0 for gpu in machine.gpus))
    elsewhere = job.hardware.gpu is not None
    limit = None if elsewhere else f"<= {room / GIB:.0f}"
    yield Measurement("merge_memory_gib", round(need / GIB, 1), unit="GiB", limit=limit)
    if need > room and not elsewhere:
        message = f"merging loads {modules.total:,} weights in bfloat16 and needs {need / GIB:,.0f} GiB;"
        message += f" this machine has {room / GIB:,.0f} GiB"
        fix = "merge on a larger machine (the adapter is saved first), or serve the adapter separately"
        change = Change(f"jobs.{job.name}.serving.adapter", "merged", "separate", safe=False)
        why = "The process is killed while merging, after the whole training."
        yield Finding(message, at=place, fix=fix, change=change, why=why)
