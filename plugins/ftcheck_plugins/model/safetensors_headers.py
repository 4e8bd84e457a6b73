"""Reads the headers of safetensors files, and lists a model's modules; weights stay on the disk."""

import importlib.util
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError
from ftcheck.inputs import bounded
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.model_shape import keys as shape_keys
from ftcheck.inputs.modules import Modules
from ftcheck.inputs.weights import (
    EMBEDDINGS,
    HEADS,
    Tensor,
    Weights,
    raw_header,
)
from ftcheck.paths import is_folder, model_folder
from ftcheck.plurals import counted
from ftcheck.settings import Job
from ftcheck_plugins.kept import Kept
from ftcheck_plugins.quiet_transformers import quiet_transformers

LIBRARIES = ("torch", "transformers")
"""Libraries that build a model."""
WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX = 64 << 20
MAX_TENSORS = 100_000
"""Tensors of one file. The largest published models have as many in all their files together."""
MAX_FILES = 2_000
MAX_LAYERS = 1_000
MAX_CONFIG = 1_000_000
TOWERS = ("depth", "num_nextn_predict_layers")
"""Keys for layers beside those of the text model."""
MAX_DIMENSIONS = 16
LARGEST = 1 << 62
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


@loader("weights")
def weights(job: Job, run: Run) -> Weights | None:
    """What the model's safetensors files hold, by their headers; None where none are on this machine."""
    folder = model_folder(job.model.name, job.model.revision)
    if folder is None:
        return None
    if (folder / WHOLE).is_file():
        return Weights(dict(header(folder / WHOLE)))
    if not (folder / INDEX).is_file():
        return None
    files = _files(folder / INDEX)
    missing = [name for name in files if not (folder / name).is_file()]
    if missing and not is_folder(Path(bounded.expanded(job.model.name))):
        return None
    if missing:
        many = counted(len(missing), "file")
        raise InputError(f"{folder / INDEX} names {missing[0]}, which does not exist ({many} missing)")
    found: dict[str, Tensor] = {}
    for name in files:
        for key, tensor in header(folder / name):
            if key in found:
                raise InputError(f"{folder / name}: tensor {_short(key)} is also in {found[key].path}")
            found[key] = tensor
    return Weights(found)


def _files(index: Path) -> list[str]:
    """The files that an index names, in order."""
    try:
        raw = bounded.read(index, MAX_INDEX)
    except OSError as error:
        raise InputError(f"{index}: cannot be read: {error.strerror or error}") from error
    value = _json(index, raw)
    named = value.get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(one, str) for one in named.values()):
        raise InputError(f"{index}: 'weight_map' must name a file for each tensor")
    files = sorted(set(named.values()))
    strange = [one for one in files if Path(one).name != one or "\\" in one or "\0" in one]
    if strange or len(files) > MAX_FILES:
        what = f"{_short(strange[0])}, which is not a file next to it" if strange else f"{len(files):,} files"
        raise InputError(f"{index}: names {what}")
    return files


