"""Numbers that wait on the device come back as they were put, all at once."""

import pytest
from ftcheck_trainers import on_device
from ftcheck_trainers.on_device import OnDevice


def test_numbers_of_all_kinds_come_back_in_their_order_and_once() -> None:
    torch = pytest.importorskip("torch")
    waiting = OnDevice()

    waiting.put("loss", 1, torch.tensor([float("nan")], dtype=torch.bfloat16))
    waiting.put("tokens", 0, torch.tensor(2**24))
    waiting.put("loss", 2, torch.tensor(float("-inf"), requires_grad=True))
    (first, *others), again = waiting.read(), waiting.read()

    assert (first[0], first[1], str(first[2])) == ("loss", 1, "nan")
    assert others == [("tokens", 0, 2.0**24), ("loss", 2, float("-inf"))]
    assert again == []


def test_it_says_when_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(on_device, "MOST", 2)
    waiting = OnDevice()

    waiting.put("loss", 1, torch.tensor(1.0))
    assert not waiting.full
    waiting.put("loss", 1, torch.tensor(1.0))
    assert waiting.full
    waiting.read()
    assert not waiting.full
