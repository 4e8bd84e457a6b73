import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.config.cases.distributed import CASES
from ftcheck_rules.config.distributed import data_loading, distributed

from ftcheck.records import Change, Severity
from ftcheck.testing import Case, Ran, environment, inputs, job, machine, prepared, run

RULES = {rule.id: rule for rule in (distributed, data_loading)}
FOUR_BIT = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}


def ran(count: int = 2, *, world_size: int | None = None, **training: Any) -> Ran:
    one = job("mapper", training=training, hardware={"count": count})
    return run(distributed, job=one, environment=environment(world_size=world_size))


def deepspeed(config: Any, count: int = 1, **training: Any) -> Ran:
    return ran(count, extra={"deepspeed": config}, **training)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    got = run(RULES[case.rule], case.params, **case.inputs())

    assert got.result.outcome == ("failed" if case.fails else "passed")


def test_one_process_agrees_with_itself() -> None:
    assert ran(1).result.summary == "one process"


def test_a_device_map_that_spreads_the_model_is_an_error_for_several_processes() -> None:
    extra = {"model_init_kwargs": {"device_map": "balanced"}}

    [stated] = ran(4, extra=extra).findings
    [launched] = ran(1, world_size=2, extra=extra).findings

    assert stated.severity is Severity.ERROR
    assert stated.change == Change("jobs.mapper.training.model_init_kwargs.device_map", "balanced", None)
    assert "2 processes" in launched.message
    assert ran(1, extra=extra).result.outcome == "passed"
    assert ran(4, extra={"model_init_kwargs": {"device_map": {"": 0}}}).findings == ()


@pytest.mark.parametrize(
    ("storage", "training", "new"),
    [
        (None, {}, "bfloat16"),
        ("uint8", {}, "bfloat16"),
        ("float16", {}, "bfloat16"),
        ("uint8", {"fp16": True}, "float16"),
        ("bfloat16", {}, None),
        ("float16", {"fp16": True}, None),
    ],
)
def test_fsdp_wants_4_bit_weights_stored_in_the_dtype_of_the_others(
    storage: str | None, training: dict[str, Any], new: str | None
) -> None:
    chosen = {**FOUR_BIT, "bnb_4bit_quant_storage": storage}

    findings = ran(quantization=chosen, extra={"fsdp": "full_shard auto_wrap"}, **training).findings

    key = "jobs.mapper.training.quantization.bnb_4bit_quant_storage"
    assert [finding.change for finding in findings] == ([Change(key, storage, new)] if new else [])


def test_fsdp_without_4_bit_weights_is_fine() -> None:
    assert ran(extra={"fsdp": "full_shard"}).findings == ()
    assert ran(extra={"fsdp": "full_shard"}, quantization={"load_in_8bit": True}).findings == ()


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"train_micro_batch_size_per_gpu": 4}, 2),
        ({"zero_optimization": {"stage": 2}, "optimizer": {"params": {"lr": 1e-3}}}, 7),
        ({"fp16": {"enabled": True}}, 3),
        ({"scheduler": {"params": {"warmup_num_steps": 100}}}, 4),
        ({"gradient_clipping": 0.5}, 2),
    ],
)
def test_a_deepspeed_key_that_differs_is_an_error_at_its_line(
    tmp_path: Path, config: dict[str, Any], line: int
) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(config, indent=1))

    [finding] = deepspeed(str(path)).findings

    assert finding.at is not None
    assert (finding.at.path, finding.at.line, finding.at.yaml_path) == (str(path), line, None)
    assert finding.severity is Severity.ERROR


def test_keys_that_agree_or_are_auto_are_fine() -> None:
    agreeing = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": 4,
        "train_batch_size": 64,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": True},
        "fp16": {"enabled": False},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.999], "weight_decay": 0}},
        "scheduler": {"params": {"warmup_num_steps": 1, "warmup_min_lr": 0, "total_num_steps": "auto"}},
        "zero_optimization": {"stage": 2},
    }

    assert deepspeed(agreeing, 2, gradient_accumulation_steps=4).findings == ()


def test_the_whole_batch_counts_processes_only_where_their_number_is_stated() -> None:
    [finding] = deepspeed({"train_batch_size": 8}, 2).findings

    assert "batch x accumulation x 2 processes is 16" in finding.message
    assert finding.change == Change("jobs.mapper.training.deepspeed.train_batch_size", 8, "auto", safe=False)
    assert deepspeed({"train_batch_size": 999}, 1).findings == ()


def test_a_file_that_is_not_there_or_is_no_json_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{\n "a": }')

    [missing] = deepspeed(str(tmp_path / "none.json")).findings
    [unread] = deepspeed(str(broken)).findings

    assert missing.at is not None
    assert missing.at.yaml_path == "jobs.mapper.training.deepspeed"
    assert missing.message.startswith("no such file")
    assert unread.at is not None
    assert unread.at.line == 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"zero_optimization": {"stage": 9}}, "stage is 9, but ZeRO has the stages 0, 1, 2, 3"),
        ({"zero_optimization": {"stage": "auto"}}, 'stage is "auto", but ZeRO'),
        ({"zero_optimization": 3}, "zero_optimization is 3: it must be a mapping"),
    ],
)
def test_a_stage_of_zero_that_there_is_not_is_an_error(config: dict[str, Any], said: str) -> None:
    [finding] = deepspeed(config, 2).findings

    assert said in finding.message
    assert finding.severity is Severity.ERROR
    assert deepspeed({"zero_optimization": {"stage": 2}}, 2).findings == ()
    assert deepspeed({"zero_optimization": True}, 2).findings == ()