def header(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one file. Raises `InputError` for a header that does not fit its file."""
    raw, size = raw_header(path)
    begin = 8 + len(raw)
    if raw.count(b'"dtype"') > MAX_TENSORS:
        raise InputError(f"{path}: the header names more than {MAX_TENSORS:,} tensors")
    entries = _json(path, raw)
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise InputError(f"{path}: the header names more than {MAX_TENSORS:,} tensors")
    found = [_tensor(path, name, about, begin, size) for name, about in entries.items()]
    _without_gaps(path, found, begin, size)
    return iter([(one.name, one) for one in found])


def _json(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        value = bounded.loads(raw.decode("utf-8"), pairs=_distinct)
    except ValueError as error:
        words = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: the header is not readable JSON: {words}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: must start with a JSON object that names its tensors")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate name")
    return made


def _tensor(path: Path, name: str, about: Any, base: int, size: int) -> Tensor:
    wrong = InputError(f"{path}: tensor {_short(name)}: needs 'dtype', 'shape' and 'data_offsets'")
    if not isinstance(about, dict) or not isinstance(about.get("dtype"), str):
        raise wrong
    dtype: str = about["dtype"]
    shape: Any = about.get("shape")
    offsets: Any = about.get("data_offsets")
    if not _counts(shape, MAX_DIMENSIONS) or not _counts(offsets, 2) or len(offsets) != 2:
        raise wrong
    start, stop = offsets
    if stop < start or base + stop > size:
        message = (
            f"bytes {start:,} to {stop:,} are outside the file, which has {size - base:,} after the header"
        )
        raise InputError(f"{path}: tensor {_short(name)}: {message}; the download may be incomplete")
    bits = BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != (stop - start) * 8:
        message = f"{dtype} of shape {shape} does not match {stop - start:,} bytes"
        raise InputError(f"{path}: tensor {_short(name)}: {message}")
    return Tensor(name, dtype, tuple(shape), str(path), base + start, base + stop)


def _counts(value: Any, most: int) -> bool:
    """Whether it is a short list of whole numbers from 0 on."""
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(type(one) is int and 0 <= one < LARGEST for one in value)


def _without_gaps(path: Path, tensors: list[Tensor], base: int, size: int) -> None:
    """As safetensors has it: one tensor begins where another ends, and the last one ends the file."""
    at = base
    for one in sorted(tensors, key=lambda one: (one.start, one.stop)):
        if one.start != at:
            what = "overlaps another" if one.start < at else "leaves a gap before it"
            raise InputError(f"{path}: tensor {_short(one.name)} {what}")
        at = one.stop
    if at != size:
        raise InputError(f"{path}: {size - at:,} bytes after the last tensor")


def _short(name: str) -> str:
    """A name from a file, fit for a message."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


# --- modules ------------------------------------------------------------------------------------------


@loader("modules")
def modules(job: Job, run: Run, model: ModelConfig, weights: Weights | None) -> Modules | None:
    """The model's modules: as transformers builds it (without weights), else by the names of its tensors.

    None where neither can be: an architecture that only its own code knows, and no weights here.
    """
    kept = Kept(run, f"{job.label}.modules", "modules", lambda: dict(model.config), LIBRARIES)
    found = kept.read_as(Modules)
    if found is not None:
        return found
    built = _built(model.config)
    if built is not None:
        kept.keep_record(built)
    return built or (_named(weights, model.config) if weights is not None else None)


def _built(config: Mapping[str, Any]) -> Modules | None:
    """From the model that transformers makes of config.json on the meta device."""
    if importlib.util.find_spec("torch") is None or not _modest(config):
        return None
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

    stated = deepcopy(  # transformers writes into its values
        {key: value for key, value in config.items() if key not in ("auto_map", "quantization_config")}
    )
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else "?"
    try:
        with quiet_transformers(), torch.device("meta"):
            made = AutoConfig.for_model(**stated)
            chosen: Any = getattr(transformers, architecture, None)
            usual = isinstance(chosen, type) and issubclass(chosen, PreTrainedModel)
            model = chosen._from_config(made) if usual else AutoModelForCausalLM.from_config(made)
    except Exception:
        return None
    return _of(model, str(config["model_type"]))


def _modest(config: Mapping[str, Any]) -> bool:
    """Whether a model of this size is built in seconds: what counts is its layers, and experts in each."""
    if not isinstance(config.get("model_type"), str) or len(str(config)) > MAX_CONFIG:
        return False
    parts = [config, *(value for value in config.values() if isinstance(value, dict))]
    layers, experts = (
        max((part[key] for part in parts for key in keys if isinstance(part.get(key), int)), default=1)
        for keys in ((*shape_keys("layers"), *TOWERS), shape_keys("experts"))
    )
    return layers <= MAX_LAYERS and layers * max(experts, 1) <= MAX_TENSORS


def _of(model: Any, model_type: str) -> Modules:
    import torch
    from transformers.pytorch_utils import Conv1D

    linear, embeddings = {}, {}
    named = list(model.named_modules())
    for name, module in named:
        if isinstance(module, torch.nn.Linear):
            linear[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            linear[name] = (module.weight.shape[0], module.weight.shape[1])
        elif isinstance(module, torch.nn.Embedding):
            embeddings[name] = (module.num_embeddings, module.embedding_dim)
    head = model.get_output_embeddings()
    place = None if head is None else next((name for name, module in named if module is head), None)
    parameters = {name: tuple(one.shape) for name, one in model.named_parameters()}
    return Modules(
        linear=linear,
        parameters=parameters,
        embeddings=embeddings,
        total=sum(math.prod(shape) for shape in parameters.values()),
        source="config.json",
        names=tuple(name for name, _ in named if name),
        head=place,
        tied=place is not None and f"{place}.weight" not in parameters,
        model_type=model_type,
    )


def _named(weights: Weights, config: Mapping[str, Any]) -> Modules:
    """By the names of tensors: 2-D weights that are no tables and no norms are linear modules."""
    linear, embeddings = {}, {}
    names: set[str] = set()
    for name, tensor in weights.tensors.items():
        module, _, kind = name.rpartition(".")
        parts = module.split(".")
        names.update(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        leaf = parts[-1]
        if kind != "weight" or len(tensor.shape) != 2:
            continue
        if leaf in (*EMBEDDINGS, "wpe") or ("embed" in leaf.lower() and leaf not in HEADS):
            embeddings[module] = (tensor.shape[0], tensor.shape[1])
        elif "norm" not in leaf.lower():
            linear[module] = (tensor.shape[1], tensor.shape[0])
    model_type = config.get("model_type")
    return Modules(
        linear=linear,
        parameters={name: tensor.shape for name, tensor in weights.tensors.items()},
        embeddings=embeddings,
        total=weights.total,
        source="the names of the tensors",
        names=tuple(sorted(names - {""})),
        head=next((name for name in linear if name.split(".")[-1] in HEADS), None),
        tied=weights.head is None,
        model_type=model_type if isinstance(model_type, str) else None,
    )
