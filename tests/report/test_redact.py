import pytest

from ftcheck.report.redact import (
    MARK,
    redact,
    redact_json,
    visible,
)
from tests.bounded_cpu import bounded_cpu

SECRETS = [
    "hf_abcdefghijklmnopqrstuvwxyz01234567",
    "sk-proj-abcdefghijklmnop0123456789",
    "sk-ant-api03-abcdefghijklmnop0123456789_-x",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11ABCDEFG0abcdefghijklmnop_0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
]
NAMED = [
    ("Authorization: Bearer {}", "abc.def"),
    ("Authorization: Basic {}", "dXNlcjpwYXNz"),
    ("'authorization': '{}'", "opaque"),
    ("curl -H 'Bearer {}'", "abcdef1234"),
    ("https://{}@host/path", "user:p4ss-w0rd"),
    ("https://{}@github.com/x.git", "0123456789abcdef"),
    ("https://host/x?token={}&page=2", "abc"),
    ("https://host/x?a=1&api_key={}", "abc"),
    ("hub_token={}", "abcdef"),
    ("hub_token = '{}'", "ab cd ef"),
    ("WANDB_API_KEY: {}", "0123456789abcdef"),
    ("x-api-key: {}", "abcdef"),
    ("apiKey={}", "abcdef"),
    ("api key: {}", "abcdef123"),
    ("password: {}", "hunter2"),
    ("password={}", "12345678"),
    ('{{"password": "{}"}}', 'hun ter\\"2'),
    (r"{{\"api_key\": \"{}\"}}", "abcdefg"),
    ("client_secret={}", "x"),
    ("db_pwd={}", "x1"),
    ("--hf-token {} --steps 3", "abcdef"),
    ("duplicate key: password={}", "hunter2"),
    ("the token password={}", "hunter2"),
    ("password={}", "b" * 5000),
]
ORDINARY = [
    "the token count",
    "token 4 differs",
    "token: 4",
    "pad_token: <pad>",
    "pad_token=<pad>",
    "eos_token: </s>",
    "bos_token = <|begin_of_text|>",
    "'eos_token': '<|im_end|>', 'pad_token': '[PAD]'",
    "unk_token='▁x'",
    "--eos-token </s>",
    "max_new_tokens=64",
    "pad_token_id=0 eos_token_id=[128001, 128009]",
    "tokens_per_step: 49152",
    "tokenizer: meta-llama/Meta-Llama-3-8B-Instruct",
    "hf_transformers and hf_quantizer",
    "task-specific-fine-tuning-2026-edition",
    "Bearer authentication is required",
    "unknown key: max_lenght; did you mean 'max_length'?",
    "duplicate key 'training'",
    "sort_key=length",
    "hub_token: null",
    "hub_token=${HF_TOKEN}",
    "password: ***",
    "pwd=/work/main",
    "https://huggingface.co/meta-llama?library=transformers",
    "git@github.com:x/y.git, https://host:8080/a@b",
    "sha256:" + "9e2a" * 16,
    "9e2a" * 16,
    "cache_key=sha256:9e2a",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_known_by_its_shape(secret: str) -> None:
    assert redact(f"before {secret} after") == f"before {MARK} after"
    assert redact(f'{{"x":"{secret}"}}') == f'{{"x":"{MARK}"}}'


@pytest.mark.parametrize(("text", "secret"), NAMED)
def test_a_secret_is_known_by_the_name_in_front_of_it(text: str, secret: str) -> None:
    assert redact(text.format(secret)) == text.format(MARK)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_redacting_twice_changes_nothing_more() -> None:
    texts = [*SECRETS, *(text.format(secret) for text, secret in NAMED), *ORDINARY]
    joined = [f"{one} {other}" for one in texts for other in texts]

    once = [redact(text) for text in joined]

    assert [redact(text) for text in once] == once


def test_the_value_of_a_secret_variable_is_taken_out_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACME_TOKEN", "correct horse")
    monkeypatch.setenv("TINY_SECRET", "short")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallel-enough")
    monkeypatch.setenv("OLDPWD", "/work/somewhere")

    text = redact("correct horse, short, parallel-enough, /work/somewhere, xcorrect horsex")

    assert text == f"{MARK}, short, parallel-enough, /work/somewhere, x{MARK}x"


def test_a_variable_that_is_set_later_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert redact("staple-battery") == "staple-battery"

    monkeypatch.setenv("ACME_PASSWORD", "staple-battery")

    assert redact("staple-battery") == MARK


def test_a_variable_that_holds_the_mark_itself_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", "redacted")

    assert redact("[redacted] redacted") == "[redacted] redacted"


def test_json_is_walked_and_keys_stay() -> None:
    secret = SECRETS[0]
    value = {"a": [secret, {"b": ("x", f"use {secret}")}], secret: 1, "n": None, "f": 0.5, "t": True}

    assert redact_json(value) == {
        "a": [MARK, {"b": ["x", f"use {MARK}"]}],
        secret: 1,
        "n": None,
        "f": 0.5,
        "t": True,
    }


def test_a_json_key_that_names_a_secret_is_enough() -> None:
    value = {
        "hub_token": "abcd",
        "password": 12345678,
        "pad_token": "<pad>",
        "max_tokens": 5,
        "token": "Hello",
    }

    redacted = redact_json(value)

    assert redacted == value | {"hub_token": MARK, "password": MARK}


def test_a_change_of_a_secret_setting_tells_neither_value() -> None:
    change = {"path": "jobs.mapper.serving.api_key", "old": "abcd", "new": "efgh", "safe": True}

    assert redact_json(change) == change | {"old": MARK, "new": MARK}


def test_json_that_is_too_deep_is_cut_off_instead_of_failing() -> None:
    value: object = SECRETS[0]
    for _ in range(5000):
        value = [value]

    assert MARK in str(redact_json(value))


@pytest.mark.parametrize(
    "text",
    [
        "token=",
        "key: ",
        "password=x ",
        "://",
        "hf_",
        "key=\\",
        'key="',
        "?a_",
        "--",
        "hub_token={",
        "a",
        "eyJ",
        "\ud800",
    ],
)
def test_time_grows_with_the_length_of_a_hostile_text_and_no_faster(text: str) -> None:
    with bounded_cpu():
        redact(text * (200_000 // len(text)))


def test_many_short_texts_are_redacted_quickly() -> None:
    with bounded_cpu():
        for number in range(5000):
            redact(f"data/train.jsonl:{number}:1 the answer is cut: 1,311 tokens")


def test_control_characters_and_lone_surrogates_become_visible() -> None:
    assert visible("a\x1b[31m\x00\x9b\ud800\u202e\uffff\U0001fffe") == (
        r"a\x1b[31m\x00\x9b\ud800\u202e\uffff\U0001fffe"
    )


def test_new_lines_tabs_and_other_scripts_stay() -> None:
    assert visible("a\r\nb\tc\n日本 ✓ 👩‍🚀 Ġ▁") == "a\nb\tc\n日本 ✓ 👩‍🚀 Ġ▁"
