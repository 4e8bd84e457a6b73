"""The first page, in an empty folder and a fresh environment: install, check, read, write a policy, gate.

ftcheck is installed as a user would: from the wheel that this tree makes, with the constraints, without
torch. It takes some time and wants a package index, so it runs where FTCHECK_NEWCOMER=1 asks for
it, as .ci/run does.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS, Block, blocks, steps
from tests.docs.same import same
from tests.places import CHECKOUT

pytestmark = pytest.mark.skipif(
    not os.environ.get("FTCHECK_NEWCOMER"),
    reason="FTCHECK_NEWCOMER=1 runs it (a fresh environment, 2 minutes)",
)


def test_the_first_page_is_what_happens_to_a_newcomer(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    environment = {
        "PATH": f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "CLONE": str(CHECKOUT),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "LANG": "C.UTF-8",
        **{
            name: value
            for name, value in os.environ.items()
            if re.match(r"PIP_INDEX|PIP_EXTRA|.*_proxy", name)
        },
    }
    ran = 0
    for block in blocks(DOCS / "index.md"):
        ran += follow(block, folder, environment)

    assert ran > 8
    assert (folder / ".venv" / "bin" / "ftcheck").is_file()


def follow(block: Block, folder: Path, environment: dict[str, str]) -> int:
    """Do what a block says; how many commands it had."""
    if block.title is not None:
        (folder / block.title).write_text(block.text, encoding="utf-8")
        return 0
    typed = steps(block) if block.language == "console" else []
    for step in typed:
        inside = f"[ ! -d .venv ] || . .venv/bin/activate; {step.command}"
        done = subprocess.run(
            ["bash", "-c", inside],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == (block.code if step is typed[-1] else 0), f"{step.command}\n{done.stdout}"
        printed = [one for one in done.stdout.splitlines() if not one.startswith("WARNING: ")]
        assert same(light(step.printed or []), light(printed), str(folder)), f"{step.command}\n{done.stdout}"
    return len(typed)


def light(lines: list[str]) -> list[str]:
    """Without counts of checks: those that need TRL or PEFT are skipped where these are not installed."""
    kept = [one for one in lines if not one.startswith(("  - ", "note"))]
    return [re.sub(r"\d+ (passed|skipped)|as TRL [\d.]+", r"N \1", one) for one in kept]
