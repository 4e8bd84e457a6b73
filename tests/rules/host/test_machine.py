import tomllib
from dataclasses import replace
from typing import Any

import pytest
from ftcheck_rules.host.machine import GIB, GpuNeeds, environment, gpu

from ftcheck import tables
from ftcheck.inputs.machine import Packages
from ftcheck.records import Severity
from ftcheck.settings import Job
from ftcheck.testing import gpu as one_gpu
from ftcheck.testing import job, machine, packages, run
from tests.places import CHECKOUT

INSTALLED: dict[str, str | None] = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "datasets": "5.2.0",
    "peft": "0.21.2",
    "torch": "2.13.0+cpu",
    "transformers": "5.23.0",
    "trl": "1.16.0",
}
FOUR_BIT = {"quantization": {"load_in_4bit": True}}


def installed(**versions: str | None) -> Packages:
    return packages("3.11.7", **{**INSTALLED, **versions})


def of(*jobs: Job) -> dict[str, Any]:
    return {"packages": installed(), "jobs": jobs}


def test_versions_inside_the_windows_pass_and_are_summed_up() -> None:
    ran = run(environment, **of(job(training=FOUR_BIT)))

    assert ran.findings == ()
    assert ran.result.summary == "transformers 5.23 · trl 1.16 · peft 0.21 · bitsandbytes 0.50"
    assert ran.measured["trl"] == "1.16.0"


def test_a_version_below_its_window_is_an_error_with_the_pip_command() -> None:
    ran = run(environment, packages=installed(trl="0.24.0"), jobs=(job(),))

    [finding] = ran.findings
    assert finding.message == "trl 0.24.0 is too old: ftcheck needs >= 1.16, < 2 (as of 2026-11-28)"
    assert finding.severity is Severity.ERROR
    assert finding.fix == "pip install 'trl>=1.16,<2'"


@pytest.mark.parametrize("version", ["1.16", "1.16.0", "1.16.0.dev3", "1.99.9"])
def test_the_window_begins_with_its_first_version_and_ends_before_the_next_major_one(version: str) -> None:
    assert run(environment, packages=installed(trl=version), jobs=(job(),)).findings == ()


def test_a_version_that_nobody_tried_is_a_warning() -> None:
    ran = run(environment, packages=installed(transformers="6.0.0rc1"), jobs=(job(),))

    assert ran.worst is Severity.WARNING
    assert "newer than the tested versions" in ran.findings[0].message


def test_a_python_that_is_too_old_is_an_error() -> None:
    ran = run(environment, packages=replace(installed(), python="3.10.14"), jobs=(job(),))

    assert ran.findings[0].message.startswith("Python 3.10.14 is too old")


def test_a_trainer_package_missing_beside_others_is_an_error_at_the_trainer() -> None:
    ran = run(environment, packages=installed(peft=None), jobs=(job("mapper"),))

    [finding] = ran.findings
    assert finding.message == "training needs libraries that are not installed: peft"
    assert finding.fix == "pip install 'ftcheck[train]'"
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.trainer.use"


def test_bitsandbytes_is_needed_only_where_something_is_quantised() -> None:
    plain = run(environment, packages=installed(bitsandbytes=None), jobs=(job(),))
    four_bit = run(environment, packages=installed(bitsandbytes=None), jobs=(job(training=FOUR_BIT),))
    optimizer = run(
        environment,
        packages=installed(bitsandbytes=None),
        jobs=(job(training={"optim": "paged_adamw_8bit"}),),
    )

    assert plain.findings == ()
    assert four_bit.worst is Severity.ERROR
    assert optimizer.worst is Severity.ERROR


def test_a_machine_without_any_trainer_package_can_check_but_not_train() -> None:
    bare = packages(transformers="5.23.0", torch="2.13.0")

    ran = run(environment, packages=bare, jobs=(job(training=FOUR_BIT),))

    [finding] = ran.findings
    assert finding.severity is Severity.INFO
    assert finding.message.startswith("this machine can run the checks, but cannot train")
    assert ran.result.outcome == "passed"


@pytest.mark.parametrize(("version", "too_old"), [("5.0.0", True), ("5.2.0", True), ("5.3.0", False)])
def test_training_needs_a_later_transformers_than_checking(version: str, too_old: bool) -> None:
    bare = packages(transformers=version, torch="2.13.0")

    can_train = run(environment, packages=installed(transformers=version), jobs=(job(),))
    only_checks = run(environment, packages=bare, jobs=(job(),))

    assert [one.severity for one in only_checks.findings] == [Severity.INFO]
    assert [one.message.partition(" (")[0] for one in can_train.findings] == (
        [f"transformers {version} is too old: ftcheck needs >= 5.3, < 6"] if too_old else []
    )


def test_a_command_trainer_needs_none_of_the_packages() -> None:
    outside = packages(transformers="5.23.0", trl="0.18.0")

    ran = run(environment, packages=outside, jobs=(job(trainer={"use": "command", "argv": ("axolotl",)}),))

    assert ran.findings == ()


def test_the_windows_agree_with_what_pip_installs() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    stacks = tables.load("version_windows")["stacks"]
    stated = {*project["dependencies"], *project["optional-dependencies"]["train"]}

    for name, window in {**stacks["check"], **stacks["qlora"]}.items():
        assert any(one.split(",")[0] == f"{name}>={window['from']}" for one in stated), name


