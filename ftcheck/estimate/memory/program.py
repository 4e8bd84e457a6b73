"""What a training program does in a step, as far as its memory depends on it."""

from dataclasses import dataclass, field
from typing import Literal

from ftcheck.estimate.memory.allocator import Rules
from ftcheck.estimate.memory.shapes import Method

Loss = Literal["tiled", "model", "shifted", "smoothed"]
"""`tiled`: TRL's head in tiles, no logits. `model`: logits by the model, upcast, transformers' own loss;
`shifted`: the same with a copy of the shifted logits (transformers before 4.47); `smoothed`: the Trainer's
LabelSmoother on the logits."""


@dataclass(frozen=True, slots=True)
class Program:
    """`method` says how the model is trained; the rest, what the program around it does.

    Dtypes are torch's names. `dtype`: of the 16-bit base, and in which 4-bit layers compute. `plain`: of
    embedding, norms and head (float32 after peft's prepare_model_for_kbit_training); `tables`: of embedding
    and head where it is another (TRL 0.11 to 0.13 cast them back); `saved`: of modules trained whole.
    `autocast`: the forward pass runs under autocast to `dtype`. `holds_outputs`: the model's outputs, logits
    among them, live until the optimizer's step is over. `repeats_keys`: keys and values are repeated before
    attention. `capability` is the GPU's (7.5 is a T4); `clips`: gradients are clipped; `prepared`: the
    program calls prepare_model_for_kbit_training, which empties the cache. `on_cpu_first`: a 16-bit model is
    loaded on the CPU and moved. `triton`: TRL's tiles are folded by its kernels, else by torch's operations.
    `widened`: unquantised weights are float32 for a while before training. `rules` are the allocator's.
    """

    method: Method
    dtype: str = "bfloat16"
    plain: str = "bfloat16"
    tables: str | None = None
    adapter: str = "bfloat16"
    saved: str = "bfloat16"
    autocast: bool = True
    loss: Loss = "tiled"
    optimizer: str = "adamw_torch_fused"
    holds_outputs: bool = False
    repeats_keys: bool = False
    capability: tuple[int, int] | None = None
    clips: bool = True
    prepared: bool = False
    on_cpu_first: bool = False
    accumulation: int = 1
    triton: bool = True
    widened: bool = False
    rules: Rules = field(default_factory=Rules)

    def dtype_of(self, name: str) -> str:
        """Dtype of an unquantised weight by its name."""
        if self.tables is not None and any(part in name for part in ("embed_tokens", "lm_head")):
            return self.tables
        return self.plain
