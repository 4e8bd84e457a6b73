"""Which modules and weights an adapter is put on: PEFT's own rules, on names and shapes alone.

This is the one place that reads `target_modules` and what goes with it; the rules and every estimate ask
here. tests/estimate/test_lora_targets.py holds it against `peft.get_peft_model` (0.21.2).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftcheck import tables
from ftcheck.inputs.model_shape import Decoder, UnknownShape
from ftcheck.inputs.modules import Modules, decoder_modules
from ftcheck.settings import Lora

ALL_LINEAR = "all-linear"
LAYER = re.compile(r"(?P<stack>.*?\.[^.]*)\.(?P<index>\d+)(?:\.|$)")
OTHER_SENSES = re.compile(r"vision|visual|audio|image|speech")


@dataclass(frozen=True)
class Targets:
    """What LoRA is put on. `by_pattern` are the modules of each name in a list, excluded ones among them.

    `modules` are linear modules and tables with their inputs and outputs, `wrong` other modules that are
    named, `parameters` fused weights by name, each with its shape and rank; `lost` are target_parameters
    that match nothing, `converted` is true where PEFT makes fused weights of module names.
    """

    stated: str | tuple[str, ...]
    by_pattern: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    modules: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()
    parameters: Mapping[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    converted: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """Patterns that match no module."""
        return tuple(one for one, found in self.by_pattern.items() if not found)


def default_targets(model_type: str | None) -> str | tuple[str, ...] | None:
    """What PEFT targets where nothing is stated; None for an architecture it has no default for."""
    found = tables.load("lora_targets")["defaults"].get(model_type)
    return found if found is None or isinstance(found, str) else tuple(found)


def targets_of(lora: Lora, modules: Modules) -> Targets:
    """What `lora` is put on. Raises `re.error` for a pattern that is no regular expression."""
    stated = lora.target_modules if lora.target_modules is not None else default_targets(modules.model_type)
    fused = tuple(lora.extra.get("target_parameters") or ())
    family = expert_family(modules.model_type)
    exact = isinstance(stated, str) and not family
    patterns: tuple[str, ...] = () if stated is None else (stated,) if isinstance(stated, str) else stated
    if isinstance(stated, str) and family:
        patterns = _resolved(stated, lora, modules, family["parameters"]) or patterns
    converted = {} if exact else _converted(patterns, family, lora.r)
    ranks = {**dict.fromkeys(fused, lora.r), **dict(converted.values())}
    by_pattern = {one: _matched(one, lora, modules, exact=exact) for one in patterns if one not in converted}
    shapes = {**modules.linear, **modules.embeddings}
    named = [name for found in by_pattern.values() for name in found if not excluded(lora, name)]
    weights = {one: _weights(one, modules) for one in ranks}
    return Targets(
        stated=stated or (),
        by_pattern=by_pattern,
        modules={name: shapes[name] for name in named if name in shapes and _in_layers(lora, name)},
        wrong=tuple(name for name in named if name not in shapes and not _adaptable(name, modules)),
        parameters={
            name: (modules.parameters[name], _rank(lora, name, ranks[one]))
            for one, names in weights.items()
            for name in names
        },
        lost=tuple(one for one in fused if not weights[one]),
        converted=bool(converted),
    )


def expert_family(model_type: str | None) -> Mapping[str, Any]:
    """How the experts of an architecture were named before transformers 5 fused them; empty for others."""
    families = tables.load("lora_targets")["experts"].values()
    return next((one for one in families if model_type in one["models"]), {})


def _resolved(stated: str, lora: Lora, modules: Modules, names: Mapping[str, str]) -> tuple[str, ...]:
    """The names that PEFT makes of a text for such an architecture: `all-linear` has the experts in it."""
    if stated.lower() == ALL_LINEAR:
        return tuple(dict.fromkeys([*linear_names(modules), *names]))
    fits = re.compile(stated).fullmatch
    there = [one for one in (*modules.names, *modules.parameters) if fits(one) and not excluded(lora, one)]
    found = dict.fromkeys(one.rpartition(".")[2] for one in there)
    for old, new in names.items():
        owners = (one.rpartition(".")[0] for one in modules.parameters if one.rpartition(".")[2] == new)
        if any(fits(f"{owner}.{old}") for owner in owners):
            found[old] = None
    return tuple(found)


def _converted(patterns: Sequence[str], family: Mapping[str, Any], rank: int) -> dict[str, tuple[str, int]]:
    """Names of experts' modules that PEFT turns into fused weights, with those and their rank."""
    new, fused = family.get("parameters", {}), family.get("fused", {})
    return {
        one: (new[leaf], rank * len(fused.get(new[leaf], ["alone"])))
        for one in patterns
        if (leaf := one.rpartition(".")[2]) in new
    }


