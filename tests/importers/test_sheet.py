"""Every key of a file ends up in exactly one list; values keep their place and get the policy's type."""

from pathlib import Path

import pytest

from ftcheck.importers import importing
from ftcheck.importers.records import Imported
from ftcheck.policy.nodes import Node, find, plain

AXOLOTL = """\
base_model: model
datasets:
  - {path: train.jsonl, type: chat_template}
sequence_len: 4096
micro_batch_size: 2
learning_rate: 2e-4
"""


def imported(tmp_path: Path, text: str, framework: str | None = None) -> tuple[Node, Imported]:
    file = tmp_path / "config.yml"
    file.write_text(text)
    result = importing.read(framework, file, folder=tmp_path)
    assert result.problems == ()
    assert result.tree is not None
    assert result.imported is not None
    return result.tree, result.imported


def said(tmp_path: Path, text: str, framework: str | None = None) -> str:
    file = tmp_path / "config.yml"
    file.write_text(text)
    [problem] = importing.read(framework, file, folder=tmp_path).problems
    return str(problem).rpartition("/")[2]


def listed(one: Imported) -> list[str]:
    keys = [each.key for each in one.mapped]
    return keys + [each.key for each in one.without_effect] + [each.key for each in one.not_mapped]


def test_every_key_is_in_exactly_one_list(tmp_path: Path) -> None:
    text = (
        AXOLOTL + "wandb_name: x\neot_tokens: [a]\nsequence_length: 3\nlora_r:\nfsdp_config: {a: 1, b: 2}\n"
    )

    keys = listed(imported(tmp_path, text)[1])

    assert len(keys) == len(set(keys))
    assert set(keys) == {
        "base_model", "datasets.0.path", "datasets.0.type", "sequence_len", "micro_batch_size",
        "learning_rate", "wandb_name", "eot_tokens", "sequence_length", "lora_r", "fsdp_config.a",
        "fsdp_config.b",
    }  # fmt: skip


def test_a_value_keeps_its_line_and_a_default_says_whose_it_is(tmp_path: Path) -> None:
    tree, _ = imported(tmp_path, AXOLOTL)

    stated = find(tree, ("training", "max_length"))
    default = find(tree, ("training", "weight_decay"))

    assert stated is not None
    assert stated.key is not None
    assert stated.key.line == 4
    assert default is not None
    assert default.at.line is None
    assert default.at.yaml_path == "weight_decay (axolotl's default)"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("learning_rate: '2e-5'", ("training", "learning_rate"), 2e-5),
        ("num_epochs: '3'", ("training", "num_train_epochs"), 3.0),
        ("sample_packing: yes", ("training", "packing"), True),
        ("micro_batch_size: 4.0", ("training", "per_device_train_batch_size"), 4),
    ],
)
def test_values_that_the_framework_reads_laxly_get_the_policys_type(
    tmp_path: Path, text: str, path: tuple[str, ...], value: object
) -> None:
    kept = [line for line in AXOLOTL.splitlines() if line.partition(":")[0] != text.partition(":")[0]]

    node = find(imported(tmp_path, "\n".join([*kept, text]))[0], path)

    assert node is not None
    assert plain(node) == value
    assert type(plain(node)) is type(value)


def test_an_unknown_key_is_named_with_what_was_meant(tmp_path: Path) -> None:
    _, record = imported(tmp_path, AXOLOTL + "sample_pack: true\n")

    [unknown] = [one for one in record.not_mapped if not one.known]

    assert unknown.key == "sample_pack"
    assert unknown.at.line == 7
    assert "did you mean 'sample_packing'?" in unknown.why


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            AXOLOTL + "x: !include other.yml\n",
            "config.yml:7:4: x: the tag '!include' is not allowed: ftcheck runs",
        ),
        (AXOLOTL + "output_dir: {{ out }}\n", "config.yml:7:14: output_dir: contains Jinja"),
        (AXOLOTL + "<<: {a: 1}\n", "config.yml:7:1: merge keys (<<) are not supported: write the keys out"),
        (AXOLOTL + "---\na: 1\n", "config.yml:7:1: a second document starts here"),
        ("- a\n", "config.yml:1:1: is not a mapping"),
        ("a: 1\n", "config.yml:1:1: is not a configuration of a framework that ftcheck reads"),
    ],
)
def test_bad_input_is_one_line_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    assert said(tmp_path, text).startswith(message)


def test_a_file_of_another_framework_is_refused(tmp_path: Path) -> None:
    text = said(tmp_path, AXOLOTL, "llama-factory")
    assert text == "config.yml:1:1: looks like a configuration of axolotl, not of LLaMA-Factory"


@pytest.mark.parametrize(
    ("line", "key"),
    [("sequence_len: '${LENGTH}'", "sequence_len"), ("output_dir: '{{ out }}/x'", "output_dir")],
)
def test_a_value_that_is_put_together_elsewhere_is_named_and_not_replaced_by_a_default(
    tmp_path: Path, line: str, key: str
) -> None:
    kept = [one for one in AXOLOTL.splitlines() if one.partition(":")[0] != key]

    tree, record = imported(tmp_path, "\n".join([*kept, line]))

    [found] = [one for one in record.not_mapped if one.key == key]
    assert found.changes == ("ids", "memory")
    assert find(tree, ("training", "max_length" if key == "sequence_len" else "output_dir")) is None


def test_words_that_pyyaml_reads_as_switches(tmp_path: Path) -> None:
    text = AXOLOTL + "adapter: qlora\nload_in_4bit: off\nlora_target_linear: on\nsave_strategy: 'no'\n"
    made = plain(imported(tmp_path, text)[0])
    assert "quantization" not in made["training"]
    assert made["training"]["lora"]["target_modules"] == "all-linear"
    assert made["training"]["save_strategy"] == "no"
