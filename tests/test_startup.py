"""What is imported when: help is cheap, and config-only checks never touch torch or transformers."""

import json
import subprocess
import sys
from pathlib import Path

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


def test_a_second_run_on_other_rows_imports_neither_torch_nor_transformers(
    fresh: Project, samples: Path
) -> None:
    """Modules and dry save come from the first run; tokenizer and rows are opened and checked."""
    body = "yield Measurement('loaded', ' '.join(sorted({'torch', 'transformers'} & set(sys.modules))))"
    fresh.rules(rule_text("zz-modules", body, "job: Job, prepared: Any"))
    model = samples / "models" / "mapper-tiny"
    fresh.policy(
        "tokenizer-parity: {}\nchat-template: {}\nprompt-boundary: {}\ntruncation: {}\ncollator: {}\n"
        "lora-targets: {}\ndry-save: {}\nzz-modules: {}",
        jobs=f"  job:\n    model: {{name: {model}}}\n    data: {{train: rows.jsonl}}\n"
        "    training: {assistant_only_loss: true, lora: {r: 8}}\n",
    )
    ran = []
    for words in ("first", "second"):
        texts = [(f"{words} {number}?", f"{words} {number}!") for number in range(20)]
        rows = [
            {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
            for asked, said in texts
        ]
        fresh.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        ran.append(fresh.run("--offline").report)
    ran.append(fresh.run("--offline", "--no-cache").report)

    loaded = [
        next(one for one in report["results"] if one["id"] == "job::zz-modules")["measurements"][0]["value"]
        for report in ran
    ]
    assert loaded == ["torch transformers", "", "torch transformers"]
    assert [{one["outcome"] for one in report["results"]} for report in ran] == [{"passed"}] * 3
    cached = [report["run"]["cached"] for report in ran]
    assert cached == [[], ["job.modules", "job.saved"], []]
    on_kept = [report["run"]["cached_checks"] for report in ran]
    assert on_kept == [[], ["job::dry-save", "job::lora-targets"], []]
