"""Unknown keys, wrong types and values: every one at once, at its place, in plain words."""

import pytest

from ftcheck.errors import PolicyError
from ftcheck.policy import bind
from tests.policy.kit import HEAD, host, job, presets, read, said

# the first line of `job(...)` is line 5 of the file


def problem_in_job(line: str) -> str:
    [message] = said(read(job(line)))
    return message.removeprefix("policy.yaml:5:")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trainin: {}", "5: jobs.mapper.trainin: unknown key 'trainin'; did you mean 'training'?"),
        (
            "training: {max_lenght: 8}",
            "16: jobs.mapper.training.max_lenght: unknown key 'max_lenght'; did you mean 'max_length'?",
        ),
        (
            "training: {adam_beta_2: 0.9}",
            "16: jobs.mapper.training.adam_beta_2: unknown key 'adam_beta_2'; did you mean 'adam_beta2'?",
        ),
        ("training: {zzz: 8}", "16: jobs.mapper.training.zzz: unknown key 'zzz'"),
        ("training: {extra: {}}", "16: jobs.mapper.training.extra: unknown key 'extra'"),
        (
            "training: {micro_batch_size: 8}",
            "16: jobs.mapper.training.micro_batch_size: unknown key 'micro_batch_size'; "
            "did you mean 'per_device_train_batch_size'?",
        ),
        (
            "training: {lora: {alpha: 8}}",
            "23: jobs.mapper.training.lora.alpha: unknown key 'alpha'; did you mean 'lora_alpha'?",
        ),
        (
            "training: {lora: {rank: 8}}",
            "23: jobs.mapper.training.lora.rank: unknown key 'rank'; did you mean 'r'?",
        ),
        (
            "max_length: 8",
            "5: jobs.mapper.max_length: unknown key 'max_length'; did you mean 'training.max_length'?",
        ),
        (
            "data: {load_in_4bit: true}",
            "12: jobs.mapper.data.load_in_4bit: unknown key 'load_in_4bit'; "
            "did you mean 'training.quantization.load_in_4bit'?",
        ),
    ],
)
def test_an_unknown_key_is_named_at_the_key_with_what_was_meant(line: str, message: str) -> None:
    assert problem_in_job(line) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("training: 5", "15: jobs.mapper.training: must be a mapping, not 5"),
        ("model: base", "12: jobs.mapper.model: must be a mapping, not the text 'base'; write {name: base}"),
        (
            "data: {gold: gold.jsonl}",
            "18: jobs.mapper.data.gold: must be a mapping, not the text 'gold.jsonl'; "
            "write {path: gold.jsonl}",
        ),
        (
            "training: {max_length: '12'}",
            "28: jobs.mapper.training.max_length: must be a whole number, not the text '12'; write "
            "it without quotes",
        ),
        (
            "training: {learning_rate: '1e-5'}",
            "31: jobs.mapper.training.learning_rate: must be a number, not the text '1e-5'; write "
            "it without quotes",
        ),
        (
            "training: {max_length: '1,024'}",
            "28: jobs.mapper.training.max_length: must be a whole number, not the text '1,024'; write 1024",
        ),
        (
            "training: {max_length: 8.0}",
            "28: jobs.mapper.training.max_length: must be a whole number, not 8.0; write 8",
        ),
        (
            "training: {max_length: true}",
            "28: jobs.mapper.training.max_length: must be a whole number, not true",
        ),
        ("training: {seed: null}", "22: jobs.mapper.training.seed: must be a whole number, not null"),
        (
            "training: {packing: yes}",
            "25: jobs.mapper.training.packing: must be true or false, not the text 'yes'; write true",
        ),
        (
            "training: {packing: off}",
            "25: jobs.mapper.training.packing: must be true or false, not the text 'off'; write false",
        ),
        ("training: {packing: 1}", "25: jobs.mapper.training.packing: must be true or false, not 1"),
        (
            "model: {name: m, revision: 1234567}",
            "32: jobs.mapper.model.revision: must be text, not 1234567; put it in quotes",
        ),
        (
            "data: {format: mesages}",
            "20: jobs.mapper.data.format: must be 'auto', 'messages', 'prompt-completion', 'text', "
            "'sharegpt' or "
            "'alpaca', not the text 'mesages'; did you mean 'messages'?",
        ),
        ("data: {train: {}}", "19: jobs.mapper.data.train: must be text or a list of texts, not a mapping"),
        ("data: {train: [a, 1]}", "23: jobs.mapper.data.train.1: must be text, not 1; put it in quotes"),
        ("data: {gold: {}}", "18: jobs.mapper.data.gold: missing key 'path'"),
        (
            "targets: {max_length: [512]}",
            "27: jobs.mapper.targets.max_length: must be two whole numbers, [lowest, highest], not "
            "a list of 1",
        ),
        (
            "targets: {max_length: [1, 2, 3]}",
            "27: jobs.mapper.targets.max_length: must be two whole numbers, [lowest, highest], not "
            "a list of 3",
        ),
        (
            "targets: {max_length: [1, x]}",
            "31: jobs.mapper.targets.max_length.1: must be a whole number, not the text 'x'",
        ),
        (
            "trainer: {argv: axolotl}",
            "21: jobs.mapper.trainer.argv: must be a list of texts, not the text 'axolotl'",
        ),
        (
            "training: {adam_beta1: high}",
            "28: jobs.mapper.training.adam_beta1: must be a number, not the text 'high'",
        ),
        (
            "training: {hub_strategy: ends}",
            "30: jobs.mapper.training.hub_strategy: must be 'all_checkpoints', 'checkpoint', 'end' "
            "or 'every_save', "
            "not the text 'ends'; did you mean 'end'?",
        ),
    ],
)
def test_a_wrong_value_is_named_at_the_value(line: str, message: str) -> None:
    text = job(line) if not line.startswith("model") else f"ftcheck: 1\njobs:\n  mapper:\n\n    {line}\n"
    assert said(read(text)) == [f"policy.yaml:5:{message}"]


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("evaluation_strategy", "write 'eval_strategy'"),
        ("warmup_ratio", "write 'warmup_steps': a value below 1 is a fraction of all steps"),
        ("max_seq_length", "write 'max_length'"),
        ("group_by_length", "write 'train_sampling_strategy: group_by_length'"),
        ("no_cuda", "write 'use_cpu'"),
    ],
)
def test_a_key_that_the_libraries_removed_is_named_with_its_successor(key: str, remedy: str) -> None:
    message = f"16: jobs.mapper.training.{key}: '{key}' was removed from trl.SFTConfig: {remedy}"
    assert problem_in_job(f"training: {{{key}: 1}}") == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "training: {trust_remote_code: true}",
            "16: jobs.mapper.training.trust_remote_code: 'trust_remote_code' does not belong here: "
            "write 'model.trust_remote_code'",
        ),
        (
            "training: {model_init_kwargs: {trust_remote_code: true}}",
            "36: jobs.mapper.training.model_init_kwargs.trust_remote_code: 'trust_remote_code' does "
            "not belong here: "
            "write 'model.trust_remote_code'",
        ),
        (
            "training: {hub_token: secret}",
            "16: jobs.mapper.training.hub_token: 'hub_token' does not belong here: set HF_TOKEN in "
            "the environment: "
            "a policy contains no tokens",
        ),
        (
            "training: {chat_template_path: a.jinja}",
            "16: jobs.mapper.training.chat_template_path: 'chat_template_path' does not belong here: "
            "write 'model.chat_template': the rules check it",
        ),
    ],
)
def test_a_key_that_stands_elsewhere_says_where(line: str, message: str) -> None:
    assert problem_in_job(line) == message


