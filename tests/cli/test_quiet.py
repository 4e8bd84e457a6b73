"""What libraries tell programmers is not on the user's screen, whatever the command."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.project import Project
from tests.places import SAMPLES

POLICY = """\
ftcheck: 1
jobs:
  job:
    model: {name: model}
    data: {train: train.jsonl}
    training: {max_length: 512, output_dir: out, assistant_only_loss: true}
    serving: {system_prompt: x, max_new_tokens: 64}
checks: {percentile-seq-len: {}, tokenizer-parity: {}, chat-template: {}}
"""


@pytest.fixture(scope="module")
def warned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job whose tokenizer makes transformers warn: each row is longer than it says it can take."""
    folder = tmp_path_factory.mktemp("warned")
    shutil.copytree(SAMPLES / "models" / "mapper-tiny", folder / "model")
    config = folder / "model" / "tokenizer_config.json"
    stated = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**stated, "model_max_length": 4}), encoding="utf-8")
    rows = (SAMPLES / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(rows[:20]), encoding="utf-8")
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    return folder


def test_the_job_would_warn(warned: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(warned / "model")

    assert tokenizer.model_max_length == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "policy.yaml"),
        ("show", "policy.yaml", "--job", "job"),
        ("show", "policy.yaml", "--job", "job", "--first-finding"),
        ("plan", "policy.yaml"),
        ("lock", "policy.yaml"),
        ("fix", "policy.yaml", "--diff"),
        ("policy", "show", "policy.yaml"),
    ],
    ids=" ".join,
)
def test_no_command_lets_a_librarys_warning_through(warned: Path, arguments: tuple[str, ...]) -> None:
    ran = Project(warned, fresh=True).call(*arguments)

    said = ran.err.lower()
    assert "warning" not in said
    assert "token indices" not in said
    assert "deprecat" not in said
    assert "pytorch" not in said
