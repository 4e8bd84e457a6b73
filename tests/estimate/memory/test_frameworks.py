"""The program that a framework's configuration says, and the allocator's settings of a job."""

from pathlib import Path
from typing import Any

import pytest

from ftcheck.estimate.memory.allocator import Rules
from ftcheck.estimate.memory.frameworks import Programs, programs, read_rules, rules
from ftcheck.importers import importing
from ftcheck.inputs.machine import Gpu, Machine
from ftcheck.settings import TrainerChoice
from tests.estimate.memory.kit import a_job, known

LLAMA = known("Meta-Llama-3-8B-Instruct")
COMMAND = TrainerChoice(use="command", argv=("python", "train.py"))
AXOLOTL = "base_model: m\nadapter: qlora\nload_in_4bit: true\nlora_r: 16\nlora_target_linear: true\n"
FACTORY = "model_name_or_path: m\nstage: sft\nfinetuning_type: lora\ntemplate: llama3\ndataset: d\n"


def of(tmp_path: Path, text: str, framework: str, **given: Any) -> Programs:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    found = importing.read(framework, file, folder=tmp_path)
    assert found.imported is not None, found.problems
    job = a_job(trainer=COMMAND, **given)
    object.__setattr__(job, "imported", found.imported)
    return programs(job, LLAMA, None)


def test_axolotl_trains_float32_adapters_and_full_logits_unless_a_kernel_is_named(tmp_path: Path) -> None:
    made = of(tmp_path, AXOLOTL, "axolotl")
    program = made.likely
    assert made.most == program
    assert (program.adapter, program.plain, program.loss) == ("float32", "bfloat16", "model")
    assert program.widened
    assert program.prepared
    assert program.rules.expandable_segments
    assert made.lighter, "its LoRA kernels are on where no key says otherwise"
    assert not of(tmp_path, f"{AXOLOTL}lora_mlp_kernel: false\n", "axolotl").lighter
    assert (
        of(tmp_path, f"{AXOLOTL}peft_autocast_adapter_dtype: false\n", "axolotl").likely.adapter == "bfloat16"
    )


@pytest.mark.parametrize(
    "more",
    [
        "cut_cross_entropy: true\n",
        "liger_fused_linear_cross_entropy: true\n",
        "plugins:\n  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin\n",
    ],
)
def test_axolotl_with_a_fused_loss_has_no_logits(tmp_path: Path, more: str) -> None:
    assert of(tmp_path, AXOLOTL + more, "axolotl").likely.loss == "tiled"


def test_llama_factory(tmp_path: Path) -> None:
    made = of(tmp_path, FACTORY, "llama-factory")
    program = made.likely
    assert (program.adapter, program.plain, program.loss) == ("float32", "bfloat16", "model")
    assert program.rules == Rules()
    assert not any((program.prepared, program.widened, made.lighter))
    liger = of(tmp_path, f"{FACTORY}enable_liger_kernel: true\n", "llama-factory")
    assert liger.likely.loss == "tiled"
    assert liger.lighter
    pure = of(tmp_path, f"{FACTORY}pure_bf16: true\n", "llama-factory").likely
    assert (pure.adapter, pure.autocast) == ("bfloat16", False)
    norms = of(tmp_path, f"{FACTORY}upcast_layernorm: true\n", "llama-factory").likely
    assert (norms.plain, norms.tables) == ("float32", "bfloat16")


def test_kernels_of_its_own_are_an_unknown_program(tmp_path: Path) -> None:
    made = of(tmp_path, f"{FACTORY}use_unsloth: true\n", "llama-factory")
    assert made.likely.loss == "tiled"
    assert made.most.loss == "shifted"
    assert "unknown" in made.said[0]


def test_a_configuration_of_trl_is_trls_program_and_a_script_is_unknown(tmp_path: Path) -> None:
    made = of(tmp_path, "model_name_or_path: m\ndataset_name: d\nuse_peft: true\n", "trl")
    assert made.likely == made.most
    unknown = programs(a_job(trainer=COMMAND), LLAMA, None)
    assert unknown.most.loss == "shifted"
    assert unknown.lighter


def test_the_allocators_settings_come_from_the_command_or_where_it_trains() -> None:
    set_here = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    gpu = Machine("Linux", 4, 1 << 34, (Gpu("NVIDIA A100-SXM4-80GB", 80 << 30, None, (8, 0), "580"),))
    none = Machine("Linux", 4, 1 << 34)
    expandable = Rules(expandable_segments=True)
    assert rules(a_job(), gpu, set_here) == expandable
    assert rules(a_job(), none, set_here) == Rules(), "it does not train on a machine without a GPU"
    assert rules(a_job(hardware={"gpu": "T4"}), gpu, set_here) == Rules()
    assert rules(a_job(hardware={"gpu": "A100 80GB"}), gpu, set_here) == expandable
    stated = TrainerChoice(
        use="command", argv=("sh", "-c", "PYTORCH_ALLOC_CONF=max_split_size_mb:64 python x")
    )
    assert rules(a_job(trainer=stated), none, {}) == Rules(max_split_size=64 << 20)
    both = {"PYTORCH_ALLOC_CONF": "", **set_here}
    assert rules(a_job(), gpu, both) == Rules(), "the newer name wins"


@pytest.mark.parametrize("text", ["", "nonsense", "max_split_size_mb:many", "a:b:c", "expandable_segments"])
def test_settings_that_nobody_knows_change_nothing(text: str) -> None:
    assert read_rules(text) == Rules()


def test_windows_has_no_triton() -> None:
    assert not programs(a_job(), LLAMA, None, Machine("Windows", 4, 1 << 34)).likely.triton
    assert programs(a_job(), LLAMA, None, Machine("Linux", 4, 1 << 34)).likely.triton
