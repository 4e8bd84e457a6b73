"""Builds ftcheck with hatchling, or `ftcheck-policy` where `--config-settings=ftcheck=light` asks for that.

pre-commit always installs a repository's root, and hands `additional_dependencies` to the same `pip install`:
with this option among them, the root of the repository installs as the distribution of the folder `light`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hatchling import build as hatchling

Settings = Mapping[str, object] | None


@contextmanager
def _project(settings: Settings) -> Iterator[None]:
    """Inside, the current folder is the project's that is to be built: hatchling takes it from there."""
    root = Path.cwd()
    asked = (settings or {}).get("ftcheck", "whole")
    if asked not in ("whole", "light"):
        raise ValueError(f"--config-settings=ftcheck={asked}: it is whole or light")
    os.chdir(root / "light" if asked == "light" else root)
    try:
        yield
    finally:
        os.chdir(root)


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """PEP 517."""
    with _project(config_settings):
        return hatchling.get_requires_for_build_wheel()


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """PEP 660: always the whole of ftcheck."""
    return hatchling.get_requires_for_build_editable()


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """PEP 517."""
    return hatchling.get_requires_for_build_sdist()


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 517."""
    folder = os.path.abspath(wheel_directory)
    with _project(config_settings):
        return hatchling.build_wheel(folder)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 660: always the whole of ftcheck."""
    return hatchling.build_editable(os.path.abspath(wheel_directory))


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """PEP 517: always the whole of ftcheck."""
    return hatchling.build_sdist(os.path.abspath(sdist_directory))
