"""What trains a job."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ftcheck.gate.ticket import Ticket
    from ftcheck.inputs.container import Inputs
    from ftcheck.inputs.probe import Probe
    from ftcheck.settings import Job


class TrainFunction(Protocol):
    """How a trainer is called: with the gate's ticket, the job, and the inputs that were checked."""

    def __call__(self, ticket: "Ticket", job: "Job", inputs: "Inputs", *, resume: bool) -> str:
        """Train and return the run folder's path, or raise `ftcheck.TrainingError`."""


@dataclass(frozen=True)
class Trainer:
    """Trains one job. It cannot be called without the gate's ticket.

    `describe(job)` says in a line what will run; it is printed first. `probe(job, inputs)` runs some real
    steps of the largest batch and writes nothing (`ftcheck plan --probe`); None: this trainer cannot.
    `reads_rows`: it reads and tokenises the rows itself, so that nobody can say that it trains the ids that
    were checked. `takes_sample`: it can be called with a ticket of a sample (`Ticket.sample`), and trains all
    rows then; as `sampled` its inputs have those of the job as it was checked.
    """

    name: str
    train: TrainFunction
    describe: Callable[["Job"], str] = lambda job: ""
    probe: Callable[["Job", "Inputs"], "Probe"] | None = None
    reads_rows: bool = False
    takes_sample: bool = False
