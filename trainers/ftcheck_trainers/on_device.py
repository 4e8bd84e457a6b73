"""Numbers of a run that are still on the device: reading one makes the host wait, so all are read at once."""

from typing import Any

MOST = 3000
"""Numbers after which they should be read although no log is due: each holds half a KiB of GPU memory."""


class OnDevice:
    """Numbers by name and step, kept where they were computed until `read`."""

    def __init__(self) -> None:
        self._names: list[tuple[str, int]] = []
        self._values: list[Any] = []

    @property
    def full(self) -> bool:
        """Whether so many wait that they should be read."""
        return len(self._values) >= MOST

    def put(self, name: str, step: int, value: Any) -> None:
        """Keep a tensor of one number. Whole numbers are exact up to 2^24, the others as float32."""
        self._names.append((name, step))
        self._values.append(value.detach())

    def read(self) -> list[tuple[str, int, float]]:
        """All numbers in the order in which they were put, and forget them: the one place that waits."""
        import torch

        if not self._values:
            return []
        devices = {one.device for one in self._values}
        device = next((one for one in devices if one.type != "cpu"), self._values[0].device)
        values = torch.stack([one.reshape(()).to(device, torch.float32) for one in self._values]).tolist()
        found = [(name, step, value) for (name, step), value in zip(self._names, values, strict=True)]
        self._names, self._values = [], []
        return found
