"""A base that is quantised already (item 10), held against what transformers itself refuses."""

from typing import Any

import pytest
from ftcheck_rules.config.base_quantization import base_quantization
from ftcheck_rules.config.cases.base_quantization import CASES, FOUR_BIT

from ftcheck import Severity, tables
from ftcheck.testing import Case, Ran, job, model_config, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(base_quantization, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def ran(quantization_config: Any, trainer: str = "qlora", **training: Any) -> Ran:
    stated = {} if quantization_config is None else {"quantization_config": quantization_config}
    one = job(training={"lora": {"r": 8}, **training}, trainer={"use": trainer})
    return run(base_quantization, job=one, model=model_config(**stated))


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
    config = {"text_config": {"model_type": "llama", "quantization_config": {"quant_method": "mxfp4"}}}
    one = job(training={"lora": {"r": 8}})
    assert run(base_quantization, job=one, model=model_config(**config)).worst is Severity.ERROR


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
