"""A base that is quantised already (item 10), and an adapter in its folder (item 29)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.config.base_model import base_model
from ftcheck_rules.config.cases.base_model import CASES, FOUR_BIT

from ftcheck import Severity, tables
from ftcheck.testing import Case, Ran, job, model_config, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(base_model, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def ran(quantization_config: Any, trainer: str = "qlora", **training: Any) -> Ran:
    stated = {} if quantization_config is None else {"quantization_config": quantization_config}
    one = job(training={"lora": {"r": 8}, **training}, trainer={"use": trainer})
    return run(base_model, job=one, model=model_config(**stated))


@pytest.mark.parametrize("method", sorted(tables.load("quantization_methods")["methods"]))
def test_item_10_every_other_method_under_bitsandbytes_is_an_error(method: str) -> None:
    found = ran({"quant_method": method}, quantization=FOUR_BIT).findings

    assert found[0].severity is Severity.ERROR
    assert "BitsAndBytesConfig" in found[0].message
    assert found[0].at is not None
    assert found[0].at.yaml_path == "jobs.job.training.quantization.load_in_4bit"


@pytest.mark.parametrize("method", ["mxfp4", "fp8", "gptq"])
def test_item_10_transformers_itself_refuses_it(method: str) -> None:
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    stated = {"quant_method": method, "bits": 4}
    with pytest.raises(ValueError, match="BitsAndBytesConfig"):
        AutoHfQuantizer.merge_quantization_configs(stated, BitsAndBytesConfig(load_in_4bit=True))


def test_item_10_the_table_lists_every_method_that_transformers_knows() -> None:
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING

    table = tables.load("quantization_methods")
    known = {*table["own"], *table["methods"]}
    assert known >= {str(name) for name in (*AUTO_QUANTIZER_MAPPING, *AUTO_QUANTIZATION_CONFIG_MAPPING)}


def test_item_10_the_quantizers_say_whether_they_train() -> None:
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    for method, about in tables.load("quantization_methods")["methods"].items():
        if about["trains"] is not None and method in AUTO_QUANTIZER_MAPPING:
            trains = AUTO_QUANTIZER_MAPPING[method].is_trainable
            assert trains.fget(None) is about["trains"], method


def test_a_quantised_text_model_counts() -> None:
    text = {"model_type": "llama", "quantization_config": {"quant_method": "mxfp4"}}
    config: dict[str, Any] = {"text_config": text}
    one = job(training={"lora": {"r": 8}})
    assert run(base_model, job=one, model=model_config(**config)).worst is Severity.ERROR


def test_a_base_that_is_dequantised_when_loaded_trains() -> None:
    assert ran({"quant_method": "mxfp4", "dequantize": True}).findings == ()


def test_a_base_in_bitsandbytes_own_format_is_fine_and_another_type_is_a_warning() -> None:
    own = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}

    assert ran(own, quantization=FOUR_BIT).findings == ()
    assert ran(own).findings == ()
    [finding] = ran(own, quantization={**FOUR_BIT, "bnb_4bit_quant_type": "fp4"}).findings
    assert finding.severity is Severity.WARNING


def test_a_command_may_load_it_by_other_means() -> None:
    assert ran({"quant_method": "mxfp4"}, "command", quantization=FOUR_BIT).worst is Severity.WARNING


@pytest.mark.parametrize("stated", [None, {}, {"quant_method": None}, "no mapping", {"bits": 4}])
def test_no_method_is_no_finding(stated: Any) -> None:
    assert ran(stated, quantization=FOUR_BIT).findings == ()


def test_a_method_that_is_unknown_is_said() -> None:
    [finding] = ran({"quant_method": "newquant"}, quantization=FOUR_BIT).findings
    assert finding.severity is Severity.INFO


def test_item_29_an_adapter_in_the_folder_of_the_base_is_an_error(tmp_path: Path) -> None:
    one, model = job(training={"lora": {"r": 8}}), replace(model_config(), path=str(tmp_path))
    assert run(base_model, job=one, model=model).findings == ()

    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/other"}')

    [finding] = run(base_model, job=one, model=model).findings
    assert finding.severity is Severity.ERROR
    assert "adapter_config.json" in finding.message


@pytest.mark.filterwarnings("ignore")
def test_item_29_transformers_itself_loads_the_adapter(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=32, **size))
    base.save_pretrained(tmp_path)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path))

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert any("lora" in name for name, _ in loaded.named_parameters())