def test_keys_of_the_libraries_end_in_extra() -> None:
    found = read(
        job(
            "training:",
            "  adam_beta1: 1",
            "  fsdp: true",
            "  lora: {r: 4, init_lora_weights: pissa_niter_4}",
            "  quantization: {llm_int8_threshold: 5.0}",
        )
    )

    assert said(found) == []
    assert found.policy is not None
    training = found.policy.jobs["mapper"].training
    assert training.extra == {"adam_beta1": 1, "fsdp": True}
    assert training.lora is not None
    assert training.lora.extra == {"init_lora_weights": "pissa_niter_4"}
    assert training.quantization is not None
    assert training.quantization.extra == {"llm_int8_threshold": 5.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chekcs: {}", "unknown key 'chekcs'; did you mean 'checks'?"),
        ("model: {}", "unknown key 'model'; did you mean 'jobs.NAME.model'?"),
        ("max_length: 1", "unknown key 'max_length'; did you mean 'jobs.NAME.training.max_length'?"),
    ],
)
def test_an_unknown_key_of_the_policy_is_named(line: str, message: str) -> None:
    key = line.partition(":")[0]
    assert said(read(f"{HEAD}{line}\n")) == [f"policy.yaml:5:1: {key}: {message}"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("name: 5", "5:7: name: must be text, not 5; put it in quotes"),
        (
            "stage: befor",
            "5:8: stage: must be 'before', 'during' or 'after', not the text 'befor'; did you mean 'before'?",
        ),
        ("plugins: mine", "5:10: plugins: must be a list of texts, not the text 'mine'"),
        ("jobs: []", "5:1: jobs: duplicate key 'jobs', on lines 2 and 5"),
        ("checks: {lengths: true}", "5:19: checks.lengths: must be a mapping, not true"),
        (
            "checks: {lengths: {percentile: 9}}",
            "5:20: checks.lengths.percentile: unknown key 'percentile'; parameters of the rule "
            "go under 'params'",
        ),
        (
            "checks: {lengths: {tag: [a]}}",
            "5:20: checks.lengths.tag: unknown key 'tag'; did you mean 'tags'?",
        ),
        (
            "checks: {lengths: {severity: warn}}",
            "5:30: checks.lengths.severity: must be 'info', 'warning' or 'error', not the text 'warn'; "
            "did you mean 'warning'?",
        ),
        (
            "checks: {lengths: {jobs: mapper}}",
            "5:26: checks.lengths.jobs: must be a list of texts, not the text 'mapper'",
        ),
        ("gate: {require: '*'}", "5:17: gate.require: must be a list of texts, not the text '*'"),
        ("gate: {requires: []}", "5:8: gate.requires: unknown key 'requires'; did you mean 'require'?"),
        ("waivers: [7]", "5:11: waivers.0: must be a mapping, not 7"),
    ],
)
def test_the_other_sections_are_held_to_their_form_too(line: str, message: str) -> None:
    assert said(read(f"{HEAD}{line}\n")) == [f"policy.yaml:{message}"]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2", "must be 1, not 2"),
        ("'1'", "must be 1, not the text '1'; write it without quotes"),
        ("true", "must be 1, not true"),
    ],
)
def test_another_version_of_the_format_is_refused(version: str, message: str) -> None:
    text = HEAD.replace("ftcheck: 1", f"ftcheck: {version}")
    assert said(read(text)) == [f"policy.yaml:1:10: ftcheck: {message}"]


