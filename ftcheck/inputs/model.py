"""The base model's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftcheck.inputs.model_shape import ModelShape, model_shape, text_config


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The base model's config.json and generation_config.json, and where they lie; weights unread."""

    path: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> ModelShape:
        """Its dimensions, those of the text model where there are several."""
        return model_shape(self.config)

    @property
    def context(self) -> int | None:
        """Positions the model can take: max_position_embeddings, scaled where rope scaling says so."""
        base = self.shape.positions
        return None if base is None else _scaled(text_config(self.config), base)

    @property
    def stop_ids(self) -> frozenset[int]:
        """eos_token_id of the generation config, else of the config: one or several."""
        found = self.generation.get("eos_token_id", self.config.get("eos_token_id"))
        return frozenset(one for one in (found if isinstance(found, list) else [found]) if type(one) is int)


def _scaled(config: Mapping[str, Any], base: int) -> int:
    """`base` times the factor of linear, dynamic and yarn scaling; other kinds, and Gemma 3, count it in."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if not isinstance(factor, int | float) or str(config.get("model_type")).startswith("gemma3"):
        return base
    if kind == "yarn":
        return max(base, int(rope.get("original_max_position_embeddings", base) * factor))
    return int(base * factor) if kind in ("linear", "dynamic") else base
