"""A tiny Llama with Llama 3's template, sixty rows, and jobs, inputs and tickets around them."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ftcheck.gate.ticket import SEAL, Ticket
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.loader import Loader
from ftcheck.inputs.prepared import Prepared
from ftcheck.records import Progress
from ftcheck.settings import Data, Job, Lora, Model, Quantization, TrainerChoice, Training
from tests.trainers.small import make_model, make_rows

NF4 = Quantization(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype="bfloat16",
)


def make_ticket(job: Job, ids: str | None, **changes: Any) -> Ticket:
    """The one place where a test makes a ticket: only the gate holds the seal."""
    given: dict[str, Any] = {
        "job": job.name,
        "policy": "policies/night.yaml",
        "report": "sha256:report",
        "job_digest": "sha256:job",
        "plan": "sha256:plan",
        "model": "sha256:model",
        "template": "sha256:template",
        "ids": ids,
        "inputs": {f"{job.name}.train": "sha256:train"},
        "issued_at": "2026-11-22T10:00:00+00:00",
    }
    return Ticket(**given | changes, seal=SEAL)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama with two layers of width 64 and a byte-level BPE trained on the rows."""
    pytest.importorskip("trl")
    folder = tmp_path_factory.mktemp("models") / "llama-tiny"
    make_model(folder)
    return folder


@dataclass
class Kit:
    """Makes jobs, opens their inputs, and keeps what a training reports."""

    model: Path
    folder: Path
    reported: list[Progress] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.folder / "run"

    def job(self, *, name: str = "mapper", rows: int = 60, trainer: Any = None, **training: Any) -> Job:
        """A job on sixty rows; four steps of sixteen rows unless `training` says otherwise."""
        for split, count in (("train", rows), ("eval", 12)):
            lines = "".join(json.dumps(row) + "\n" for row in make_rows(count))
            (self.folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        given: dict[str, Any] = {
            "max_length": 96,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 2,
            "per_device_eval_batch_size": 8,
            "learning_rate": 1e-2,
            "max_steps": 4,
            "output_dir": str(self.output),
            "lora": Lora(r=4, lora_alpha=8, lora_dropout=0.05, target_modules="all-linear"),
            "quantization": NF4,
            "assistant_only_loss": True,
        }
        return Job(
            name=name,
            model=Model(name=str(self.model)),
            data=Data(train=str(self.folder / "train.jsonl"), eval=str(self.folder / "eval.jsonl")),
            training=Training(**given | training),
            trainer=trainer or TrainerChoice(),
        )

    def inputs(self, job: Job, report: Callable[[Progress], None] | None = None, **given: Any) -> Inputs:
        """The job's inputs, opened by the real loaders; `given` are at hand (a watch)."""
        from ftcheck_plugins.model import tokenizer
        from ftcheck_plugins.preparation import preparation

        used = (tokenizer.tokenizer, preparation.prepared, preparation.prepared_eval)
        loaders: Mapping[str, Loader] = {one.name: one for one in used}
        work = self.folder / f"work-{len(list(self.folder.glob('work-*')))}"
        run = Run(folder=work, offline=True, report=report or self.reported.append)
        return Inputs(loaders, {"run": run, **given}, job)

    def prepared(self, inputs: Inputs) -> Prepared:
        found: Prepared = inputs.get("prepared")
        return found

    def ticket(self, job: Job, inputs: Inputs) -> Ticket:
        evaluated: Prepared | None = inputs.get("prepared_eval") if job.evaluates else None
        eval_ids = evaluated.digest if evaluated is not None else None
        return make_ticket(job, self.prepared(inputs).digest, eval_ids=eval_ids)

    def run_json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "run.json").read_text(encoding="utf-8"))
        return found

    def metrics(self) -> list[dict[str, Any]]:
        lines = (self.output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def kit(model_folder: Path, tmp_path: Path) -> Kit:
    return Kit(model_folder, tmp_path)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The libraries log about things the tests do on purpose."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    yield
    logging.disable(before)
