"""`from:`: a layer under a job, read at each run; what the policy states beside it is listed."""

from pathlib import Path

import pytest

from ftcheck.gate.decide import code_of
from ftcheck.gate.input_digests import gather
from ftcheck.policy import draft, show
from ftcheck.policy.reading import Draft

CONFIG = """\
base_model: ./model
datasets:
  - {path: train.jsonl, type: chat_template}
sequence_len: 4096
learning_rate: 2e-4
sample_packing: false
"""


def read(tmp_path: Path, job: str = "", top: str = "", config: str = CONFIG) -> Draft:
    (tmp_path / "qlora.yml").write_text(config)
    text = f"ftcheck: 1\n{top}jobs:\n  one:\n    from: {{axolotl: qlora.yml}}\n{job}"
    (tmp_path / "p.yaml").write_text(text)
    return draft(tmp_path / "p.yaml")


def differences(found: Draft) -> dict[str, tuple[object, object]]:
    return {one.to: (one.policy, one.framework) for one in found.imports["one"].differences}


def test_the_file_states_the_job(tmp_path: Path) -> None:
    found = read(tmp_path)

    assert found.problems == ()
    assert found.policy is not None
    job = found.policy.jobs["one"]
    assert job.training.max_length == 4096
    assert job.data.train == str(tmp_path / "train.jsonl")
    assert job.model.name == str(tmp_path / "model")
    assert job.at("training.max_length").line == 4
    assert job.canonical["from"] == {"axolotl": "qlora.yml"}
    assert differences(found) == {}


def test_what_the_policy_states_overrides_and_is_listed_with_both_values(tmp_path: Path) -> None:
    found = read(
        tmp_path, "    training: {max_length: 2048, packing: true, learning_rate: 0.0002, max_steps: 5}\n"
    )

    assert found.policy is not None
    assert found.policy.jobs["one"].training.max_length == 2048
    expected = {
        "training.max_length": (2048, 4096),
        "training.packing": (True, False),
        "training.max_steps": (5, None),
    }
    assert differences(found) == expected
    [length] = [one for one in found.imports["one"].differences if one.to == "training.max_length"]
    assert (length.key, length.at.line, length.policy_at.line) == ("sequence_len", 4, 5)


def test_a_section_that_the_policy_removes_is_a_difference(tmp_path: Path) -> None:
    config = CONFIG + "adapter: lora\nload_in_8bit: true\nlora_r: 8\nlora_target_linear: true\n"
    found = read(tmp_path, "    training: {quantization: null}\n", config=config)
    assert differences(found) == {"training.quantization.load_in_8bit": (None, True)}


def test_the_same_path_written_otherwise_is_no_difference(tmp_path: Path) -> None:
    assert differences(read(tmp_path, "    data: {train: ./train.jsonl}\n")) == {}


def test_defaults_lie_below_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, top="defaults: {training: {max_length: 9, max_steps: 3}}\n")
    assert found.policy is not None
    assert found.policy.jobs["one"].training.max_length == 4096
    assert differences(found) == {"training.max_steps": (3, None)}


def test_origin_shows_each_values_line_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = show(read(tmp_path), origin=True).splitlines()
    assert any("max_length: 4096" in line and line.endswith("# qlora.yml:4") for line in lines)
    assert any(line.endswith("# qlora.yml: weight_decay (axolotl's default)") for line in lines)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("{axolotle: qlora.yml}", "unknown framework 'axolotle'; did you mean 'axolotl'?"),
        ("{axolotl: none.yml}", "no such file"),
        ("{axolotl: 3}", "must be text, not 3"),
        ("{}", "must name one framework and its file"),
        ("qlora.yml", "must name one framework and its file"),
        ("{axolotl: qlora.yml, trl: x.yml}", "must name one framework and its file"),
        ("{trl: qlora.yml}", "looks like a configuration of axolotl, not of TRL"),
    ],
)
def test_what_is_wrong_with_from_is_said(tmp_path: Path, stated: str, message: str) -> None:
    (tmp_path / "qlora.yml").write_text(CONFIG)
    (tmp_path / "p.yaml").write_text(f"ftcheck: 1\njobs:\n  one:\n    from: {stated}\n")

    said = [str(one) for one in draft(tmp_path / "p.yaml").problems]

    assert any(message in one for one in said), said


