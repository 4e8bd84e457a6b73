"""The reference is whole: no rule, key, exit code, command or public name without its entry on the site."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import ftcheck
from ftcheck.cli import COMMANDS, app
from ftcheck.exit_codes import ExitCode
from ftcheck.extension import hookspecs
from ftcheck.extension.plugin_host import make_host
from ftcheck.policy import schema
from ftcheck.tables import load
from ftcheck.tables.failures import catalogue
from tests.places import CHECKOUT

pytest.importorskip("mkdocs", reason="needs the [docs] extra")

from tests.docs.built import Page, build, page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


def at(site: Path, address: str) -> Page:
    """A page by its address."""
    return page(site / address / "index.html")


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    fetched = {one for path in pages for one in page(path).fetched}

    assert len(pages) > 100
    assert {one for one in fetched if re.match(r"(https?:)?//", one)} == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//[^)]*", styles) == []


@pytest.mark.parametrize("rule_id", sorted(make_host().rules))
def test_every_rule_has_its_page(site: Path, rule_id: str) -> None:
    rule = make_host().rules[rule_id]
    shown = at(site, f"reference/rules/{rule_id}")

    for said in (rule.summary, rule.why):
        assert plain(said) in squeezed(shown.text)
    assert rule.stage.value in shown.text
    for name in rule.params_type.__dataclass_fields__ if rule.params_type else {}:
        assert f"param-{name}" in shown.ids
    for failure in (one for one in catalogue() if one.rule == rule_id):
        assert f"failure-{failure.id}" in shown.ids


def plain(markdown: str) -> str:
    """A docstring as a reader sees it, without spaces: code marks are not shown."""
    return "".join(markdown.replace("`", "").split())


def squeezed(text: str) -> str:
    """A text without spaces."""
    return "".join(text.split())


def test_every_rule_is_in_the_list(site: Path) -> None:
    listed = at(site, "reference/rules").text

    assert [one for one in make_host().rules if one not in listed] == []


def keys(part: dict[str, Any], definitions: dict[str, Any], above: str = "") -> Iterator[str]:
    """The keys that the published JSON Schema takes, as `training.lora.r`; library keys among them."""
    for name, inner in part.get("properties", {}).items():
        yield f"{above}{name}"
        for option in [inner, *inner.get("anyOf", [])]:
            if "$ref" in option:
                section = definitions[option["$ref"].rpartition("/")[2]]
                yield from keys(section, definitions, f"{above}{name}.")


def test_every_key_of_the_policys_schema_has_its_entry(site: Path) -> None:
    published = schema(make_host())
    definitions = published["$defs"]
    shown = at(site, "reference/policy")
    root = {**published, "properties": {k: v for k, v in published["properties"].items() if k != "defaults"}}
    root["properties"] = {**root["properties"], "checks": {}}  # the rules have pages of their own
    sections = {"jobs.NAME.": "JobSettings", "checks.NAME.": "CheckSettings", "waivers.": "Waiver"}
    wanted = set(keys(root, definitions))
    for above, name in sections.items():
        wanted |= set(keys(definitions[name], definitions, above))

    library = {
        f"jobs.NAME.{s}.{one}"
        for s, part in load("trainer_arguments")["sections"].items()
        for one in part["fields"]
    }
    own = wanted - library
    assert len(own) > 110
    assert [one for one in sorted(own) if f"key-{one}" not in shown.ids] == []
    assert [one for one in sorted(wanted & library) if one.rpartition(".")[2] not in shown.text] == []


def test_every_exit_code_has_its_entry(site: Path) -> None:
    shown = at(site, "reference/exit-codes")

    assert [one for one in ExitCode if f"exit-{one.value}" not in shown.ids] == []


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and those below it, by their full names."""
    yield name, command
    if isinstance(command, click.Group):
        for inner in command.commands:
            yield from commands(f"{name} {inner}", command.commands[inner])


def test_every_command_and_every_option_has_its_entry(site: Path) -> None:
    shown = at(site, "reference/command-line")
    found = []
    for name in COMMANDS:
        command = app.get_command(click.Context(app), name)
        assert command is not None
        found += list(commands(name, command))

    assert len(found) > len(COMMANDS)
    for name, command in found:
        anchor = "ftcheck-" + name.replace(" ", "-")
        assert anchor in shown.ids
        for option in (one for one in command.params if isinstance(one, click.Option)):
            for word in (*option.opts, *option.secondary_opts):
                assert f"{anchor}{word}" in shown.ids, f"{name} {word}"


def test_every_public_name_has_its_entry(site: Path) -> None:
    shown = at(site, "reference/python")

    assert [one for one in ftcheck.__all__ if f"ftcheck.{one}" not in shown.ids] == []


def test_every_hook_and_every_input_has_its_entry(site: Path) -> None:
    hooks = [one for one in dir(hookspecs) if one.startswith("ftcheck_")]
    asked = {name for rule in make_host().rules.values() for name in rule.inputs}

    assert [one for one in hooks if one not in at(site, "reference/hooks").ids] == []
    inputs = at(site, "reference/inputs")
    assert [one for one in sorted(asked) if f"input-{one}" not in inputs.ids] == []


ONE_WORD = "failed|required|started|partial|incomplete|inconsistent|unverified"
SAID = re.compile(rf'(?:Reason\(|refuse\(|return|code = )\s*"([a-z]+(?:-[a-z]+)+|{ONE_WORD})"')
"""How the sources name a refusal code."""


def test_every_code_of_the_gate_has_its_entry(site: Path) -> None:
    files = [*(CHECKOUT / "ftcheck" / "gate").glob("*.py"), *(CHECKOUT / "trainers").rglob("*.py")]
    codes = {code for path in files for code in SAID.findall(path.read_text(encoding="utf-8"))}
    shown = at(site, "reference/gate")

    assert {"too-old", "ids-changed", "no-adapter", "arguments-changed"} <= codes
    assert [one for one in sorted(codes) if f"code-{one}" not in shown.ids] == []


def test_every_key_of_the_report_has_its_entry(site: Path) -> None:
    published = load("report.schema")
    shown = at(site, "reference/report")
    names = {*published["properties"], *published["properties"]["run"]["properties"]}
    names |= {one for part in published["$defs"].values() for one in part.get("properties", {})}

    assert len(names) > 40
    assert [one for one in sorted(names) if one not in shown.text] == []


def test_the_same_code_gives_the_same_pages() -> None:
    made = (
        "from docs.generator.pages import pages; from ftcheck.digest import of_json; print(of_json(pages()))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", made],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1
