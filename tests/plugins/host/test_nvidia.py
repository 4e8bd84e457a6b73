"""GPUs as NVML and nvidia-smi tell of them, and what CUDA_VISIBLE_DEVICES leaves of them."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ftcheck_plugins.host.nvidia import Device, visible, visible_gpus

from ftcheck.inputs.machine import Gpu

GIB = 1 << 30
T4 = "Tesla T4, 15360, 15109, 7.5, 550.54.15, GPU-8932f937-d72c-4106-c12f-20bd9faed9f6, [N/A]"
H200 = "NVIDIA H200, 143771, 143104, 9.0, 570.124.06, GPU-aaaa0000-0000-0000-0000-000000000001, Disabled"
DIVIDED = "NVIDIA A100-SXM4-40GB, 40960, 40500, 8.0, 570.1, GPU-e91edf3b-0000-0000-0000-000000000002, Enabled"
DIVIDED_LIST = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-e91edf3b-0000-0000-0000-000000000002)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb+me   Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)"""


class NVMLError(Exception):
    """As pynvml raises it: `value` is NVML's code."""

    def __init__(self, value: int) -> None:
        super().__init__({12: "NVML Shared Library Not Found", 999: "Unknown Error"}.get(value, "Error"))
        self.value = value


class NotSupported(NVMLError):
    def __init__(self) -> None:
        super().__init__(3)


class NotFound(NVMLError):
    def __init__(self) -> None:
        super().__init__(6)


@dataclass(frozen=True)
class Board:
    """A GPU, or an instance of one, in the driver. `places`: places for instances, some of them empty."""

    name: str
    uuid: str
    total: int | None = 80 * GIB
    capability: tuple[int, int] | None = (9, 0)
    mig: int | None = None
    places: tuple["Board | None", ...] = ()


def asked(value: Any) -> Any:
    if value is None:
        raise NotSupported
    return value


class FakeNvml:
    """What ftcheck uses of pynvml, over some boards."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVMLError_NotFound = NotFound
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *boards: Board, fails: int | None = None) -> None:
        self.boards, self.fails, self.open = boards, fails, 0

    def nvmlInit(self) -> None:
        if self.fails is not None:
            raise NVMLError(self.fails)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> Board:
        return self.boards[number]

    def nvmlDeviceGetName(self, board: Board) -> str:
        return board.name

    def nvmlDeviceGetUUID(self, board: Board) -> bytes:
        return board.uuid.encode()  # as old versions of pynvml answer

    def nvmlDeviceGetMemoryInfo(self, board: Board) -> SimpleNamespace:
        return SimpleNamespace(total=asked(board.total), free=asked(board.total) - GIB, used=GIB)

    def nvmlDeviceGetCudaComputeCapability(self, board: Board) -> tuple[int, int]:
        found: tuple[int, int] = asked(board.capability)
        return found

    def nvmlDeviceGetMigMode(self, board: Board) -> list[int]:
        return [asked(board.mig), board.mig or 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, board: Board) -> int:
        return len(board.places)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, board: Board, number: int) -> Board:
        found = board.places[number]
        if found is None:
            raise NotFound
        return found


Plant = Callable[[FakeNvml], FakeNvml]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plant:
    """Puts a driver in place, on a machine without nvidia-smi."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def plant(fake: FakeNvml) -> FakeNvml:
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return plant


