"""NVIDIA GPUs as a CUDA program started here would see them; asks NVML (nvidia-ml-py), else nvidia-smi.

A GPU in MIG mode is used through its instances only, and CUDA shows one program one instance
(docs.nvidia.com/datacenter/tesla/mig-user-guide, "Device Enumeration"; CUDA_VISIBLE_DEVICES: CUDA C++
Programming Guide, "CUDA Environment Variables").
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ftcheck.inputs.machine import Gpu

QUERY = "name,memory.total,memory.free,compute_cap,driver_version,uuid,mig.mode.current"
NVIDIA_SMI = ("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits")
NVIDIA_SMI_LIST = ("nvidia-smi", "-L")
LISTED_GPU = re.compile(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)")
LISTED_INSTANCE = re.compile(r"\s+(MIG \S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")
"""Lines of `nvidia-smi -L`: a GPU, and below it the instances that it is divided into."""
TIMEOUT = 10
MIB = 1 << 20
NONE_FOUND = "no devices were found"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU or an instance of one. `instances`: what it is divided into; None unless it is in MIG mode."""

    gpu: Gpu
    uuid: str
    instances: tuple["Device", ...] | None = None


class NotAsked(Exception):
    """The GPUs could not be asked for; says why."""


def visible_gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """The GPUs that CUDA would show a program started here, or why they could not be asked for.

    No driver at all is no GPU, and no problem.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and not chosen.strip():
        return (), None
    try:
        return visible(_devices(), chosen), None
    except NotAsked as error:
        return (), str(error)


def visible(devices: Sequence[Device], chosen: str | None) -> tuple[Gpu, ...]:
    """What CUDA shows of the devices where `CUDA_VISIBLE_DEVICES` is `chosen` (None: not set)."""
    left = list(devices) if chosen is None else _chosen(devices, chosen)
    whole = [one.gpu for one in left if one.instances is None and not _is_instance(one)]
    parts = [part.gpu for one in left for part in (one.instances or ((one,) if _is_instance(one) else ()))]
    return tuple(parts[:1] or whole)


def _is_instance(device: Device) -> bool:
    return device.uuid.startswith("MIG-")


def _chosen(devices: Sequence[Device], chosen: str) -> list[Device]:
    """As CUDA reads the list: an entry that names no device ends it, one that stands twice empties it."""
    instances = [part for one in devices for part in one.instances or ()]
    left: list[Device] = []
    for entry in (part.strip() for part in chosen.split(",")):
        found = _named(entry, instances if entry.startswith("MIG-") else devices)
        if found is None:
            break
        if found in left:
            return []
        left.append(found)
    return left


def _named(entry: str, devices: Sequence[Device]) -> Device | None:
    """The device of a number, or of a UUID or its first characters if no other begins with them."""
    if entry.isdecimal():
        return devices[int(entry)] if int(entry) < len(devices) else None
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    found = [one for one in devices if one.uuid.startswith(entry)]
    return found[0] if len(found) == 1 else None


def _devices() -> tuple[Device, ...]:
    """All devices. Raises `NotAsked` where neither NVML nor nvidia-smi answers."""
    try:
        return tuple(_from_nvml())
    except NotAsked as nvml:
        with contextlib.suppress(FileNotFoundError):
            return _from_nvidia_smi()
        if str(nvml):
            raise
        return ()


# --- NVML ------------------------------------------------------------------------------------------------


def _from_nvml() -> Iterator[Device]:
    """Raises `NotAsked`, without a word where this machine has no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        missing = error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        raise NotAsked("" if missing else f"the NVIDIA driver does not answer: {error}") from error
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        for number in range(pynvml.nvmlDeviceGetCount()):
            yield _nvml_device(pynvml, pynvml.nvmlDeviceGetHandleByIndex(number), driver)
    except pynvml.NVMLError as error:
        raise NotAsked(f"the NVIDIA driver does not answer: {error}") from error
    finally:
        pynvml.nvmlShutdown()


