"""Finds the shipped policies: the checkout's `policies/` folder, or the copy inside the wheel."""

from pathlib import Path

SUFFIX = ".yaml"


def folder() -> Path:
    """The folder of shipped policies; a checkout's own folder wins over the one in the wheel."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent
    if (checkout / "policies").is_dir() and (checkout / "pyproject.toml").is_file():
        return checkout / "policies"
    return package / "_policies"


def names(within: Path | None = None) -> tuple[str, ...]:
    """The names of all presets, sorted; `within` is another folder than the shipped one."""
    return tuple(sorted(path.stem for path in (within or folder()).glob(f"*{SUFFIX}") if path.is_file()))


def find(name: str, within: Path | None = None) -> Path | None:
    """The file of a preset, asked for with or without `.yaml`; None if there is none of that name."""
    stem = name.removesuffix(SUFFIX)
    return (within or folder()) / f"{stem}{SUFFIX}" if stem in names(within) else None
