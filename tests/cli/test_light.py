"""What works with less installed: the full report without TRL, and `policy check` with next to nothing."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.hidden import TRAINING, without
from tests.places import CHECKOUT, DATA, POLICIES, SAMPLES

STOCK = """\
ftcheck: 1
extends: [recommended]
jobs:
  job:
    model: {{name: {model}}}
    data: {{train: {rows}}}
    training: {{max_length: 512, assistant_only_loss: true, output_dir: out}}
"""


def reported(folder: Path, environment: dict[str, str] | None) -> dict[str, Any]:
    """The report of `stock.yaml`."""
    words = [sys.executable, "-m", "ftcheck", "run", "stock.yaml", "--no-cache", "-q", "-o", "json=r.json"]
    subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=False)
    report: dict[str, Any] = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    return report


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["llama-3-instruct", "Qwen2.5-Instruct"])
def test_the_base_install_gives_the_report_of_a_stock_template(tmp_path: Path, name: str) -> None:
    pytest.importorskip("trl")
    lines = (SAMPLES / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    text = STOCK.format(model=DATA / "tokenizers" / name, rows=tmp_path / "rows.jsonl")
    (tmp_path / "stock.yaml").write_text(text, encoding="utf-8")

    whole = reported(tmp_path, None)
    base = reported(tmp_path, without(tmp_path / "hides", *TRAINING))

    assert base["jobs"] == whole["jobs"]
    assert base["jobs"]["job"]["ids"].startswith("sha256-tree:")
    outcomes = {one["id"]: one["outcome"] for one in base["results"]}
    assert outcomes["job::trained-tokens"] == outcomes["job::chat-template"] == "passed"
    assert {"errored", "timeout", "not-run"}.isdisjoint(outcomes.values())


HEAVY = ("numpy", "pyarrow", "transformers", "torch", "rich", "jinja2", "jsonschema", "psutil", "rensa")
IMPORTED = """
import json, sys
from ftcheck.cli import run_command
code = run_command(["policy", "check", sys.argv[1]])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))))
raise SystemExit(code)
"""
OF_DEPENDENCIES = {"annotated_types", "pydantic_core", "typing_extensions", "typing_inspection"}
OF_SITES = {"__main__", "__mp_main__", "_distutils_hack", "sitecustomize"}
WHOLE = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
LIGHT = tomllib.loads((CHECKOUT / "light" / "pyproject.toml").read_text(encoding="utf-8"))


def dependencies(project: dict[str, Any]) -> list[str]:
    """What a distribution needs, with the floors."""
    return list(project["project"]["dependencies"])


def test_a_policy_is_checked_without_the_libraries_that_open_data_and_models(tmp_path: Path) -> None:
    words = [sys.executable, "-c", IMPORTED, str(POLICIES / "night_before.yaml")]
    hides = without(tmp_path / "hides", *HEAVY, *TRAINING)
    done = subprocess.run(words, env=hides, capture_output=True, text=True, check=False)
    said, loaded = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"night_before.yaml: 2 jobs, \d+ checks$", said)
    light = {one.partition(">=")[0].partition(".")[0] for one in dependencies(LIGHT)}
    known = light | OF_DEPENDENCIES | OF_SITES
    others = {
        one for one in json.loads(loaded) if not one.startswith(("ftcheck", "_sysconfigdata", "__editable__"))
    }
    assert others <= known


def test_a_valid_policy_is_checked_without_the_gate_and_without_pydantic_for_parameters(
    tmp_path: Path,
) -> None:
    code = (
        "import sys\nfrom ftcheck.cli import run_command\nfrom ftcheck.policy import validation\n"
        "code = run_command(['policy', 'check', sys.argv[1]])\n"
        "made = validation._adapter.cache_info().currsize\n"
        "print(made, sorted({'ftcheck.gate.decide', 'ftcheck.runner.session'} & set(sys.modules)))"
    )
    (tmp_path / "p.yaml").write_text(
        "ftcheck: 1\nextends: [recommended]\njobs: {one: {model: {name: org/name}}}\n", encoding="utf-8"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "p.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    made, loaded = done.stdout.splitlines()[-1].split(" ", 1)

    assert loaded == "[]"
    assert int(made) < 12, "a validator is made for each rule again"


def test_the_light_distribution_is_the_same_with_fewer_dependencies() -> None:
    whole, light = (one["tool"]["hatch"]["build"]["targets"]["wheel"] for one in (WHOLE, LIGHT))
    included = light["force-include"]
    shipped = {
        f"../{source}": name for source, name in whole["force-include"].items() if "/samples/" not in source
    }

    assert LIGHT["project"]["version"] == WHOLE["project"]["version"]
    assert LIGHT["project"]["requires-python"] == WHOLE["project"]["requires-python"]
    assert set(dependencies(LIGHT)) < set(dependencies(WHOLE))
    assert included == {f"../{one}": one.rpartition("/")[2] for one in whole["packages"]} | shipped


def test_the_hook_for_policies_installs_the_root_of_the_repository_as_the_light_distribution(
    tmp_path: Path,
) -> None:
    text = (CHECKOUT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    hooks = {one["id"]: one for one in YAML(typ="safe").load(text)}
    options = hooks["ftcheck-policy"]["additional_dependencies"]
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]
    subprocess.run([*pip, str(tmp_path), str(CHECKOUT), *options], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    about = next(one for one in zipfile.ZipFile(wheel).namelist() if one.endswith("/METADATA"))
    needed = re.findall("^Requires-Dist: (.*)$", zipfile.ZipFile(wheel).read(about).decode(), re.MULTILINE)

    assert wheel.name.startswith("ftcheck_policy-")
    assert sorted(needed) == [one.replace("ruamel.yaml", "ruamel-yaml") for one in dependencies(LIGHT)]
    assert "additional_dependencies" not in hooks["ftcheck"]


def test_a_command_that_needs_more_says_what_to_install(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    site = tmp_path / "site"
    subprocess.run([*command, str(site), str(CHECKOUT / "light")], check=True, capture_output=True)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ftcheck.cli import main; main()"
    words = [sys.executable, "-S", "-c", code + "\n", str(site), "run", str(POLICIES / "night_before.yaml")]
    needed = tmp_path / "needed"
    needed.mkdir()
    for name in ("click", "pluggy", "pydantic", *OF_DEPENDENCIES, "ruamel", "filelock", "platformdirs"):
        found = importlib.util.find_spec(name)
        assert found is not None
        where = found.submodule_search_locations
        path = Path(where[0]) if where else Path(str(found.origin))
        (needed / path.name).symlink_to(path)
    about = {"PATH": "", "PYTHONPATH": str(needed), "HOME": str(tmp_path)}
    done = subprocess.run(words, env=about, capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert done.stderr.startswith("ftcheck-policy only validates policies (no ")
    assert done.stderr.endswith("pip install ftcheck\n")
    assert done.stderr.count("\n") == 1