@pytest.mark.parametrize(
    ("extra", "said", "severity"),
    [
        ({"fsdp": True, "deepspeed": {"bf16": {"enabled": "auto"}}}, "both set", Severity.ERROR),
        ({"fsdp": "nonsense"}, "'nonsense' is unknown: transformers refuses", Severity.ERROR),
        ({"fsdp": "full_shrd"}, "did you mean 'full_shard'?", Severity.ERROR),
        ({"fsdp": ["hybrid_shard"]}, "'hybrid_shard' is for FSDP1 alone", Severity.ERROR),
        ({"fsdp": True, "fsdp_config": "none.json"}, "no such file: none.json", Severity.ERROR),
        ({"fsdp": True, "fsdp_config": {"version": 7}}, "version is 7: it can be 1, 2", Severity.ERROR),
        ({"fsdp": True, "fsdp_config": {"fsdp_auto_wrap_policy": "X"}}, "TRANSFORMER_BASED", Severity.ERROR),
        (
            {"fsdp": True, "fsdp_config": {"state_dict_type": "LOCAL_STATE_DICT"}},
            "it can be SHARDED",
            Severity.ERROR,
        ),
        ({"fsdp": True, "fsdp_config": {"vrsion": 2}}, "did you mean 'version'?", Severity.WARNING),
        ({"fsdp_config": {"version": 2}}, "fsdp is not: it is left unread", Severity.WARNING),
    ],
)
def test_fsdp_settings_that_are_refused_or_left_unread(
    extra: dict[str, Any], said: str, severity: Severity
) -> None:
    [finding] = ran(2, extra=extra).findings

    assert said in finding.message
    assert finding.severity is severity


def test_fsdp_settings_that_transformers_takes() -> None:
    config = {"fsdp_version": "2", "state_dict_type": "sharded_state_dict", "cpu_offload": True}

    assert ran(2, extra={"fsdp": True, "fsdp_config": config}).findings == ()
    assert ran(2, extra={"fsdp": "hybrid_shard offload", "fsdp_config": {"version": 1}}).findings == ()
    assert [one.message for one in ran(1, world_size=1, extra={"fsdp": True}).findings] == [
        "fsdp is set for one process: transformers refuses to start"
    ]
    assert ran(1, extra={"fsdp": True}).findings == ()  # nobody says how many processes there will be


def test_zero_3_wants_storage_no_device_map_and_gathered_weights() -> None:
    sharded = {"zero_optimization": {"stage": 3}}
    gathered = {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}}

    bad = ran(
        1,
        quantization=FOUR_BIT,
        extra={"deepspeed": sharded, "model_init_kwargs": {"device_map": {"": 0}}},
    )

    places = [finding.at.yaml_path for finding in bad.findings if finding.at]
    assert places == [
        "jobs.mapper.training.model_init_kwargs",
        "jobs.mapper.training.quantization.bnb_4bit_quant_storage",
        "jobs.mapper.training.deepspeed.zero_optimization",
    ]
    assert deepspeed(gathered).findings == ()
    assert deepspeed(sharded).findings != ()
    assert deepspeed(sharded, lora={}).findings == ()


def loading(
    count: int = 1,
    *,
    rows: int = 3,
    length: int = 100,
    memory_gib: float = 24,
    shm: int | None = 8 << 30,
    **extra: Any,
) -> Ran:
    one = job("mapper", training={"extra": extra}, hardware={"count": count})
    return run(
        data_loading,
        job=one,
        machine=machine(memory_gib=memory_gib),
        environment=environment(shm=shm),
        inputs=inputs(one, prepared=prepared([length] * rows)),
    )


def test_one_process_that_loads_by_itself_passes() -> None:
    assert loading().result.outcome == "passed"
    assert loading(dataset_num_proc=1, dataloader_num_workers=0).result.outcome == "passed"


def test_more_processes_than_processors_are_lowered_to_them() -> None:
    [finding] = loading(dataset_num_proc=128).findings

    assert finding.severity is Severity.WARNING
    assert finding.message == "dataset_num_proc is 128, but this machine has 2 processors"
    assert finding.change == Change("jobs.mapper.training.dataset_num_proc", 128, 2)
    assert loading(dataset_num_proc=2).findings == ()


def test_processes_that_hold_more_rows_than_the_memory_are_lowered() -> None:
    [finding] = loading(dataset_num_proc=2, rows=1, length=40_000, memory_gib=2).findings

    assert (
        finding.message
        == "dataset_num_proc is 2, each needs about 1.6 GiB for its rows, and this machine has 2 GiB"
    )
    assert finding.change is not None
    assert finding.change.new == 1


def test_dockers_shared_memory_is_too_small_for_workers() -> None:
    [finding] = loading(shm=64 << 20, dataloader_num_workers=4).findings

    assert "64 MiB" in finding.message
    assert finding.change == Change("jobs.mapper.training.dataloader_num_workers", 4, 0)
    assert loading(shm=64 << 20).result.outcome == "passed"
    assert loading(shm=1 << 30, dataloader_num_workers=16).findings == ()


def test_the_others_wait_for_the_process_that_tokenises() -> None:
    [finding] = loading(2, rows=6_000, ddp_timeout=2).findings

    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.ddp_timeout"
    assert finding.change == Change("jobs.mapper.training.ddp_timeout", 2, 60)
    assert loading(2, rows=6_000).findings == ()
    assert loading(2, rows=6_000, ddp_timeout=2, dataset_num_proc=2).findings == ()
    assert loading(1, rows=6_000, ddp_timeout=2).result.outcome == "passed"


def test_what_there_is_nothing_to_hold_against_is_never_a_pass() -> None:
    assert loading(shm=None, dataloader_num_workers=4).skipped is not None