def test_no_gpu_is_skipped_unless_one_is_required() -> None:
    lax = run(gpu, machine=machine(), jobs=(job(),))
    strict = run(gpu, {"require": True}, machine=machine(), jobs=(job(),))

    assert lax.skipped == "no NVIDIA GPU on this machine"
    assert strict.worst is Severity.ERROR


def test_a_driver_that_does_not_answer_is_a_warning_and_an_error_where_a_gpu_is_required() -> None:
    broken = machine(problem="nvidia-smi failed (9): no communication with the driver")

    lax = run(gpu, machine=broken, jobs=())
    strict = run(gpu, {"require": True}, machine=broken, jobs=())

    assert lax.worst is Severity.WARNING
    assert [(one.severity, one.message) for one in strict.findings] == [(Severity.ERROR, broken.problem)]


def test_bfloat16_below_capability_8_is_an_error_at_the_setting_with_a_change() -> None:
    t4 = machine(one_gpu("Tesla T4", 15, (7, 5)))

    ran = run(gpu, machine=t4, jobs=(job("mapper"), job("half", training={"fp16": True})))

    [finding] = ran.findings
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.bf16"
    assert finding.change is not None
    assert (finding.change.path, finding.change.new) == ("jobs.mapper.training.fp16", True)
    assert not finding.change.safe


def test_a_compute_dtype_of_bfloat16_counts_too() -> None:
    t4 = machine(one_gpu("Tesla T4", 15, (7, 5)))
    training = {"fp16": True, "quantization": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}}

    [finding] = run(gpu, machine=t4, jobs=(job(training=training),)).findings

    assert finding.change is not None
    assert (finding.change.old, finding.change.new) == ("bfloat16", "float16")


def test_an_ampere_gpu_computes_in_bfloat16() -> None:
    ran = run(gpu, machine=machine(one_gpu("NVIDIA A100", 40, (8, 0))), jobs=(job(),))

    assert ran.findings == ()
    assert ran.measured == {"gpus": 1, "memory_free_gib": 40.0, "capability": "8.0"}


def test_a_job_that_will_run_on_another_gpu_is_not_held_against_this_one() -> None:
    t4 = machine(one_gpu("Tesla T4", 15, (7, 5)))

    assert run(gpu, machine=t4, jobs=(job(hardware={"gpu": "H100"}),)).findings == ()
    assert run(gpu, machine=t4, jobs=(job(hardware={"gpu": "T4"}),)).worst is Severity.ERROR


def test_memory_that_others_hold_is_an_error_and_exactly_enough_is_not() -> None:
    whole = one_gpu(memory_gib=24)
    busy = replace(whole, free=24 * GIB - 1)

    ran = run(gpu, {"min_memory_gib": 24.0}, machine=machine(whole, busy), jobs=())

    [finding] = ran.findings
    assert finding.message.startswith(
        "GPU 1 (NVIDIA H100) has 24.0 of 24.0 GiB free, min_memory_gib is 24; other processes"
    )
    assert run(gpu, {"min_memory_gib": 24.0}, machine=machine(whole), jobs=()).findings == ()


def test_memory_that_the_driver_does_not_tell_is_a_warning_where_some_is_asked_for() -> None:
    shared = machine(replace(one_gpu("NVIDIA GB10", capability=(12, 1)), memory=None, free=None))

    asked = run(gpu, {"min_memory_gib": 24.0}, machine=shared, jobs=(job(),))
    lax = run(gpu, machine=shared, jobs=(job(),))

    assert asked.worst is Severity.WARNING
    assert asked.findings[0].message.endswith(
        "the driver does not report the free memory; min_memory_gib is 24"
    )
    assert lax.findings == ()
    assert lax.measured == {"gpus": 1, "memory_free_gib": None, "capability": "12.1"}
    assert lax.result.summary == "NVIDIA GB10 · free memory unknown · driver 570.1"


def test_a_capability_below_the_one_asked_for_is_an_error() -> None:
    ampere = machine(one_gpu("NVIDIA A100", 40, (8, 0)))

    assert run(gpu, {"min_capability": "9.0"}, machine=ampere, jobs=()).worst is Severity.ERROR
    assert run(gpu, {"min_capability": "8"}, machine=ampere, jobs=()).findings == ()


def test_a_capability_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="must look like"):
        GpuNeeds(min_capability="hopper")


def test_item_13_the_parameters_hold_for_a_gpu_that_only_the_policy_names() -> None:
    jobs = (job(hardware={"gpu": "T4"}),)
    here = machine(one_gpu("NVIDIA H100", 80, (9, 0)))

    for seen in (machine(), here):
        memory = run(gpu, {"min_memory_gib": 24.0}, machine=seen, jobs=jobs)
        capability = run(gpu, {"min_capability": "8.0"}, machine=seen, jobs=jobs)
        assert [one.worst for one in (memory, capability)] == [Severity.ERROR] * 2
        assert memory.findings[0].at == jobs[0].at("hardware.gpu")
    assert run(gpu, {"min_memory_gib": 8.0}, machine=machine(), jobs=jobs).result.outcome == "passed"
    assert run(gpu, {"min_memory_gib": 8.0}, machine=machine(), jobs=(job(),)).skipped is not None
    assert run(gpu, machine=machine(), jobs=jobs).skipped is not None


def test_item_13_a_gpu_that_the_table_does_not_know_is_not_judged() -> None:
    jobs = (job(hardware={"gpu": "a GPU that nobody knows"}),)
    assert run(gpu, {"min_capability": "8.0"}, machine=machine(), jobs=jobs).skipped is not None
