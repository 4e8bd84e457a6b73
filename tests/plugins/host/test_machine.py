import os
import sys
from pathlib import Path

import pytest
from ftcheck_plugins.host.machine import machine, packages, visible

from ftcheck.inputs.machine import Gpu

T4 = "Tesla T4, 15360, 15109, 7.5, 550.54.15"
GPUS = tuple(Gpu(f"GPU {n}", 1, 1, (9, 0), "570") for n in range(3))


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that runs the shell lines a test writes into it."""
    script = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    return script


def says(script: Path, text: str, *, code: int = 0) -> None:
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")


def test_gpus_are_read_as_the_driver_reports_them(nvidia_smi: Path) -> None:
    says(nvidia_smi, f"{T4}\nNVIDIA H200, 143771, 143104, 9.0, 570.124.06")

    found = machine.open()

    assert found.problem is None
    assert found.gpus[0] == Gpu("Tesla T4", 15360 << 20, 15109 << 20, (7, 5), "550.54.15")
    assert found.gpus[1].capability == (9, 0)


def test_memory_and_processors_are_read(nvidia_smi: Path) -> None:
    found = machine.open()

    assert found.memory > 1 << 28
    assert found.cpus >= 1


def test_without_nvidia_smi_there_is_no_gpu_and_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    found = machine.open()

    assert (found.gpus, found.problem) == ((), None)


def test_a_driver_that_fails_is_a_problem_with_its_first_line(nvidia_smi: Path) -> None:
    says(nvidia_smi, "NVIDIA-SMI has failed because it couldn't communicate\nmore", code=9)

    assert (
        machine.open().problem
        == "nvidia-smi failed (9): NVIDIA-SMI has failed because it couldn't communicate"
    )


def test_a_driver_that_finds_no_device_is_no_problem(nvidia_smi: Path) -> None:
    says(nvidia_smi, "No devices were found", code=6)

    assert machine.open().problem is None


def test_an_answer_that_cannot_be_read_is_a_problem(nvidia_smi: Path) -> None:
    says(nvidia_smi, "NVIDIA GB10, [N/A], [N/A], 12.1, 580.95.05")

    found = machine.open()

    assert found.gpus == ()
    assert found.problem is not None
    assert "GB10" in found.problem


def test_hidden_gpus_are_not_asked_for(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert machine.open().gpus == ()
    assert machine.open().problem is None


@pytest.mark.parametrize(
    ("chosen", "left"),
    [(None, "012"), ("1", "1"), ("2,0", "20"), ("0,7,1", "0"), ("-1", ""), ("GPU-8932f937", "012")],
)
def test_visible_gpus_are_those_cuda_would_see(chosen: str | None, left: str) -> None:
    assert visible(GPUS, chosen) == tuple(GPUS[int(n)] for n in left)


def test_packages_are_found_without_importing_them() -> None:
    before = set(sys.modules)

    found = packages.open()

    assert found.versions["transformers"] is not None
    assert found.versions["ftcheck"] is not None
    assert found.python.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert not {"torch", "transformers", "trl"} & (set(sys.modules) - before)