def _nvml_device(pynvml: Any, handle: Any, driver: str) -> Device:
    capability = _told(pynvml, pynvml.nvmlDeviceGetCudaComputeCapability, handle)

    def device(of: Any, instances: tuple[Device, ...] | None = None) -> Device:
        memory = _told(pynvml, pynvml.nvmlDeviceGetMemoryInfo, of)
        gpu = Gpu(
            name=_text(pynvml.nvmlDeviceGetName(of)),
            memory=int(memory.total) if memory is not None else None,
            free=int(memory.free) if memory is not None else None,
            capability=(int(capability[0]), int(capability[1])) if capability is not None else None,
            driver=driver,
        )
        return Device(gpu, _text(pynvml.nvmlDeviceGetUUID(of)), instances)

    mode = _told(pynvml, pynvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return device(handle)
    return device(handle, tuple(device(part) for part in _nvml_instances(pynvml, handle)))


def _nvml_instances(pynvml: Any, handle: Any) -> Iterator[Any]:
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(pynvml.NVMLError_NotFound):
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)


def _told(pynvml: Any, ask: Callable[[Any], Answer], handle: Any) -> Answer | None:
    """An answer that this device may not have: memory that it shares with the processor, for one."""
    try:
        return ask(handle)
    except pynvml.NVMLError_NotSupported:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


# --- nvidia-smi ------------------------------------------------------------------------------------------


def _from_nvidia_smi() -> tuple[Device, ...]:
    """Raises `NotAsked`, and `FileNotFoundError` without nvidia-smi."""
    lines = [line for line in _nvidia_smi(NVIDIA_SMI).splitlines() if line.strip()]
    divided = any(line.rpartition(",")[2].strip() == "Enabled" for line in lines)
    parts = _listed_instances(_nvidia_smi(NVIDIA_SMI_LIST)) if divided else {}
    try:
        return tuple(_smi_device(line, parts) for line in lines)
    except ValueError as error:
        said = " | ".join(lines)[:200]
        raise NotAsked(f"nvidia-smi says something else than was asked for: {said}") from error


def _nvidia_smi(command: Sequence[str]) -> str:
    """What nvidia-smi says; nothing where it finds no GPU."""
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except FileNotFoundError:
        raise
    except subprocess.TimeoutExpired as error:
        raise NotAsked(f"nvidia-smi did not answer within {TIMEOUT} s") from error
    except OSError as error:
        raise NotAsked(f"nvidia-smi cannot be run: {error.strerror or error}") from error
    said = asked.stdout.strip() or asked.stderr.strip()
    if NONE_FOUND in said.lower():
        return ""
    if asked.returncode != 0:
        first = said.splitlines()[0] if said else "no message"
        raise NotAsked(f"nvidia-smi failed ({asked.returncode}): {first}")
    return said


def _smi_device(line: str, parts: Mapping[str, Sequence[tuple[str, str]]]) -> Device:
    """Raises `ValueError` for a line that is none of `QUERY`."""
    name, total, free, capability, driver, uuid, mode = (part.strip() for part in line.rsplit(",", 6))
    major, _, minor = capability.partition(".")
    known = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
    whole = Gpu(name=name, memory=_mib(total), free=_mib(free), capability=known, driver=driver)
    if mode != "Enabled":
        return Device(whole, uuid)
    # nvidia-smi tells the memory of an instance in no form that can be asked for
    instances = tuple(
        Device(Gpu(f"{name} {profile}", None, None, known, driver), part)
        for profile, part in parts.get(uuid, ())
    )
    return Device(whole, uuid, instances)


def _mib(text: str) -> int | None:
    """Bytes; None for `[N/A]`. Raises `ValueError` for what is neither."""
    return None if text.startswith("[") and text.endswith("]") else int(text) * MIB


def _listed_instances(said: str) -> dict[str, list[tuple[str, str]]]:
    """The profile and UUID of each instance, by the UUID of its GPU."""
    found: dict[str, list[tuple[str, str]]] = {}
    uuid = ""
    for line in said.splitlines():
        if gpu := LISTED_GPU.match(line):
            uuid = gpu[1]
        elif part := LISTED_INSTANCE.match(line):
            found.setdefault(uuid, []).append((part[1], part[2]))
    return found
