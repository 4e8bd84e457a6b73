import sys

from ftcheck_plugins.host.machine import machine, packages


def test_memory_and_processors_are_read() -> None:
    found = machine.open()

    assert found.memory > 1 << 28
    assert found.cpus >= 1


def test_packages_are_found_without_importing_them() -> None:
    before = set(sys.modules)

    found = packages.open()

    assert found.versions["transformers"] is not None
    assert found.versions["ftcheck"] is not None
    assert found.python.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert not {"torch", "transformers", "trl"} & (set(sys.modules) - before)
