import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ftcheck_plugins.guard import job_of, settings_of
from ruamel.yaml import YAML

from ftcheck.cli import app, run_command
from ftcheck.errors import UsageError
from ftcheck.runner.load import load
from ftcheck.settings import Job, Serving
from ftcheck.testing import job
from tests.cli.project import Project
from tests.places import CHECKOUT

POLICY = str(CHECKOUT / "policies" / "night_before.yaml")
SERVER = "http://127.0.0.1:8000/v1"


def parsed(text: str) -> dict[str, Any]:
    """As LiteLLM reads it: YAML 1.1."""
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)
    loaded: dict[str, Any] = reader.load(text)
    return loaded


def exported(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run_command(["export", "litellm", POLICY, "--endpoint", SERVER, *arguments]) == 0
    return parsed(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_command(["export", "litellm", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_each_job_is_a_model_in_front_of_the_server_with_a_guardrail_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = exported(capsys)

    assert [one["model_name"] for one in made["model_list"]] == ["mapper", "analyst"]
    assert {one["litellm_params"]["api_base"] for one in made["model_list"]} == {SERVER}
    for one, name in zip(made["guardrails"], ("mapper", "analyst"), strict=True):
        stated = one["litellm_params"]
        assert (stated["mode"], stated["default_on"], stated["models"]) == (
            ["pre_call", "post_call"],
            True,
            [name],
        )
    assert made["litellm_settings"]["turn_off_message_logging"] is True


def test_what_is_exported_is_the_job_again(capsys: pytest.CaptureFixture[str]) -> None:
    made = exported(
        capsys, "--job", "mapper", "--set", "jobs.mapper.serving.chat_template_kwargs={on: '1e5'}"
    )

    [one] = made["guardrails"]
    back = job_of(one["litellm_params"]["ftcheck"])
    [first, *_] = load(POLICY).policy.jobs.values()
    assert (back.name, back.model) == ("mapper", first.model)
    assert back.serving.chat_template_kwargs == {"on": "1e5"}
    assert back.serving.output_schema == first.serving.output_schema


def test_every_setting_of_serving_survives(tmp_path: Path) -> None:
    full = job(serving={"stop": ("a", "b"), "max_new_tokens": 5, "schema_retries": 1, "log": "none"})

    back: Job = job_of(settings_of(full))

    assert back.serving == full.serving
    assert back.serving != Serving()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "contain no job"),
        ({"job": "j"}, "model"),
        ({"job": "j", "model": {"name": "m"}, "serving": {"max_new_tokens": "5"}}, "serving.max_new_tokens"),
        ({"job": "j", "model": {"name": "m"}, "serving": {"heron": 5}}, "serving.heron"),
    ],
)
def test_settings_that_are_none_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        job_of(settings)


def test_a_file_is_written_in_one_step_and_a_folder_takes_litellm_yaml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "litellm", POLICY, "--endpoint", SERVER]
    file = tmp_path / "proxy.yaml"
    file.write_text("old")
    file.chmod(0o600)

    assert run_command([*command, "-o", str(file)]) == 0
    assert run_command([*command, "-o", str(tmp_path)]) == 0

    assert "litellm --config" in capsys.readouterr().err
    assert file.read_text() == (tmp_path / "litellm.yaml").read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["litellm.yaml", "proxy.yaml"]


def test_everything_that_keeps_jobs_from_a_guard_is_said_at_once_at_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = ("rules=null", "max_input_tokens=null", "log=content")
    sets = [part for one in changes for part in ("--set", f"jobs.mapper.serving.{one}")]

    said = refused(capsys, POLICY, "--endpoint", SERVER, *sets)

    for key in ("rules", "max_input_tokens", "log"):
        assert re.search(rf"jobs\.mapper\.serving\.{key}: ", said)


def test_nothing_is_written_where_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "proxy.yaml"

    refused(capsys, POLICY, "-o", str(file))

    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the proxy has no server: pass --endpoint URL"),
        (("--endpoint", "localhost:8000"), "--endpoint: not a URL"),
        (("--endpoint", "http://user:heron@host/v1"), "pass keys in the environment"),
        (("--endpoint", SERVER, "--job", "nope"), "no job 'nope'; its jobs are: mapper, analyst"),
        (("--endpoint", SERVER, "-o", "/nowhere/at/all.yaml"), "cannot be written"),
        (
            ("--endpoint", SERVER, "--set", "jobs.mapper.serving.system_prompt=os.environ/HF_TOKEN"),
            "starts with os.environ/",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    said = refused(capsys, POLICY, *arguments)

    assert message in said
    assert "heron" not in said


def test_the_server_behind_it_may_stand_in_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [f"jobs.{job}.serving.upstream={SERVER}" for job in ("mapper", "analyst")]
    named = "jobs.mapper.serving.upstream_model=mapper-lora"

    code = run_command(["export", "litellm", POLICY, *(x for one in (*sets, named) for x in ("--set", one))])

    assert code == 0
    first = parsed(capsys.readouterr().out)["model_list"][0]["litellm_params"]
    assert first == {"model": "hosted_vllm/mapper-lora", "api_base": SERVER}


def test_it_needs_no_litellm() -> None:
    code = (
        "import sys; sys.modules['litellm'] = None; from ftcheck.cli import run_command\n"
        f"raise SystemExit(run_command(['export', 'litellm', {POLICY!r}, '--endpoint', {SERVER!r}]))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "guardrails:" in done.stdout


@pytest.mark.parametrize("arguments", [("export", "--help"), ("export", "litellm", "--help")])
def test_help_says_what_is_written(arguments: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, list(arguments))

    assert said.exit_code == 0
    assert "LiteLLM" in said.output


def test_a_card_of_a_report(gated: Project) -> None:
    shown = gated.call("export", "card", "r.json")
    written = gated.call("export", "card", "r.json", "-o", "card.md")
    absent = gated.call("export", "card", "absent.json")

    assert shown.out.startswith("## What was checked")
    assert (gated.folder / "card.md").read_text(encoding="utf-8") == shown.out
    assert written.err == "card.md written\n"
    assert (absent.code, absent.err.count("\n")) == (2, 1)
