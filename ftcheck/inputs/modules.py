"""The modules of a model by name, with their shapes: what adapters can be put on."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Modules:
    """Modules by the names that PEFT sees, without any weights.

    `linear` are inputs and outputs of linear modules, `embeddings` rows and width of tables, `parameters`
    the shapes of all weights (a tied one stands once); `names` are all modules. `head` is the output
    layer, where it is known, and `tied` says that its weight is the embedding's. `total` is the number of
    weights, `source` what all this was read from.
    """

    linear: Mapping[str, tuple[int, int]]
    parameters: Mapping[str, tuple[int, ...]]
    embeddings: Mapping[str, tuple[int, int]]
    total: int
    source: str
    names: tuple[str, ...] = field(default=())
    head: str | None = None
    tied: bool = False
    model_type: str | None = None

    @property
    def embedding(self) -> str | None:
        """The input embedding: the outermost table, and the largest where there are several."""
        found = sorted(self.embeddings, key=lambda name: (name.count("."), -self.embeddings[name][0]))
        return found[0] if found else None
