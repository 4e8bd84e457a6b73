"""What a packed batch does in a model whose layers carry a state from token to token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ftcheck import tables
from ftcheck.inputs.model_shape import text_config

TINY_MODEL = "a tiny model of the same class"
Outcome = Literal["isolated", "leaks", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """How the model treats two rows in one packed batch, against each row alone.

    `refused` means that the forward pass raises `message`; `leaks` that the second row's logits change with
    the row before it, by `difference` (relative to the largest logit). `source` says how this is known: a
    tiny model of the same class, or the dated table. `message` is the reason where it is `unknown`.
    """

    outcome: Outcome
    source: str
    message: str = ""
    difference: float | None = None


def is_recurrent(config: Mapping[str, Any]) -> bool:
    """Whether a config.json has layers that no attention mask isolates: state spaces, convolutions, RNNs."""
    table, text = tables.load("recurrent_models"), text_config(config)
    kinds = {config.get("model_type"), text.get("model_type")}
    if kinds & set(table["models"]):
        return True
    listed = [text.get(key) for key in table["layer_lists"]]
    layers = [one for found in listed if isinstance(found, list) for one in found]
    return any(isinstance(one, str) and one not in table["attention_layers"] for one in layers)
