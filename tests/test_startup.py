"""What is imported when: help is cheap, and config-only checks never touch torch or transformers."""

import json
import subprocess
import sys

import pytest

from tests.cli.project import Project, rule_text

POLICY_ONLY = (
    "import sys, ftcheck.policy, ftcheck.policy.plan, ftcheck.policy.presets, ftcheck.tables\n"
    "import ftcheck_trainers.arguments_table"
)
READS = "import sys\nfrom ftcheck.policy import draft\ndraft('nowhere.yaml')"
HEAVY = ("pydantic", "numpy", "transformers", "torch", "ruamel", "rich", "pyarrow", "jsonschema", "psutil")


def modules_after(*arguments: str) -> set[str]:
    """The top-level modules that are loaded when a command ends."""
    code = (
        "import sys, json\nfrom ftcheck.cli import run_command\n"
        f"run_command({list(arguments)!r})\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("program", "heavy"),
    [
        (POLICY_ONLY, {"pydantic", "ruamel", "jsonschema", "numpy", "transformers", "torch", "trl", "rich"}),
        (READS, {"numpy", "transformers", "torch", "trl", "rich"}),
    ],
    ids=["the package is imported", "a policy is read"],
)
def test_a_policy_imports_no_tokenizer_and_no_trainer(program: str, heavy: set[str]) -> None:
    said = f"{program}\nprint(sorted(set(sys.modules) & {heavy!r}))"
    found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("--help",), ("run", "--help"), ("train", "--help"), ("export", "litellm", "--help")],
)
def test_help_and_version_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert modules_after(*arguments).isdisjoint(HEAVY)


def test_listing_rules_loads_no_library_that_opens_data_or_models() -> None:
    assert modules_after("rules").isdisjoint({"torch", "transformers", "datasets", "peft", "trl", "pyarrow"})


def test_a_run_of_config_only_checks_imports_neither_torch_nor_transformers(fresh: Project) -> None:
    body = "yield Measurement('loaded', ' '.join(sorted({'torch', 'transformers'} & set(sys.modules))))"
    fresh.rules(rule_text("zz-modules", body, "job: Job"))
    checks = "environment: {}\ngpu: {}\noutput-dir: {}\ndisk-space: {}\nzz-modules: {}"
    jobs = "  job: {model: {name: ./model}, training: {output_dir: out}}\n"
    fresh.policy(checks, jobs=jobs)

    ran = fresh.run()

    assert ran.result("job::zz-modules")["measurements"][0]["value"] == ""
    assert ran.outcome("environment") == "passed"
