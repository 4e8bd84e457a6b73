"""Virtual environments without ftcheck, which find the packages of this one: nothing is downloaded."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HIDDEN = ("ftcheck", "_editable_impl", "__editable__", "__pycache__", "pip", "setuptools", "_distutils_hack")
"""What a fresh environment must not see of this one: ftcheck itself, and what hooks into interpreters."""
INSTALL = ("install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")


def packages(folder: Path) -> Path:
    """A folder with links to the packages of this environment, without ftcheck."""
    folder.mkdir(parents=True)
    for found in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not found.name.startswith(HIDDEN) and found.suffix != ".pth":
            (folder / found.name).symlink_to(found)
    return folder


def fresh_environment(folder: Path, dependencies: Path) -> Path:
    """A new environment in `folder` that finds `dependencies`; its interpreter."""
    venv.create(folder, with_pip=True, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
    return folder / "bin" / "python"


def install(python: Path, *what: str) -> None:
    """Install something into a fresh environment, without what it depends on."""
    subprocess.run([str(python), "-m", "pip", *INSTALL, *what], check=True, capture_output=True)


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build the `wheel` or the `sdist` of a project as its backend says; the file."""
    code = (
        "import os, sys; sys.path.insert(0, 'light'); import ftcheck_build as backend;"
        f"print(backend.build_{kind}(sys.argv[1]))"
    )
    words = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(words, cwd=source, check=True, capture_output=True, text=True)
    return folder / done.stdout.split()[-1]