def _matched(pattern: str, lora: Lora, modules: Modules, *, exact: bool) -> tuple[str, ...]:
    """Modules that a pattern matches: a regular expression in full, or a name as a suffix."""
    if exact and pattern.lower() == ALL_LINEAR:
        return tuple(name for name in modules.linear if name != modules.head)
    if exact:
        fits = re.compile(pattern).fullmatch
        return tuple(name for name in modules.names if fits(name))
    return tuple(name for name in modules.names if _ends_with(name, pattern))


def _ends_with(name: str, pattern: str) -> bool:
    """Whether a pattern of a list is a name, or the end of one from a dot on."""
    return f".{name}".endswith(f".{pattern}")


def excluded(lora: Lora, name: str) -> bool:
    """Whether PEFT leaves a module out: by exclude_modules, or because it is trained whole."""
    stated = lora.extra.get("exclude_modules") or ()
    if isinstance(stated, str):
        left_out = re.fullmatch(stated, name) is not None
    else:
        left_out = any(_ends_with(name, one) for one in stated)
    return left_out or any(re.match(rf"(^|.*\.){one}($|\..*)", name) for one in lora.modules_to_save or ())


def trained_whole(lora: Lora, module: str) -> bool:
    """Whether modules_to_save trains a module whole, or one that it is in."""
    return saved_by(lora.modules_to_save or (), module)


def saved_by(saved: Sequence[str], module: str) -> bool:
    """The same by the names in modules_to_save.

    PEFT takes in every module whose name ends like that, with or without a dot before it: `norm` is
    every layer's `input_layernorm` too.
    """
    parts = module.split(".")
    owners = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return any(owner.endswith(tuple(saved)) for owner in owners)


def adapted(lora: Lora, name: str) -> bool:
    """Whether LoRA itself is put on a table."""
    stated = lora.target_modules
    if isinstance(stated, str):
        return stated.lower() != ALL_LINEAR and re.fullmatch(stated, name) is not None
    return any(_ends_with(name, one) for one in stated or ())


def _in_layers(lora: Lora, name: str) -> bool:
    """Whether layers_to_transform takes a module in; it holds for lists of names only."""
    wanted = lora.extra.get("layers_to_transform")
    if wanted is None or wanted == () or wanted == [] or isinstance(lora.target_modules, str):
        return True
    if lora.target_modules is not None and name in lora.target_modules:
        return True
    stated = lora.extra.get("layers_pattern") or ()
    patterns = (stated,) if isinstance(stated, str) else tuple(stated)
    expressions = [rf"(?:^|.*?\.){one}\.(\d+)\." for one in patterns] or [r".*?\.[^.]*\.(\d+)\."]
    found = next((match for one in expressions if (match := re.match(one, name))), None)
    return found is not None and int(found[1]) in ([wanted] if isinstance(wanted, int) else wanted)


def _adaptable(name: str, modules: Modules) -> bool:
    """Whether PEFT may know a module that is neither linear nor a table: a convolution."""
    return len(modules.parameters.get(f"{name}.weight", ())) > 2


def _weights(pattern: str, modules: Modules) -> list[str]:
    return [name for name in modules.parameters if _ends_with(name, pattern)]


def _rank(lora: Lora, name: str, default: int) -> int:
    """The rank of a module: rank_pattern's first pattern that fits its name."""
    stated = lora.extra.get("rank_pattern") or {}
    fitting = (rank for one, rank in stated.items() if re.match(rf"(.*\.)?({one})$", name))
    return int(next(fitting, default))


def adapter_weights(lora: Lora, found: Targets) -> int:
    """Trained weights of the low-rank matrices on modules."""
    magnitudes = 1 if lora.use_dora else 0
    return sum(
        _rank(lora, name, lora.r) * (inputs + outputs) + magnitudes * outputs
        for name, (inputs, outputs) in found.modules.items()
    )


def expert_weights(found: Targets) -> int:
    """Trained weights of the low-rank matrices on fused weights: PEFT makes one of each per expert."""
    return sum(
        rank * math.prod(shape[:-2]) * (shape[-1] + shape[-2])
        for shape, rank in found.parameters.values()
        if len(shape) in (2, 3)
    )


