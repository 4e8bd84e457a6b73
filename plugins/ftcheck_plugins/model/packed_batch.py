"""Runs one packed batch through a tiny random model of the base's class, against its rows alone.

Attention masks do not isolate rows in state-space, linear-attention and convolution layers: there the
model's own code either takes the row boundaries that TRL's collator passes on, or refuses, or ignores them.
"""

import importlib.util
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ftcheck import cache, tables
from ftcheck.digest import of_json
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.model_shape import text_config
from ftcheck.inputs.packed_batch import TINY_MODEL, Outcome, PackedBatch, is_recurrent
from ftcheck_plugins.preparation.collator import trl_source
from ftcheck_plugins.quiet_transformers import quiet_transformers

LENGTHS = (7, 9)
"""Tokens of the two rows of the batch."""
LEAK = 1e-4
"""A difference above this share of the largest logit is no rounding: in float32 that is below 1e-5."""
LIBRARIES = (
    "torch",
    "transformers",
    "kernels",
    "causal-conv1d",
    "mamba-ssm",
    "flash-linear-attention",
    "fla",
)
FILE = "packed_batch.json"
LISTS = ("layer_types", "layers_block_type")


@loader("packed_batch")
def packed_batch(run: Run, model: ModelConfig) -> PackedBatch | None:
    """How the base's class treats a packed batch; None for a model that isolates rows by attention masks."""
    config = model.config
    if not is_recurrent(config):
        return None
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        return listed(config, "torch is not installed here")
    found = _kept(run, config) or tried(config)
    if found.outcome == "unknown":
        return listed(config, found.message)
    _keep(run, config, found)
    return found


def listed(config: Mapping[str, Any], why: str) -> PackedBatch:
    """What the dated table says of the model type; `why` is the reason that no model was tried."""
    table = tables.load("recurrent_models")
    kinds = [text_config(config).get("model_type"), config.get("model_type")]
    found = next((table["models"][kind] for kind in kinds if table["models"].get(kind)), None)
    source = f"a table of {table['as_of']}"
    if found in ("isolated", "leaks"):
        return PackedBatch(found, source)
    if found is None:
        return PackedBatch("unknown", source, why)
    return PackedBatch("refused", source, f"transformers refuses packed rows without {found}")


# --- kept between runs ----------------------------------------------------------------------------------


def _key(config: Mapping[str, Any]) -> str:
    """What the outcome stands on: the config, the libraries with their kernels, and whether there is CUDA."""
    import torch

    stands_on = {
        "packed_batch": 1,
        "config": dict(config),
        "packages": {name: _version(name) for name in LIBRARIES},
        "keys": sorted(collated_keys()),
        "cuda": torch.cuda.is_available(),
    }
    return of_json(stands_on)


def _kept(run: Run, config: Mapping[str, Any]) -> PackedBatch | None:
    store = cache.usable_store(run.cache, run.note)
    found = None if store is None else store.find(_key(config))
    if found is None:
        return None
    try:
        return PackedBatch(**json.loads((found / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _keep(run: Run, config: Mapping[str, Any], found: PackedBatch) -> None:
    store = cache.usable_store(run.cache, run.note)
    if store is None:
        return
    content = json.dumps(asdict(found)).encode()
    with tempfile.TemporaryDirectory(dir=run.folder) as empty:
        store.keep(_key(config), Path(empty), {"split": "packed batch"}, {FILE: content})


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# --- the tiny model -------------------------------------------------------------------------------------


def tried(config: Mapping[str, Any]) -> PackedBatch:
    """One packed batch through a tiny model, on the CPU. Never raises."""
    import torch

    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _tiny(config)
            rows = [torch.randint(10, 60, (1, length)) for length in LENGTHS]
            alone = [_logits(model, {"input_ids": row}) for row in rows]
            again, batch = _logits(model, {"input_ids": rows[0]}), _batch(rows)
            if _apart(again, alone[0]) > LEAK * float(again.abs().max()):
                raise ValueError("two passes over one row differ")
    except Exception as error:
        return PackedBatch("unknown", TINY_MODEL, f"no tiny {_kind(config)} could be run: {_words(error)}")
    try:
        with quiet_transformers():
            packed = _logits(model, batch)
    except Exception as error:
        return PackedBatch("refused", TINY_MODEL, _words(error))
    pieces = packed.split(list(LENGTHS), dim=1)
    difference = max(_apart(*pair) for pair in zip(pieces, alone, strict=True)) / max(
        float(one.abs().max()) for one in alone
    )
    outcome: Outcome = "leaks" if not difference <= LEAK else "isolated"
    return PackedBatch(outcome, TINY_MODEL, difference=round(difference, 9))


def _apart(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def _tiny(config: Mapping[str, Any]) -> Any:
    """The text model with a few small layers, one of each kind, and without dropout."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    stated = {key: value for key, value in config.items() if key not in ("auto_map", "quantization_config")}
    made = AutoConfig.for_model(**stated).get_text_config()
    small = shrunk(made.to_dict())
    small["model_type"] = made.model_type
    model = AutoModelForCausalLM.from_config(type(made)(**small))
    return model.to(torch.float32).train()


def shrunk(config: Mapping[str, Any]) -> dict[str, Any]:
    """A text config with small dimensions and one layer of each kind that it has, two at least."""
    table = tables.load("recurrent_models")
    small = {key: value for key, value in config.items() if key not in table["dropped"]}
    small |= {key: value for key, value in table["small"].items() if small.get(key) is not None}
    for key in table["at_most_two"]:
        if isinstance(small.get(key), int):
            small[key] = min(2, small[key])
    small |= {key: 0.0 for key, value in small.items() if "dropout" in key and isinstance(value, float)}
    count = 2
    for key in LISTS:
        if isinstance(small.get(key), list) and small[key]:
            kinds = list(dict.fromkeys(small[key]))
            small[key] = kinds * (2 if len(kinds) == 1 else 1)
            count = len(small[key])
    small["num_hidden_layers"] = count
    for key in table["per_layer"]:
        if isinstance(small.get(key), list):
            small[key] = small[key][-count:]
    return small


def _batch(rows: list[Any]) -> dict[str, Any]:
    """The rows as one packed row, with the keys that TRL's collator passes to the model."""
    import torch

    lengths = torch.tensor([row.shape[1] for row in rows])
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(torch.int32)
    longest = int(lengths.max())
    batch = {
        "input_ids": torch.cat(rows, dim=1),
        "position_ids": torch.cat([torch.arange(int(one)) for one in lengths])[None],
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
        "seq_idx": torch.repeat_interleave(torch.arange(len(rows), dtype=torch.int32), lengths)[None],
    }
    return {key: value for key, value in batch.items() if key in collated_keys()}


def collated_keys() -> frozenset[str]:
    """The keys that the installed TRL's collator puts into a batch, by its source; TRL 1.16's without TRL."""
    found = re.findall(r'output\["(\w+)"\]', trl_source() or "")
    return frozenset(found) or frozenset(tables.load("recurrent_models")["collated"])


def _logits(model: Any, batch: Mapping[str, Any]) -> Any:
    import torch

    with torch.no_grad():
        return model(**batch, use_cache=False).logits


def _kind(config: Mapping[str, Any]) -> str:
    return str(text_config(config).get("model_type") or config.get("model_type"))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