def test_a_value_that_the_policy_refuses_is_pointed_at_in_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, config=CONFIG.replace("learning_rate: 2e-4", "learning_rate: -1"))
    assert [(Path(one.path or "").name, one.line, one.message) for one in found.problems] == [
        ("qlora.yml", 5, "must be above 0, not -1")
    ]


def test_the_gate_digests_the_file(tmp_path: Path) -> None:
    def digests(found: Draft) -> object:
        assert found.policy is not None
        return gather(found.policy.jobs["one"], ()).inputs["one.from"]

    before = digests(read(tmp_path))
    after = digests(read(tmp_path, config=CONFIG + "# another byte\n"))

    assert before != after
    assert code_of("one.from", "one") == "policy-changed"


def test_paths_of_the_file_begin_where_its_policy_lies(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/qlora.yml").write_text(CONFIG)
    (tmp_path / "p.yaml").write_text("ftcheck: 1\njobs:\n  one:\n    from: {axolotl: configs/qlora.yml}\n")

    policy = draft(tmp_path / "p.yaml").policy

    assert policy is not None
    assert policy.jobs["one"].data.train == str(tmp_path / "train.jsonl")
    assert policy.jobs["one"].canonical["data"]["train"] == "train.jsonl"


def test_a_policy_that_stands_in_for_what_is_not_known_is_no_difference(tmp_path: Path) -> None:
    config = CONFIG.replace("sequence_len: 4096", "sequence_len: '${LENGTH}'") + "chat_template: llama3\n"
    (tmp_path / "own.jinja").write_text("{{ messages }}")
    job = "    model: {chat_template: own.jinja}\n    training: {max_length: 2048}\n"

    found = read(tmp_path, job, config=config)

    assert found.policy is not None
    assert found.policy.jobs["one"].training.max_length == 2048
    assert differences(found) == {}


@pytest.mark.parametrize(
    "config",
    [
        "model: org/name\nmodel_class: llm\npeft_config: {name: lora}\ntrain_dataset: a.yaml\n",
        "base_model: ${oc.env:MODEL}\nsequence_len: 5\n",
        "sequence_len: 5\ntokenizer_config: org/other\n",
    ],
)
def test_a_configuration_without_a_readable_model_is_told_with_the_remedy(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text(config)
    framework = "llama-factory" if "model_class" in config else "axolotl"
    text = f"ftcheck: 1\njobs:\n  one:\n    from: {{{framework}: c.yml}}\n"
    (tmp_path / "p.yaml").write_text(text)

    [told] = draft(tmp_path / "p.yaml").problems
    assert told.message == (
        "c.yml names no base model that ftcheck can read: state model.name beside 'from' (--model of ftcheck"
        " check)"
    )
    (tmp_path / "p.yaml").write_text(f"{text}    model: {{name: org/name}}\n")
    assert draft(tmp_path / "p.yaml").problems == ()


def test_a_configuration_in_the_place_of_a_policy_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it's.yml").write_text(CONFIG)

    assert [str(one) for one in draft("it's.yml").problems] == [
        "it's.yml: is a configuration of axolotl, not a policy: ftcheck check 'it'\"'\"'s.yml' checks it, and"
        " ftcheck init 'it'\"'\"'s.yml' writes its policy"
    ]
    (tmp_path / "ds.yaml").write_text("zero_optimization: {stage: 2}\n")
    [told] = draft("ds.yaml").problems
    assert told.message == "is a configuration of DeepSpeed, not a policy"