def trained_weights(lora: Lora, modules: Modules, found: Targets) -> int:
    """All that is trained: low-rank matrices on modules and on experts, and what is trained whole."""
    return adapter_weights(lora, found) + expert_weights(found) + saved_weights(lora, modules)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter on a plain decoder.

    `trained` counts all trained weights. `ranks` are the ranks on the linear modules of a layer by their
    last names, the largest where layers differ; `layers` is how many layers have any. `products` are the
    weights that every token is multiplied with; `head`: the output layer is trained whole. `down_ranks` are
    the ranks on down_proj, one for each layer that has it.
    """

    trained: int
    ranks: Mapping[str, int]
    layers: int
    products: int
    head: bool
    down_ranks: tuple[int, ...]


def decoder_adapter(lora: Lora, shape: Decoder) -> Adapter:
    """What `lora` trains on a decoder of which only the dimensions are known.

    Raises `UnknownShape` where PEFT would refuse it: nothing matches, or the pattern is not a regular
    expression.
    """
    modules = decoder_modules(shape)
    try:
        found = targets_of(lora, modules)
    except re.error as error:
        raise UnknownShape(f"{lora.target_modules!r} is not a regular expression: {error}") from error
    if found.wrong:
        raise UnknownShape(f"PEFT puts no LoRA on {found.wrong[0]}, which target_modules name")
    if not found.modules and not found.parameters:
        raise UnknownShape(f"target_modules {_stated(lora)} match no module of this model")
    each = {name: _rank(lora, name, lora.r) for name in found.modules}
    in_layers = {name: rank for name, rank in each.items() if name in modules.linear and name != modules.head}
    ranks: dict[str, int] = {}
    for name, rank in in_layers.items():
        leaf = name.rpartition(".")[2]
        ranks[leaf] = max(rank, ranks.get(leaf, 0))
    return Adapter(
        trained=trained_weights(lora, modules, found),
        ranks=ranks,
        layers=len({name.split(".")[2] for name in in_layers}),
        products=expert_weights(found)
        + sum(rank * _multiplied(name, modules) for name, rank in each.items()),
        head=trained_whole(lora, "lm_head"),
        down_ranks=tuple(rank for name, rank in in_layers.items() if name.endswith(".down_proj")),
    )


def _multiplied(name: str, modules: Modules) -> int:
    """Inputs and outputs of a linear module; a table's inputs are looked up, and multiply nothing."""
    if name in modules.linear:
        return sum(modules.linear[name])
    return modules.embeddings[name][1]


def _stated(lora: Lora) -> str:
    stated = lora.target_modules
    if stated is None:
        return "are null, and PEFT has no default for this model type: they"
    return stated if isinstance(stated, str) else ", ".join(stated)


def saved_weights(lora: Lora, modules: Modules) -> int:
    """Weights of modules that are trained whole, and of single rows of tables."""
    whole = {**modules.parameters}
    if modules.tied and modules.head is not None and modules.embedding is not None:
        whole[f"{modules.head}.weight"] = modules.embeddings[modules.embedding]
    owners = ((name.rpartition(".")[0], shape) for name, shape in whole.items())
    saved = sum(math.prod(shape) for owner, shape in owners if trained_whole(lora, owner))
    width = modules.embeddings[modules.embedding][1] if modules.embedding is not None else 0
    return saved + width * len({one for ids in token_indices(lora, "").values() for one in ids})


def token_indices(lora: Lora, embedding: str) -> dict[str, frozenset[int]]:
    """Rows that trainable_token_indices trains, by table; a plain list is about the `embedding`."""
    stated = lora.extra.get("trainable_token_indices") or ()
    by_table = stated if isinstance(stated, Mapping) else {embedding: stated}
    return {name: frozenset(one for one in ids if type(one) is int) for name, ids in by_table.items()}


def layers(modules: Modules) -> tuple[str, dict[str, int]]:
    """The decoder's stack, and the layer of each linear module in it; the one with most weights."""
    sizes: dict[str, int] = {}
    places: dict[str, dict[str, int]] = {}
    for name in modules.names:
        found = LAYER.match(name)
        if found is None or OTHER_SENSES.search(found["stack"]):
            continue
        places.setdefault(found["stack"], {})[name] = int(found["index"])
        sizes[found["stack"]] = sizes.get(found["stack"], 0) + math.prod(modules.linear.get(name, (0,)))
    stack = max(sizes, key=lambda one: sizes[one], default="")
    return stack, places.get(stack, {})


def linear_names(modules: Modules) -> list[str]:
    """The last parts of linear modules' names, each once, without the output layer."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in modules.linear if name != modules.head))


def instead(patterns: Sequence[str], lost: Sequence[str], modules: Modules) -> str | list[str]:
    """Names that exist, in place of those that do not: modules of the same role, else `all-linear`."""
    roles: Mapping[str, list[str]] = tables.load("lora_targets")["roles"]
    there = linear_names(modules)
    kept: list[str] = []
    for one in patterns:
        wanted = set(roles.get(one.rpartition(".")[2], ()))
        kept += [name for name in there if wanted & set(roles.get(name, ()))] if one in lost else [one]
    return list(dict.fromkeys(kept)) or ALL_LINEAR