@pytest.fixture
def nvidia_smi(tmp_path: Path, nvml: Plant, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts an nvidia-smi in place, on a machine without NVML; it answers -L with `listed`."""
    nvml(FakeNvml(fails=FakeNvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def says(text: str, *, code: int = 0, listed: str = "") -> None:
        script = tmp_path / "nvidia-smi"
        script.write_text(
            f"#!/bin/sh\nif [ \"$1\" = -L ]; then cat <<'END'\n{listed}\nEND\nexit 0\nfi\n"
            f"cat <<'END'\n{text}\nEND\nexit {code}\n"
        )
        script.chmod(0o755)

    return says


def test_gpus_are_read_from_the_driver(nvml: Plant) -> None:
    fake = nvml(
        FakeNvml(Board("NVIDIA H100 80GB HBM3", "GPU-1", mig=0), Board("Tesla T4", "GPU-2", 15 * GIB))
    )

    gpus, problem = visible_gpus()

    assert problem is None
    assert gpus[0] == Gpu("NVIDIA H100 80GB HBM3", 80 * GIB, 79 * GIB, (9, 0), "570.1")
    assert [one.memory for one in gpus] == [80 * GIB, 15 * GIB]
    assert fake.open == 0, "the driver is let go"


def test_memory_that_the_driver_does_not_tell_is_unknown(nvml: Plant) -> None:
    nvml(FakeNvml(Board("NVIDIA GB10", "GPU-1", total=None, capability=(12, 1))))

    assert visible_gpus() == ((Gpu("NVIDIA GB10", None, None, (12, 1), "570.1"),), None)


def test_of_a_gpu_in_mig_mode_the_first_instance_is_seen(nvml: Plant) -> None:
    small = Board("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "MIG-b", 5 * GIB, None)
    large = Board("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "MIG-a", 20 * GIB, None)
    nvml(
        FakeNvml(
            Board("NVIDIA H100 PCIe", "GPU-1"),
            Board("NVIDIA A100-SXM4-40GB", "GPU-2", capability=(8, 0), mig=1, places=(None, large, small)),
        )
    )

    gpus, _ = visible_gpus()

    assert gpus == (Gpu("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20 * GIB, 19 * GIB, (8, 0), "570.1"),)


def test_a_gpu_in_mig_mode_that_is_not_divided_is_not_seen(nvml: Plant) -> None:
    nvml(FakeNvml(Board("NVIDIA A100-SXM4-40GB", "GPU-2", mig=1, places=(None, None))))

    assert visible_gpus() == ((), None)


def test_a_driver_that_does_not_answer_is_a_problem_and_none_is_not(nvml: Plant) -> None:
    nvml(FakeNvml(fails=999))
    assert visible_gpus() == ((), "the NVIDIA driver does not answer: Unknown Error")

    nvml(FakeNvml(fails=FakeNvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    assert visible_gpus() == ((), None)


def test_where_the_driver_library_is_not_found_nvidia_smi_is_asked(nvidia_smi: Callable[..., None]) -> None:
    nvidia_smi(f"{T4}\n{H200}")

    gpus, problem = visible_gpus()

    assert problem is None
    assert gpus[0] == Gpu("Tesla T4", 15360 << 20, 15109 << 20, (7, 5), "550.54.15")
    assert gpus[1].capability == (9, 0)


def test_nvidia_smi_without_numbers_for_the_memory(nvidia_smi: Callable[..., None]) -> None:
    nvidia_smi("NVIDIA GB10, [N/A], [N/A], 12.1, 580.95.05, GPU-1, [N/A]")

    assert visible_gpus() == ((Gpu("NVIDIA GB10", None, None, (12, 1), "580.95.05"),), None)


@pytest.mark.parametrize(
    ("chosen", "profile"),
    [
        (None, "MIG 3g.20gb"),
        ("0", "MIG 3g.20gb"),
        ("MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d", "MIG 1g.5gb+me"),
    ],
)
def test_nvidia_smi_lists_the_instances(
    nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch, chosen: str | None, profile: str
) -> None:
    nvidia_smi(f"{DIVIDED}\n{H200}", listed=DIVIDED_LIST)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)

    gpus, _ = visible_gpus()

    assert gpus == (Gpu(f"NVIDIA A100-SXM4-40GB {profile}", None, None, (8, 0), "570.1"),)


def test_an_nvidia_smi_that_fails_is_a_problem_with_its_first_line(nvidia_smi: Callable[..., None]) -> None:
    nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate\nmore", code=9)

    assert visible_gpus()[1] == "nvidia-smi failed (9): NVIDIA-SMI has failed because it couldn't communicate"


def test_an_nvidia_smi_that_finds_no_device_is_no_problem(nvidia_smi: Callable[..., None]) -> None:
    nvidia_smi("No devices were found", code=6)

    assert visible_gpus() == ((), None)


def test_an_answer_that_cannot_be_read_is_a_problem(nvidia_smi: Callable[..., None]) -> None:
    nvidia_smi("NVIDIA H200, much, much, 9.0, 570, GPU-1, Disabled")

    gpus, problem = visible_gpus()

    assert gpus == ()
    assert problem is not None
    assert "H200" in problem


@pytest.mark.parametrize("chosen", ["", " ", "-1"])
def test_hidden_gpus_are_not_seen(nvml: Plant, monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    nvml(FakeNvml(Board("NVIDIA H100 PCIe", "GPU-1")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)

    assert visible_gpus() == ((), None)


def device(number: int, uuid: str, *parts: Device, divided: bool = False) -> Device:
    gpu = Gpu(f"GPU {number}", 1, 1, (9, 0), "570")
    return Device(gpu, uuid, parts if divided else None)


PLAIN = (device(0, "GPU-8932f937"), device(1, "GPU-89aa0000"), device(2, "GPU-77770000"))
MIXED = (
    device(0, "GPU-0"),
    device(1, "GPU-1", device(7, "MIG-77aa"), device(8, "MIG-88bb"), divided=True),
    device(2, "GPU-2", divided=True),
)


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        (None, "012"),
        ("1", "1"),
        (" 2 , 0 ", "20"),
        ("0,7,1", "0"),
        ("1,-1,2", "1"),
        ("-1", ""),
        ("1,1", ""),
        ("NoDevFiles", ""),
        ("GPU-8932f937", "0"),
        ("GPU-77,GPU-8932", "20"),
        ("GPU-89", ""),
        ("GPU-8932,GPU-ffff,GPU-77", "0"),
        ("MIG-77aa", ""),
    ],
)
def test_visible_gpus_are_those_cuda_would_show(chosen: str | None, left: str) -> None:
    assert visible(PLAIN, chosen) == tuple(PLAIN[int(n)].gpu for n in left)


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        (None, 7),
        ("0", 0),
        ("0,1", 7),
        ("1", 7),
        ("2", None),
        ("GPU-1", 7),
        ("MIG-88bb", 8),
        ("MIG-88bb,MIG-77aa", 8),
        ("MIG-88", 8),
        ("MIG-99", None),
    ],
)
def test_one_instance_is_shown_and_no_whole_gpu_beside_it(chosen: str | None, left: int | None) -> None:
    expected = () if left is None else (f"GPU {left}",)
    assert tuple(one.name for one in visible(MIXED, chosen)) == expected
