"""GPUs by the names that drivers print and people write: memory, capability and speed, or none."""

import json

import pytest

from ftcheck import tables
from ftcheck.estimate.gpus import Card, card, gpu_memory, same_gpu
from ftcheck.estimate.run_time import estimate
from ftcheck.testing import job, machine

DRIVER: dict[str, tuple[float | None, float | None]] = {
    "NVIDIA A100-SXM4-80GB": (80, 312),
    "NVIDIA A100-SXM4-40GB": (40, 312),
    "NVIDIA A100-PCIE-40GB": (40, 312),
    "NVIDIA A100 80GB PCIe": (80, 312),
    "NVIDIA A100-SXM-64GB": (64, None),
    "A100-SXM4-40GB": (40, 312),
    "NVIDIA A800-SXM4-80GB": (80, None),
    "NVIDIA A30": (24, None),
    "NVIDIA A40": (48, 149.7),
    "NVIDIA A10": (24, 125),
    "NVIDIA A10G": (24, 70),
    "NVIDIA A2": (16, None),
    "Tesla V100-SXM2-16GB": (16, 118.5),
    "Tesla V100-SXM2-32GB": (32, 118.5),
    "Tesla V100-PCIE-32GB": (32, 118.5),
    "Tesla T4": (16, 65),
    "Tesla P100-PCIE-16GB": (16, None),
    "Tesla P40": (24, None),
    "NVIDIA H100 80GB HBM3": (80, 989),
    "NVIDIA H100 PCIe": (80, 756),
    "NVIDIA H100 NVL": (94, 835),
    "NVIDIA H200": (141, 912),
    "NVIDIA H200 NVL": (141, 835),
    "NVIDIA H800": (80, None),
    "NVIDIA H20": (96, None),
    "NVIDIA GH200 480GB": (96, 989),
    "NVIDIA GH200 120GB": (96, 989),
    "NVIDIA GH200 144G HBM3e": (144, 989),
    "NVIDIA B200": (180, 2250),
    "NVIDIA GB200": (186, None),
    "NVIDIA L4": (24, 121),
    "NVIDIA L20": (48, None),
    "NVIDIA L40": (48, 181),
    "NVIDIA L40S": (48, 362),
    "NVIDIA RTX A6000": (48, 154.8),
    "NVIDIA RTX A5000": (24, None),
    "NVIDIA RTX A2000 12GB": (12, None),
    "NVIDIA RTX 6000 Ada Generation": (48, 364),
    "NVIDIA RTX 4000 SFF Ada Generation": (20, None),
    "NVIDIA RTX 5000 Ada Generation Laptop GPU": (16, None),
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": (96, 503.8),
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": (96, 503.8),
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": (96, None),
    "NVIDIA RTX PRO 5000 72GB Blackwell": (72, None),
    "Quadro RTX 6000": (24, None),
    "Quadro RTX 8000": (48, None),
    "NVIDIA TITAN RTX": (24, None),
    "NVIDIA GeForce RTX 5090": (32, 209.5),
    "NVIDIA GeForce RTX 5090 D v2": (24, None),
    "NVIDIA GeForce RTX 5090 Laptop GPU": (24, None),
    "NVIDIA GeForce RTX 5060 Ti": (None, None),
    "NVIDIA GeForce RTX 4090": (24, 165.2),
    "NVIDIA GeForce RTX 4090 D": (24, None),
    "NVIDIA GeForce RTX 4090 Laptop GPU": (16, None),
    "NVIDIA GeForce RTX 4070 Ti SUPER": (16, None),
    "NVIDIA GeForce RTX 4060 Laptop GPU": (8, None),
    "NVIDIA GeForce RTX 3090": (24, 71),
    "NVIDIA GeForce RTX 3090 Ti": (24, 80),
    "NVIDIA GeForce RTX 3080": (None, None),
    "NVIDIA GeForce RTX 3080 Ti Laptop GPU": (16, None),
    "NVIDIA GeForce RTX 2080 Ti": (11, None),
    "NVIDIA A100-SXM4-40GB MIG 1g.5gb": (5, None),
    "NVIDIA A100 80GB PCIe MIG 3g.40gb": (40, None),
    "NVIDIA H100 80GB HBM3 MIG 1g.20gb": (20, None),
    "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb": (40, None),
    "NVIDIA A100-SXM4-80GB MIG 1g.10gb+me": (10, None),
}
"""Names as drivers print them, with memory in GiB and likely dense TFLOP/s; None: not known."""
WRITTEN: dict[str, str] = {
    "RTX_4090": "RTX 4090",
    "rtx4090": "RTX 4090",
    "RTX 3090 Ti": "RTX 3090 Ti",
    "RTX 3090Ti": "RTX 3090 Ti",
    "GeForce RTX 4080 Super": "RTX 4080 SUPER",
    "GH200 480GB": "GH200",
    "H100": "H100",
    "8x H100": "H100",
    "2 x A100 80 GB": "A100 80GB",
    "H100 SXM5": "H100 80GB HBM3",
    "A100-80G": "A100 80GB",
    "a100-40gb": "A100 40GB",
    "A100 (80 GiB)": "A100 80GB",
    "V100": "V100",
    "A6000": "RTX A6000",
    "T4": "T4",
}
OTHERS = ("MI300X", "A1000", "RTX 4090 Max-Q", "RTX 6000", "H100 CNX", "Apple M3 Max", "", "NVIDIA")
"""Names of no GPU of the table, though some hold one's name."""


