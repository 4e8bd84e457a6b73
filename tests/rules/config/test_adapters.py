"""What LoRA reaches, held against PEFT itself; and what merging needs."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model.safetensors_headers import modules as modules_loader
from ftcheck_rules.config.adapters import lora_targets, merge
from ftcheck_rules.config.cases.adapters import CASES

from ftcheck import Run, Severity, tables
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.modules import Modules
from ftcheck.testing import Case, Ran, gpu, job, machine, model_config, modules, run
from tests.peft_models import CONFIGS, LORAS, with_peft

RULES = {rule.id: rule for rule in (lora_targets, merge)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def looked(of: Modules | None = None, params: Mapping[str, Any] | None = None, **lora: Any) -> Ran:
    made = job(training={"lora": {"r": 4, **lora}})
    return run(lora_targets, params, job=made, model=model_config(), modules=of or modules())


def places(ran: Ran) -> list[str]:
    return [str(one.at.yaml_path).removeprefix("jobs.job.training.lora.") for one in ran.findings if one.at]


# --- against PEFT ---------------------------------------------------------------------------------------


def built(config: Mapping[str, Any]) -> Modules:
    found = modules_loader.open(job(), Run(Path()), ModelConfig("model", config), None)
    assert isinstance(found, Modules)
    return found


@pytest.mark.parametrize(("name", "lora"), LORAS, ids=[f"{name} {lora}" for name, lora in LORAS])
def test_as_many_weights_are_counted_as_peft_trains(name: str, lora: dict[str, Any]) -> None:
    pytest.importorskip("peft")
    ran = looked(built(CONFIGS[name]), **lora)
    assert ran.measured["trainable"] == with_peft(CONFIGS[name], lora).trained


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("llama", {"target_modules": ("Wqkv",)}),
        ("llama", {"target_modules": ("mlp",)}),
        ("llama", {"target_modules": ("input_layernorm",)}),
        ("llama", {"target_modules": "q_proj"}),
        ("llama", {"target_modules": r"layers.*q_proj"}),
        ("llama", {"target_modules": ("proj",), "modules_to_save": ("lm_head",)}),
        ("llama", {"target_modules": ("lm_head",), "modules_to_save": ("lm_head",)}),
        ("llama", {"target_modules": "("}),
        ("llama", {"target_modules": ()}),
        ("phi3", {"target_modules": None}),
        ("phi3", {"target_modules": ("q_proj", "v_proj")}),
        (
            "mixtral",
            {
                "target_modules": ("q_proj",),
                "lora_dropout": 0.1,
                "extra": {"target_parameters": ["experts.down_proj"]},
            },
        ),
    ],
)
def test_what_peft_refuses_is_an_error(name: str, lora: dict[str, Any]) -> None:
    pytest.importorskip("peft")
    with pytest.raises(Exception, match=r".+"):
        with_peft(CONFIGS[name], lora)
    assert looked(built(CONFIGS[name]), **lora).worst is Severity.ERROR


def test_the_table_is_what_peft_has() -> None:
    constants = pytest.importorskip("peft.utils.constants")
    conversion = pytest.importorskip("peft.utils.transformers_weight_conversion")
    table = tables.load("lora_targets")
    assert table["defaults"] == constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    assert {k: v["parameters"] for k, v in table["experts"].items()} == conversion._MOE_TARGET_MODULE_MAPPING
    assert {k: v["fused"] for k, v in table["experts"].items()} == conversion._MOE_FUSED_TARGETS


# --- what is said ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "fused", "new"),
    [
        (("query_key_value",), False, ["q_proj", "k_proj", "v_proj"]),
        (("q_proj", "Wqkv"), False, ["q_proj", "k_proj", "v_proj"]),
        (("q_proj", "k_proj", "v_proj", "o_proj"), True, ["qkv_proj", "o_proj"]),
        (("gate_proj", "up_proj", "down_proj"), True, ["gate_up_proj", "down_proj"]),
        (("nonsense",), False, "all-linear"),
        (("q_proj", "nonsense"), False, ["q_proj"]),
        (r".*query", False, "all-linear"),
    ],
)
def test_names_that_exist_are_proposed_and_pass(stated: Any, fused: bool, new: Any) -> None:
    of = modules(fused=fused)
    [finding] = looked(of, target_modules=stated).findings

    assert finding.change is not None
    assert (finding.change.path, finding.change.new) == ("jobs.job.training.lora.target_modules", new)
    assert not finding.change.safe
    mended = tuple(new) if isinstance(new, list) else new
    assert not looked(of, target_modules=mended).findings


def test_a_name_that_matches_nothing_is_named_with_those_there_are() -> None:
    ran = looked(target_modules=("q_proj", "Wqkv"))
    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.message.startswith(
        "target_modules: no module matches Wqkv (2 modules match the other names)"
    )
    assert "q_proj, k_proj, v_proj, o_proj, gate_proj" in finding.message
    assert places(ran) == ["target_modules"]
    assert ran.measured["patterns_unmatched"] == 1


def test_layers_without_lora_are_a_warning() -> None:
    hybrid = modules(layers=8, every=4)
    ran = looked(hybrid, target_modules=("q_proj",))
    [finding] = ran.findings
    assert (finding.severity, ran.measured["layers"]) == (Severity.WARNING, 2)
    assert finding.message == "6 of 8 layers have no LoRA module, such as layer 1"
    assert not looked(hybrid, target_modules="all-linear").findings


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": ("q_proj",), "extra": {"layers_to_transform": [0]}},
        {"target_modules": r".*\.0\..*q_proj"},
        {"target_modules": ("model.layers.0.self_attn.q_proj",)},
    ],
)
def test_layers_that_were_chosen_are_no_finding(lora: dict[str, Any]) -> None:
    ran = looked(modules(layers=4), **lora)
    assert (ran.findings, ran.measured["layers"]) == ((), 1)


def fused(r: int, **lora: Any) -> Ran:
    extra = {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"], **lora.pop("extra", {})}
    return looked(modules(experts=8), r=r, target_modules=("q_proj",), extra=extra, **lora)


def test_much_lora_on_fused_experts_is_a_warning_at_its_setting() -> None:
    ran = fused(8)
    [finding] = ran.findings
    assert (finding.severity, places(ran)) == (Severity.WARNING, ["target_parameters"])
    assert "LoRA on 4 fused weights trains 32,768 weights" in finding.message
    assert finding.change is not None
    assert finding.change.new is None


def test_all_linear_on_a_mixture_of_experts_is_told_what_it_trains() -> None:
    of = modules(experts=8, model_type="qwen3_moe")
    ran = looked(of, r=8, target_modules="all-linear")
    [finding] = ran.findings
    assert places(ran) == ["target_modules"]
    assert finding.change is not None
    assert finding.change.new == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert not looked(of, r=8, target_modules=tuple(finding.change.new)).findings


def test_the_share_is_a_parameter() -> None:
    of = modules(experts=8)
    extra = {"target_parameters": ["experts.down_proj"]}
    params = {"max_trainable_share": 0.5}
    assert not looked(of, params, r=16, target_modules=("q_proj",), extra=extra).findings
    with pytest.raises(ValueError, match="max_trainable_share"):
        looked(of, {"max_trainable_share": 0.0})


def test_fused_weights_that_are_not_there_are_named() -> None:
    ran = fused(1, extra={"target_parameters": ["experts.w1"]})
    [finding] = ran.findings
    assert places(ran) == ["target_parameters"]
    assert (
        finding.message == "target_parameters: no weight matches experts.w1; the model's fused weights:"
        " experts.gate_up_proj, experts.down_proj"
    )


def test_more_lora_than_weights_is_a_warning_at_the_rank() -> None:
    ran = looked(r=64, target_modules=("q_proj",))
    assert ran.worst is Severity.WARNING
    assert places(ran) == ["r"]
    assert not looked(r=16, target_modules=("q_proj",)).findings


def test_without_lora_or_modules_there_is_nothing_to_look_at() -> None:
    given: dict[str, Any] = {"model": model_config()}
    assert "all weights are trained" in str(run(lora_targets, job=job(), modules=modules(), **given).skipped)
    made = job(training={"lora": {}})
    assert "modules are unknown" in str(run(lora_targets, job=made, modules=None, **given).skipped)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["Meta-Llama-3-8B-Instruct", "Mistral-7B-Instruct-v0.3", "Qwen2.5-7B-Instruct"]
)
def test_the_usual_adapters_of_published_models_are_fine(realdata: Path, name: str) -> None:
    pytest.importorskip("torch")
    config = json.loads((realdata / "model-configs" / name / "config.json").read_text(encoding="utf-8"))
    of = built(config)
    for rank in (8, 64, 256):
        for stated in ("all-linear", ("q_proj", "k_proj", "v_proj", "o_proj"), None):
            assert not looked(of, r=rank, target_modules=stated).findings


# --- merging --------------------------------------------------------------------------------------------


def merged(
    adapter: str | None = "merged",
    *,
    memory_gib: float = 24,
    of: Modules | None = None,
    gpus: Any = (),
    hardware: Mapping[str, Any] | None = None,
    **lora: Any,
) -> Ran:
    made = job(training={"lora": lora}, serving={"adapter": adapter}, hardware=hardware or {})
    side = machine(*gpus, memory_gib=memory_gib)
    return run(merge, job=made, model=model_config(), modules=of or modules(tied=True), machine=side)


@pytest.mark.parametrize(
    ("lora", "place"),
    [
        ({"modules_to_save": ("lm_head",)}, "modules_to_save"),
        ({"modules_to_save": ("embed_tokens",)}, "modules_to_save"),
        ({"target_modules": ("q_proj", "embed_tokens")}, "target_modules"),
        ({"target_modules": r".*(q_proj|lm_head)|lm_head"}, "target_modules"),
    ],
)
def test_one_of_two_tied_tables_is_an_error_where_it_is_trained(lora: Any, place: str) -> None:
    ran = merged(**lora)
    [finding] = ran.findings
    assert (finding.severity, places(ran)) == (Severity.ERROR, [place])
    assert finding.change is not None
    assert finding.change.path.endswith("lora.ensure_weight_tying")
    assert not merged(**lora, extra={"ensure_weight_tying": True}).findings
    assert not merged(**lora, of=modules(tied=False)).findings
    assert merged("separate", **lora).worst is Severity.WARNING


def test_peft_ties_no_tables_of_other_names() -> None:
    of = modules(tied=True)
    table = of.embeddings["model.embed_tokens"]
    gpt = replace(of, embeddings={"transformer.wte": table})
    ran = merged(of=gpt, modules_to_save=("wte",), extra={"ensure_weight_tying": True})
    assert ran.worst is Severity.ERROR
    assert ran.findings[0].change is None


def test_merging_into_4_bit_is_a_warning_that_the_change_mends() -> None:
    [finding] = merged("merged-4bit").findings
    assert finding.severity is Severity.WARNING
    assert finding.change is not None
    assert (finding.change.new, finding.change.safe) == ("merged", False)
    assert not merged(str(finding.change.new)).findings


LARGE = replace(modules(), total=10 << 30)


def test_merging_needs_the_model_in_bfloat16_and_a_fifth_more() -> None:
    [finding] = merged(of=LARGE, memory_gib=23.9).findings
    assert finding.severity is Severity.ERROR
    assert "needs 24 GiB" in finding.message
    assert str(finding.at and finding.at.yaml_path) == "jobs.job.serving.adapter"
    assert not merged(of=LARGE, memory_gib=24.1).findings
    assert merged(of=LARGE, memory_gib=24.1).measured["merge_memory_gib"] == 24.0


def test_merging_may_happen_on_the_gpus_or_elsewhere() -> None:
    assert not merged(of=LARGE, memory_gib=8, gpus=(gpu(memory_gib=16), gpu(memory_gib=16))).findings
    assert not merged(of=LARGE, memory_gib=8, hardware={"gpu": "H100"}).findings


@pytest.mark.parametrize("adapter", [None, "separate"])
def test_what_is_not_merged_needs_no_memory(adapter: str | None) -> None:
    assert "served unmerged" in str(merged(adapter, target_modules="all-linear").result.summary)


def test_a_whole_model_has_no_adapter_to_merge() -> None:
    made = job(serving={"adapter": "merged"})
    ran = run(merge, job=made, model=model_config(), modules=modules(), machine=machine())
    assert ran.skipped == "training.lora is not set: there is no adapter to merge"


def with_tower(**lora: Any) -> Ran:
    tower = {f"model.visual.blocks.{n}.attn.{name}": (64, 64) for n in range(4) for name in ("qkv", "proj")}
    text = modules()
    both = replace(text, linear={**text.linear, **tower}, names=(*text.names, *tower))
    return looked(both, **lora)


def test_item_18_modules_of_a_vision_tower_are_a_warning_with_what_leaves_them_out() -> None:
    [finding] = with_tower(target_modules="all-linear").findings

    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("8 of 22 adapted modules are in visual")
    assert finding.change is not None
    assert finding.change.path == "jobs.job.training.lora.exclude_modules"
    left_out = {"exclude_modules": finding.change.new}
    assert with_tower(target_modules="all-linear", extra=left_out).findings == ()


def test_item_18_a_text_model_and_targets_in_the_text_model_are_fine() -> None:
    assert with_tower(target_modules=("q_proj", "v_proj")).findings == ()
    assert looked(modules(), target_modules="all-linear").findings == ()
