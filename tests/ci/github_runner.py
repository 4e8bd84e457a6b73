"""Runs a composite action's steps as they stand in action.yml, the way a runner of GitHub does.

Each `run:` goes through `bash --noprofile --norc -eo pipefail` with the step's environment and the runner's
files. A `uses:` step is not run: what it was given is recorded. Expressions are worked out for the operators
that the action uses; any other is an error of the test.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
WORD = re.compile(r"'(?:[^']|'')*'|[A-Za-z_][\w.-]*|==|!=|&&|\|\||[()!]")
SHELL = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
OPERATORS = {"&&": "and", "||": "or", "!": "not", "true": "True", "false": "False"}


@dataclass
class Step:
    """What became of a step: `outcome` before, `conclusion` after continue-on-error is applied."""

    name: str
    outcome: str
    conclusion: str
    code: int | None = None
    out: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Job:
    """A job that has this action as its only step."""

    steps: dict[str, Step]
    outputs: Mapping[str, str]
    summary: str

    @property
    def red(self) -> bool:
        """Whether GitHub shows the job as failed."""
        return any(step.conclusion == "failure" for step in self.steps.values())


@dataclass
class Runner:
    """A runner with a workspace; `environment` is what the job's processes inherit."""

    action: Path
    workspace: Path
    temp: Path
    environment: Mapping[str, str]
    event: Mapping[str, Any] = field(default_factory=dict)
    done_before: tuple[str, ...] = ()
    """Steps whose work is there already: they are taken for successful."""

    def run(self, inputs: Mapping[str, str]) -> Job:
        """Run the action with these inputs; those that are not given have their defaults."""
        text = YAML(typ="safe").load((self.action / "action.yml").read_text(encoding="utf-8"))
        unknown = set(inputs) - set(text["inputs"])
        assert not unknown, f"the action has no input {unknown}"
        stated = {name: one.get("default", "") for name, one in text["inputs"].items()} | dict(inputs)
        context: dict[str, Any] = {
            "inputs": stated,
            "github": {"token": "the-token", "event": self.event, "action_path": str(self.action)},
            "steps": {},
        }
        steps: dict[str, Step] = {}
        for one in text["runs"]["steps"]:
            failed = any(step.conclusion == "failure" for step in steps.values())
            step = self._step(one, context, failed=failed)
            steps[one["name"]] = step
            context["steps"][one.get("id", one["name"])] = {"outputs": step.outputs}
        outputs = {name: evaluated(one["value"], context) for name, one in text["outputs"].items()}
        summary = self.temp / "summary"
        return Job(steps, outputs, summary.read_text(encoding="utf-8") if summary.exists() else "")

    def _step(self, one: Mapping[str, Any], context: Mapping[str, Any], *, failed: bool) -> Step:
        condition = str(one.get("if", "success()"))
        asks = "always()" in condition or "success()" in condition
        wanted = truth(condition, context, failed=failed) and (asks or not failed)
        if not wanted:
            return Step(one["name"], "skipped", "skipped")
        if one["name"] in self.done_before:
            return Step(one["name"], "success", "success", 0)
        if "uses" in one:
            given = {key: evaluated(str(value), context) for key, value in one.get("with", {}).items()}
            outputs = {"python-path": sys.executable} if "setup-python" in one["uses"] else {}
            return Step(one["name"], "success", "success", outputs=outputs, given=given)
        return self._ran(one, context)

    def _ran(self, one: Mapping[str, Any], context: Mapping[str, Any]) -> Step:
        assert "${{" not in one["run"], "an expression in a script: an input could be run"
        assert one["shell"] == "bash"
        output = self.temp / f"output-{len(context['steps'])}"
        script = self.temp / "script.sh"
        script.write_text(one["run"], encoding="utf-8")
        own = {key: evaluated(str(value), context) for key, value in one.get("env", {}).items()}
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(self.temp / "summary")}
        done = subprocess.run(
            [*SHELL, str(script)],
            cwd=self.workspace,
            env={
                **self.environment,
                "GITHUB_WORKSPACE": str(self.workspace),
                "GITHUB_ACTION_PATH": str(self.action),
                "RUNNER_TEMP": str(self.temp),
                **files,
                **own,
            },
            capture_output=True,
            check=False,
        )
        out = (done.stdout + done.stderr).decode("utf-8", "replace")
        outcome = "success" if done.returncode == 0 else "failure"
        conclusion = "success" if one.get("continue-on-error") else outcome
        return Step(one["name"], outcome, conclusion, done.returncode, out, outputs_of(output))


def outputs_of(file: Path) -> dict[str, str]:
    """The outputs that a step wrote, as the runner reads them: `NAME=VALUE`, or `NAME<<END` and lines."""
    found: dict[str, str] = {}
    lines = iter(file.read_text(encoding="utf-8").splitlines() if file.exists() else [])
    for line in lines:
        name, heredoc, end = line.partition("<<")
        if heredoc:
            value = []
            for inner in lines:
                if inner == end:
                    break
                value.append(inner)
            else:
                raise AssertionError(f"output {name}: {end} is missing")
            found[name] = "\n".join(value)
        else:
            name, _, value_text = line.partition("=")
            found[name] = value_text
    return found


def evaluated(text: str, context: Mapping[str, Any]) -> str:
    """A text with its expressions worked out."""
    return EXPRESSION.sub(lambda found: _text(_value(found[1], context, failed=False)), text)


def truth(condition: str, context: Mapping[str, Any], *, failed: bool) -> bool:
    """Whether a step's `if` holds."""
    inner = EXPRESSION.fullmatch(condition.strip())
    return bool(_value(inner[1] if inner else condition, context, failed=failed))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _value(expression: str, context: Mapping[str, Any], *, failed: bool) -> Any:
    rest = WORD.sub("", expression).strip()
    assert not rest, f"an expression that is not understood: {expression}"
    words = []
    for word in WORD.findall(expression):
        if word[0].isalpha() and word not in OPERATORS:
            calls = {"always": True, "success": not failed, "failure": failed}
            words.append(f"(lambda: {calls[word]})" if word in calls else repr(_looked_up(word, context)))
        else:
            words.append(OPERATORS.get(word, word))
    return eval(" ".join(words), {"__builtins__": {}})  # the words are this file's own and literals


def _looked_up(name: str, context: Mapping[str, Any]) -> Any:
    found: Any = context
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def bare_environment(**more: str) -> dict[str, str]:
    """What a job on a hosted runner has, as far as the action looks at it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "GITHUB_WORKFLOW": "night",
        "GITHUB_JOB": "check",
        "GITHUB_REPOSITORY": "owner/name",
        "GITHUB_RUN_ID": "7",
        "GITHUB_SERVER_URL": "https://github.example",
        **more,
    }