def likely(found: Card) -> float | None:
    return None if found.speed is None else found.speed.tflops.likely


@pytest.mark.parametrize("name", DRIVER)
def test_what_a_driver_prints_is_found(name: str) -> None:
    found = card(name)

    assert found is not None
    assert (found.memory_gib, likely(found)) == DRIVER[name]
    assert found.capability is not None


@pytest.mark.parametrize("name", WRITTEN)
def test_what_people_write_is_found(name: str) -> None:
    found = card(name)

    assert found is not None
    assert found.name == WRITTEN[name]


@pytest.mark.parametrize("name", OTHERS)
def test_no_gpu_is_taken_for_another(name: str) -> None:
    assert card(name) is None


@pytest.mark.parametrize("name", [*(one for one in DRIVER if DRIVER[one][1] is None), *OTHERS[:-2]])
def test_a_gpu_without_a_known_speed_is_said_to_have_none(name: str) -> None:
    llama = tables.load("training_speed")["shapes"]["Llama-3.1-8B"]
    found = estimate(
        job(hardware={"gpu": name}, training={"lora": {"r": 8}}),
        llama,
        steps=1,
        tokens_per_step=512,
        longest=512,
    )

    assert found.hours is None
    assert found.problem.startswith("unknown speed")
    assert name in found.problem


def test_memory_is_that_of_the_name() -> None:
    for name, (memory, _) in DRIVER.items():
        found, words = gpu_memory(job(hardware={"gpu": name}), machine())
        if memory is None:
            assert found is None
        else:
            assert found is not None
            assert 0.9 * memory < found < memory
        assert words == "hardware.gpu" if memory is not None else "several sizes" in words


def test_an_ambiguous_name_has_the_peaks_of_all_that_bear_it() -> None:
    found = card("H100")
    assert found is not None
    assert found.speed is not None
    assert (found.speed.tflops.low, found.speed.tflops.high) == (756, 989)
    assert card("A100") != card("A100 80GB")


@pytest.mark.parametrize(
    ("name", "there"),
    [("Tesla T4", False), ("Tesla V100-SXM2-32GB", False), ("NVIDIA A10G", True), ("RTX 2080 Ti", False)],
)
def test_bfloat16_begins_with_ampere(name: str, there: bool) -> None:
    found = card(name)
    assert found is not None
    assert found.bf16 is there


@pytest.mark.parametrize(
    ("stated", "here", "same"),
    [
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("H100 NVL", "NVIDIA H100 80GB HBM3", False),
        ("RTX 3090", "NVIDIA GeForce RTX 3090 Ti", False),
        ("rtx-4090", "NVIDIA GeForce RTX 4090", True),
        ("H100", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", False),
        ("MI300X", "MI250", False),
        ("MI300X", "mi300x", True),
    ],
)
def test_a_stated_gpu_is_the_one_here(stated: str, here: str, same: bool) -> None:
    assert same_gpu(stated, here) is same


def test_no_name_stands_for_two_gpus() -> None:
    gpus = tables.load("gpus")["gpus"]
    for name, facts in gpus.items():
        for other in (name, *facts.get("also", ())):
            found = card(other)
            assert found is not None
            assert found.name == name, other
        assert facts.get("family") is None or facts["family"] in gpus


def test_every_stated_speed_is_usable() -> None:
    for name, facts in tables.load("gpus")["gpus"].items():
        found = card(name)
        assert found is not None
        assert found.memory_gib is None or 1 < found.memory_gib < 1000
        if found.speed is None:
            assert not {"gb_per_s", "utilisation", "evidence"} & set(facts), json.dumps(facts)
            continue
        share, peak, memory = found.speed.utilisation, found.speed.tflops, found.speed.gb_per_s
        assert 0 < share.low < share.likely < share.high < 1
        assert 0 < peak.low <= peak.high
        assert 0 < memory.low <= memory.high
