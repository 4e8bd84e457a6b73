"""Finds policies: those that are shipped (in the checkout, or in the wheel), and a folder's own."""

from pathlib import Path

from ftcheck.errors import UsageError

OWN = "ftcheck.yaml"
OTHERS = "*.ftcheck.yaml"
"""The names of a policy that is found without being named, and that editors know."""

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


def of_folder(folder: Path) -> str:
    """The policy of a folder: `ftcheck.yaml`, else the only `*.ftcheck.yaml`. Raises `UsageError`."""
    if (folder / OWN).is_file():
        return str(folder / OWN)
    found = sorted(str(path) for path in folder.glob(OTHERS) if path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"there are several policies here: name one of {', '.join(found)}")
    raise UsageError(f"no policy: name one, or call it {OWN} (ftcheck init writes a first one)")
