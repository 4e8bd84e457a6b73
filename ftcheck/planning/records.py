"""What `ftcheck plan` finds out about a job, as frozen records: nothing in them is rendered yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftcheck.estimate.interval import Verdict, within
from ftcheck.inputs.role_tokens import RoleTokens
from ftcheck.packing.lengths import Histogram, TrainedPositions
from ftcheck.records import Change, Location
from ftcheck.sampling.row_sample import RowSample


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate: most likely `likely`, between `low` and `high`, in `unit`; what it `assumes`.

    All three are None where it cannot be told; `why` then says what is missing. `rate` are tokens a second
    (slow, likely, fast) where it is a time, `of` names the GPU.

    Of memory, `needed` is what the run completes in (low, likely, high) where that is known: less than its
    peak by what PyTorch gives back; `by` says how it was found: `replay` (of a traced step), `formulas`, or
    `probe`; `at_least` is needed in any case where no more than that can be told.
    """

    low: float | None = None
    likely: float | None = None
    high: float | None = None
    unit: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    assumes: tuple[str, ...] = ()
    why: str = ""
    rate: tuple[float, float, float] | None = None
    of: str = ""
    needed: tuple[float, float, float] | None = None
    by: str = ""
    at_least: float | None = None

    def fits(self, limit: float) -> Verdict | None:
        """Whether a run with this peak memory fits a limit in the same unit; None where it is unknown."""
        if self.likely is None or self.high is None:
            return "does not fit" if self.at_least is not None and self.at_least > limit else None
        likely, high = (self.likely, self.high) if self.needed is None else self.needed[1:]
        return within(likely, high, limit)

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return self.likely is not None


@dataclass(frozen=True, slots=True)
class Outlier:
    """One of the longest rows: its place, its tokens, the trained ones among them, and those cut off."""

    at: Location
    length: int
    trained: int
    trained_lost: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What becomes of the rows above `length` tokens, by what is done with them.

    Trained tokens lost by dropping or truncating them; `untrained` rows are left without any when they
    are truncated; `pieces` they make when they are chunked, which only plain text can be (else None).
    """

    length: int
    rows: int
    dropped: int
    truncated: int
    untrained: int
    pieces: int | None
    trained: int

    @property
    def kept(self) -> float:
        """Share of the trained tokens that truncation leaves, 0 to 1."""
        return 1 - self.truncated / self.trained if self.trained else 1.0


@dataclass(frozen=True, slots=True)
class Recommended:
    """A `max_length` by the stated criteria; `length` is None where none in the range meets them."""

    length: int | None
    needed: int
    why: str
    stated: int | None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of the rows before truncation and after the policy's outliers.

    `prompt` (all before the last answer) and `completion` (the last stretch in the loss) are None where
    the whole row is in the loss. `trained` says where the tokens of the loss stand. `costs` are for the
    stated max_length and the recommended ones; `outliers` are the longest rows.
    """

    total: Histogram
    prompt: Histogram | None
    completion: Histogram | None
    trained: TrainedPositions
    percentile: float
    packed: Recommended
    unpacked: Recommended
    costs: tuple[Cost, ...]
    outliers: tuple[Outlier, ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """What another trainer would make of the same lengths: so many `blocks`, and the share of them it fills.

    `sequences` of `total` were packed: of very many a drawn part.
    """

    trainer: str
    blocks: int
    fill: float
    sequences: int
    total: int


@dataclass(frozen=True, slots=True)
class Packing:
    """Blocks of `length` tokens: by TRL alone, by best-fit over all rows, as planned, and the lower bound.

    `fill` is of the planned ones. `padding` is the share of padding without packing, in shuffled batches
    and in batches grouped by length. `used` says whether the job packs. `others` are other trainers.
    """

    used: bool
    length: int
    sequences: int
    tokens: int
    trl: int
    best_fit: int
    planned: int
    lower_bound: int
    padding: float
    padding_by_length: float
    others: tuple[Grouping, ...] = ()

    def fill(self, blocks: int) -> float:
        """Share of the tokens of so many blocks that are real."""
        return self.tokens / (blocks * self.length) if blocks else 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: `nominal` tokens (rows x max_length), `real` ones, and how many steps there are.

    `shares` are the rows (or blocks) that each device trains in an epoch. Where rows do not divide, the last
    batch is `filled` with so many outside of the loss, or `repeated` ones, or `dropped`.
    """

    batch: int
    accumulation: int
    devices: int
    nominal: int | None
    real: int
    target: tuple[int, int] | None
    an_epoch: int
    total: int
    epochs: float
    shares: tuple[int, ...] = ()
    filled: int = 0
    repeated: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """Settings that were tried: what they would take and what they would lose.

    `fed` sequences (blocks) and `computed` tokens an epoch, padding among them; `nominal` and `real` tokens a
    step; `lost` is the share of the trained tokens that
    truncation takes; `memory` in GiB and `hours` of all GPUs may be unknown. `problems` say why it is no
    choice.
    """

    length: int
    batch: int
    accumulation: int
    packing: bool
    fed: int
    computed: int
    nominal: int
    real: int
    steps: int
    lost: float
    memory: Figure
    hours: Figure
    role: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A number that the policy asks for, and whether it holds: True, False, or None where nobody can tell."""

    name: str
    asked: str
    found: str
    holds: bool | None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class OnSample:
    """What a plan on a sample says of all rows, at 95 %: their tokens, and the steps they make.

    Time and cost hold the same uncertainty. Lengths, shares and blocks are those of the sample.
    """

    sample: RowSample
    tokens: Figure
    an_epoch: Figure
    total: Figure


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One page of a plan. `options` are the trade-off, the stated settings first, then the best.

    `memory_limit` is the smaller of what the target allows and what `card` has; `card_gib` is what it has in
    GiB, as torch reports it (None where that is unknown). `largest_batch_by` is as `Figure.by`. `changes`
    turn the stated settings into the best ones. `notes` say what the numbers rest on, `probe` what real steps
    took where there were any. `role_tokens` is None where no row is a conversation, or where the words could
    not be counted: `role_tokens_problem` then says why. `on_sample` is there where a sample of the rows was
    planned with.
    """

    job: str
    model: str
    how: str
    lengths: Lengths
    role_tokens: RoleTokens | None
    role_tokens_problem: str
    packing: Packing | None
    step: Step
    memory: Figure
    memory_limit: float | None
    memory_source: str
    largest_batch: int | None
    time: Figure
    cost: Figure
    serving: tuple[str, ...]
    disk: Figure
    disk_words: str
    options: tuple[Option, ...]
    searched: str
    targets: tuple[Target, ...]
    changes: tuple[Change, ...]
    config: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    probe: str = ""
    largest_batch_by: str = ""
    card: str = ""
    card_gib: float | None = None
    on_sample: OnSample | None = None


@dataclass(frozen=True, slots=True)
class Unplanned:
    """A job that no plan can be made for, with the reason."""

    job: str
    reason: str
