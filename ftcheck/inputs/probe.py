"""What some real steps of a job took."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Probe:
    """Real steps of a job's largest batch on `device`: real tokens a second, peak memory in GiB.

    The peak is that of the whole GPU, the CUDA context among it; None where there is no GPU. The
    batch had `sequences` rows or blocks, the longest of `longest` tokens.
    """

    device: str
    steps: int
    tokens_per_second: float
    peak_gib: float | None
    sequences: int
    longest: int
