"""Small jobs for the tests of the preparation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation

from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.settings import Data, Job, Model, Training

LOADERS = {one.name: one for one in (tokenizer.tokenizer, preparation.prepared, preparation.rows)}


def turns(answer: Any = "fine") -> list[dict[str, Any]]:
    """A question and its answer."""
    return [{"role": "user", "content": "how?"}, {"role": "assistant", "content": answer}]


def prepare(samples: Path, folder: Path, rows: Sequence[Any]) -> Prepared:
    """These rows, prepared for the mapper's model in a folder of their own."""
    folder.mkdir()
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = Model(name=str(samples / "models" / "mapper-tiny"))
    job = Job(name="job", model=model, data=Data(train=str(data)), training=Training(max_length=64))
    prepared: Prepared = Inputs(LOADERS, {"run": Run(folder=folder / "work")}, job).get("prepared")
    return prepared
