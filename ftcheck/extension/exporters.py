"""What writes for another program: a configuration, or the ids that were checked."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ftcheck.settings import Job

if TYPE_CHECKING:
    from ftcheck.gate.ticket import Ticket
    from ftcheck.inputs.container import Inputs


class ExportFunction(Protocol):
    """How an exporter is called: with the jobs, and the URL of the server that is to stand behind them."""

    def __call__(self, jobs: Sequence[Job], endpoint: str | None = None) -> str:
        """The configuration as text. Raises `ftcheck.errors.UsageError` for jobs that cannot be exported."""


@dataclass(frozen=True)
class Exporter:
    """Writes the configuration of another program from jobs: `ftcheck export NAME`.

    `file` is the usual name of what is written; `start` says how the other program is started with it
    (`{file}` stands for its path).
    """

    name: str
    export: ExportFunction
    file: str
    start: str


@dataclass(frozen=True, slots=True)
class StoredSplit:
    """What lies in one split of a folder with ids, read back from the disk.

    `examples` are rows, or packed blocks; `tokens` leave padding out, `trained_tokens` are those in the loss,
    `longest` is the longest example in tokens. `digest` is that over ids and labels as stored, `file` that of
    the bytes of the file with all columns.
    """

    examples: int
    tokens: int
    trained_tokens: int
    longest: int
    digest: str
    file: str
    packed: bool = False


@dataclass(frozen=True, slots=True)
class ExportedIds:
    """A folder with the ids of a job. `ids` and `eval_ids` are the digests that reports state; `config` are
    the lines that make a trainer read the folder, as YAML.
    """

    folder: Path
    ids: str
    eval_ids: str | None
    splits: Mapping[str, StoredSplit] = field(default_factory=dict)
    config: str = ""


class IdsFunction(Protocol):
    """How an exporter of ids is called: with a job and its inputs, and the folder that is to be made."""

    def __call__(
        self, job: Job, inputs: "Inputs", folder: Path, *, ticket: "Ticket | None" = None, force: bool = False
    ) -> ExportedIds:
        """Write the folder, whole or not at all; with `force` in the place of an earlier export.

        With a ticket the ids must be those that it is for. Raises `ftcheck.errors.FtcheckError`.
        """


@dataclass(frozen=True)
class IdsExporter:
    """Writes the ids of a job as the folder that a trainer reads: `ftcheck export ids --to NAME`."""

    name: str
    export: IdsFunction


def yaml_1_1(value: Any) -> str:
    """A configuration as YAML 1.1, which is what other programs read: `on` and `1:30` are quoted."""
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.version = (1, 1)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 1_000_000
    writer.allow_unicode = True
    stream = io.StringIO()
    writer.dump(value, stream)
    return stream.getvalue().partition("---\n")[2]
