"""Programs against real ones: steps of TRL's SFTTrainer on the CPU, every storage counted, and their traces.

What differs on the CPU is what the stand-ins are for: TRL's loss has no Triton there (its own torch
operations run in the trace, too), and 4-bit layers are dequantised inside one operation.
"""

import tempfile
import weakref
from typing import Any

import pytest

from ftcheck import tables
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import Feed, Method
from tests.benchmarks import memory_model
from tests.estimate.memory.kit import SMALL
from tests.estimate.memory.test_trace import peaks

pytestmark = pytest.mark.filterwarnings("ignore")
for name in ("torch", "trl", "peft", "bitsandbytes", "datasets"):
    pytest.importorskip(name)

RANK = 8
GRANITE: dict[str, Any] = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.0078125,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
}
HEADS, PAD = {"head_dim": 32}, {"pad_token_id": 0}
FAMILIES: dict[str, dict[str, Any]] = {
    "granite": GRANITE,
    "gemma": HEADS,
    "gemma2": HEADS,
    "gemma3_text": HEADS,
    "glm": {**HEADS, **PAD},
    "glm4": {**HEADS, **PAD},
    "phi3": PAD,
    "qwen3": HEADS,
}
"""What a family's config.json has beside `SMALL`; nothing for others."""
SETTINGS: dict[str, dict[str, Any]] = {
    "NF4": {},
    "16-bit": {"bits": 16},
    "SDPA": {"attention": "sdpa"},
    "padded": {"padded": True},
    "eager, long": {"length": 512, "batch": 2},
    "label smoothing": {"smoothing": 0.1},
    "dropout": {"dropout": 0.1},
    "all kept": {"checkpointing": False},
    "16-bit, all kept": {"bits": 16, "checkpointing": False},
    "head trained whole": {"saved": ["lm_head"]},
    "16-bit, head trained whole": {"bits": 16, "saved": ["lm_head"]},
    "tables trained whole": {"saved": ["lm_head", "embed_tokens"]},
}


@pytest.mark.parametrize("given", SETTINGS.values(), ids=SETTINGS)
def test_a_real_step_of_trl_takes_what_its_trace_says(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = {"bits": 4, "attention": "eager", "checkpointing": True, "batch": 4, "length": 128, **given}
    assert _traced(setting) == pytest.approx(_really(setting, monkeypatch), rel=0.02)


@pytest.mark.parametrize("kind", tables.load("memory_evidence")["model_types_held_on_cpu"])
def test_layers_of_other_families_are_traced_as_they_are(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that they keep counts: granite multiplies its residual branch, gemma its embeddings, and so on."""
    config = {**SMALL, "model_type": kind, **FAMILIES.get(kind, {})}
    setting = {"bits": 16, "attention": "eager", "checkpointing": False, "batch": 4, "length": 128}
    setting["config"] = config
    assert _traced(setting) == pytest.approx(_really(setting, monkeypatch), rel=0.003)


def _traced(setting: dict[str, Any]) -> int:
    four = setting["bits"] == 4
    method = Method(
        bits=setting["bits"],
        rank=RANK,
        dropout=setting.get("dropout", 0.0),
        checkpointing=setting["checkpointing"],
        attention=setting["attention"],
        adapter_bytes=2 if four else 4,
        saved=tuple(setting.get("saved", ())),
    )
    program = Program(
        method,
        adapter="bfloat16" if four else "float32",
        loss="smoothed" if "smoothing" in setting else "tiled",
        triton=False,
    )
    feed = Feed(setting["batch"], setting["length"], masked="padded" in setting)
    return peaks(program, feed, **setting.get("config", {}))[0]


def _really(setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of the storages that are alive at once in a training step, beyond those that stood before it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    monkeypatch.setattr(memory_model, "TINY_SHAPE", SMALL)
    batch, length = setting["batch"], setting["length"]
    shorter = 40 if "padded" in setting else 0
    lengths = [length - shorter * (index % 2) for index in range(batch)]
    ids = [list(range(5, 5 + one)) for one in lengths]
    steps: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=_model(setting),
            args=SFTConfig(
                output_dir=folder,
                max_length=None,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=1,
                max_steps=1,
                bf16=True,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                dataset_kwargs={"skip_prepare_dataset": True},
                gradient_checkpointing=setting["checkpointing"],
                gradient_checkpointing_kwargs={"use_reentrant": False},
                label_smoothing_factor=setting.get("smoothing", 0.0),
            ),
            train_dataset=Dataset.from_list([{"input_ids": one, "labels": one} for one in ids]),
            processing_class=memory_model.any_tokenizer(),
            peft_config=LoraConfig(
                r=RANK,
                lora_dropout=setting.get("dropout", 0.0),
                target_modules="all-linear",
                modules_to_save=setting.get("saved"),
                task_type="CAUSAL_LM",
            ),
        )
        plain = trainer.training_step

        def counted(model: Any, inputs: Any, *args: Any, **rest: Any) -> Any:
            given = [one for one in inputs.values() if isinstance(one, torch.Tensor)]
            with _counting([*model.parameters(), *model.buffers(), *given]) as alive:
                made = plain(model, inputs, *args, **rest)
            steps.append(alive.peak)
            return made

        trainer.training_step = counted
        trainer.train()
    return steps[-1]


def _model(setting: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    if setting["bits"] == 4:
        model = memory_model.random_model(memory_model.TINY, "cpu")
    else:
        config = AutoConfig.for_model(**setting.get("config", SMALL))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.set_attn_implementation(setting["attention"])
    return model


def _counting(standing: list[Any]) -> Any:
    """A dispatch mode that counts real storages, those of `standing` left out; `peak` is the most at once."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counting(TorchDispatchMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self.known: dict[int, Any] = {}
            for one in standing:
                self.known[one.untyped_storage()._cdata] = one.untyped_storage()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            for one in tree_leaves(made):
                if isinstance(one, torch.Tensor):
                    self.see(one.untyped_storage())
            return made

        def see(self, storage: Any) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key not in self.known:
                self.known[key] = weakref.finalize(storage, self.gone, key, size)
                self.now += size
                self.peak = max(self.peak, self.now)

        def gone(self, key: int, size: int) -> None:
            del self.known[key]
            self.now -= size

    return Counting()