def test_a_policy_without_version_or_jobs_says_what_is_missing() -> None:
    assert said(read("name: x\n")) == [
        "policy.yaml:1:1: missing key 'ftcheck'",
        "policy.yaml:1:1: the policy has no jobs: define at least one under 'jobs'",
    ]
    assert said(read("ftcheck: 1\njobs: {}\n")) == [
        "policy.yaml:2:7: jobs: the policy has no jobs: define at least one under 'jobs'"
    ]


def test_a_job_without_model_is_reported_at_the_job() -> None:
    assert said(read("ftcheck: 1\njobs:\n  a:\n    run: x\n  b:\n")) == [
        "policy.yaml:3:3: jobs.a: missing key 'model'",
        "policy.yaml:5:3: jobs.b: missing key 'model'",
    ]


def test_a_waiver_needs_all_of_its_keys() -> None:
    found = read(HEAD + "waivers:\n  - check: mapper::lengths\n    expire: 2026-12-31\n    reason: r\n")
    assert said(found) == [
        "policy.yaml:6:5: waivers.0: missing key 'expires'",
        "policy.yaml:6:5: waivers.0: missing key 'owner'",
        "policy.yaml:7:5: waivers.0.expire: unknown key 'expire'; did you mean 'expires'?",
    ]


def test_long_texts_are_cut_in_messages() -> None:
    message = problem_in_job(f"training: {{seed: {'x' * 100}}}")
    assert message == f"22: jobs.mapper.training.seed: must be a whole number, not the text '{'x' * 37}...'"


def test_everything_is_reported_at_once_sorted_by_file_and_line() -> None:
    presets(low="gate: {max_age: soon}\nchekcs: {}\n")
    found = read(job("training: {sed: 1}") + "extends: [low]\nchecks: {dupplicates: }\n", "jobs.mapper.x=1")

    with pytest.raises(PolicyError) as error:
        bind(found, host())

    assert str(error.value).splitlines() == [
        "--set: jobs.mapper.x: unknown key 'x'",
        "policy.yaml:5:16: jobs.mapper.training.sed: unknown key 'sed'; did you mean 'seed'?",
        "policy.yaml:7:10: checks.dupplicates: unknown rule 'dupplicates'; did you mean 'duplicates'? "
        "(if a plugin provides the rule, list the plugin under 'plugins')",
        "presets/low.yaml:1:17: gate.max_age: must be a duration such as 90m, 24h or 7d, not the text 'soon'",
        "presets/low.yaml:2:1: chekcs: unknown key 'chekcs'; did you mean 'checks'?",
    ]
