"""`ftcheck init --from FILE`: a policy for a framework's configuration."""

from pathlib import Path

import pytest

from ftcheck.errors import PolicyError, UsageError
from ftcheck.importers.policy_file import write
from ftcheck.policy import draft
from tests.importers.test_sheet import AXOLOTL


def made(tmp_path: Path, text: str, *, expand: bool = False) -> Path:
    (tmp_path / "qlora.yml").write_text(text)
    return write(tmp_path / "qlora.yml", tmp_path, expand=expand)[0]


def test_the_policy_names_the_file_and_its_trainer(tmp_path: Path) -> None:
    policy = draft(made(tmp_path, AXOLOTL + "eot_tokens: [x]\n")).policy

    assert policy is not None
    job = policy.jobs["qlora"]
    assert job.from_ == {"axolotl": str(tmp_path / "qlora.yml")}
    assert job.trainer.argv == ("axolotl", "train", "qlora.yml")
    assert "eot_tokens (line 7)" in (tmp_path / "ftcheck.yaml").read_text()


def test_expanded_it_states_the_same_job_without_the_file(tmp_path: Path) -> None:
    named = draft(made(tmp_path, AXOLOTL)).policy
    (tmp_path / "ftcheck.yaml").unlink()
    expanded = draft(made(tmp_path, AXOLOTL, expand=True)).policy

    assert named is not None
    assert expanded is not None
    one, other = named.jobs["qlora"], expanded.jobs["qlora"]
    assert other.from_ is None
    assert (one.training, one.model, one.data) == (other.training, other.model, other.data)
    assert other.trainer.files == (str(tmp_path / "qlora.yml"),)


@pytest.mark.parametrize("expand", [False, True])
def test_a_template_in_the_file_is_written_beside_it(tmp_path: Path, expand: bool) -> None:
    text = "model_name_or_path: m\ndataset_mixture:\n  datasets: [{id: d}]\n"
    text += "chat_template: '{% for m in x %}{% endfor %}'\n"

    policy = draft(made(tmp_path, text, expand=expand)).policy

    assert policy is not None
    assert policy.jobs["qlora"].model.chat_template == str(tmp_path / "chat_template.jinja")
    assert (tmp_path / "chat_template.jinja").read_text() == "{% for m in x %}{% endfor %}"


@pytest.mark.parametrize("name", ["it's.yml", "a b.yml", "模型.yml", "- x: 1.yml"])
def test_a_file_of_any_name_is_named_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(AXOLOTL)

    policy = draft(write(tmp_path / name, tmp_path, expand=False)[0]).policy

    assert policy is not None
    [job] = policy.jobs.values()
    assert job.from_ == {"axolotl": str(tmp_path / name)}
    assert job.trainer.argv == ("axolotl", "train", name)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ftcheck.yaml").write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        made(tmp_path, AXOLOTL)
    assert (tmp_path / "ftcheck.yaml").read_text() == "mine"


def test_a_file_that_is_no_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"name it under training\.deepspeed"):
        made(tmp_path, "zero_optimization: {stage: 3}\n")
    with pytest.raises(PolicyError, match="not a configuration"):
        made(tmp_path, "a: 1\n")


def test_nothing_of_the_file_leaves_the_comments(tmp_path: Path) -> None:
    text = AXOLOTL + '"x\\n    serving: {max_new_tokens: 1}\\u0000": 1\n"eot\\u2028tokens": [x]\n'

    file = made(tmp_path, text)
    policy = draft(file).policy

    assert policy is not None
    assert policy.jobs["qlora"].serving.max_new_tokens is None
    assert "max_new_tokens" in file.read_text(encoding="utf-8")
