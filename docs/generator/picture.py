"""Draws the picture of a run that the README shows: `python -m docs.generator.picture`.

The sample jobs are checked in a temporary folder, as somebody would check them, and what the terminal shows
is drawn by rich as SVG. No font is fetched: the reader's own monospace font is used.
"""

import html
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "img" / "run.svg"
COMMAND = ("run", "policies/night_before.yaml", "--job", "mapper")
COLUMNS = 112
FONT = re.compile(r"@font-face \{\{.*?\n    \}\}\n", re.DOTALL)


def main() -> int:
    """Draw it."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn(printed()), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} written")
    return 0


def printed() -> str:
    """What the run prints on a terminal, with its colours."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "CI": "1",  # no progress bars
            "FORCE_COLOR": "1",
            "TERM": "xterm-256color",
            "FTCHECK_CACHE": f"{folder}/cache",
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        command = [sys.executable, "-m", "ftcheck"]
        subprocess.run(
            [*command, "init", "sample"], cwd=folder, env=environment, check=True, capture_output=True
        )
        ran = subprocess.run(
            [*command, *COMMAND], cwd=folder, env=environment, check=True, capture_output=True
        )
    return ran.stdout.decode("utf-8")


def drawn(text: str) -> str:
    """Terminal output as SVG, wrapped at `COLUMNS`."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console
    from rich.text import Text

    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(f"$ ftcheck {' '.join(COMMAND)}", style="bold", highlight=False)
        console.print(Text.from_ansi(text))
        own = FONT.sub("", CONSOLE_SVG_FORMAT).replace("Fira Code", "ui-monospace, Menlo, Consolas")
        return console.export_svg(title="ftcheck", code_format=own, unique_id="run")


def shown(svg: str) -> str:
    """The text of a picture, row by row."""
    rows: dict[float, dict[float, str]] = {}
    for x, y, text in re.findall(r'<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        rows.setdefault(float(y), {})[float(x)] = html.unescape(text)
    return "\n".join("".join(rows[y][x] for x in sorted(rows[y])).replace("\xa0", " ") for y in sorted(rows))


if __name__ == "__main__":
    raise SystemExit(main())
