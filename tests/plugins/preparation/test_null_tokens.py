"""What Arrow's nulls cost, and that dropping them gives the rows of the JSON lines."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import null_tokens, preparation

from ftcheck.errors import InputError
from ftcheck.inputs.arrow_nulls import NullTokens
from ftcheck.inputs.container import Inputs, Run
from ftcheck.settings import Data, Job, Model, TrainerChoice, Training

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% generation %}{{ m.role }}: {{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}{{ eos_token }}"
    "{% endgeneration %}{% endfor %}"
)
LOADERS = {
    one.name: one
    for one in (
        tokenizer.tokenizer,
        preparation.prepared,
        preparation.rows,
        preparation.sample,
        null_tokens.arrow_nulls,
    )
}


def calls() -> list[dict[str, Any]]:
    found = []
    for number in range(6):
        arguments = {"city": "Lima"} if number % 2 else {"room": number}
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        turns = [
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ]
        found.append({"messages": turns})
    return found


def inputs(samples: Path, folder: Path, suffix: str, *, command: bool = False, **data: Any) -> Inputs:
    path, template = folder / f"rows{suffix}", folder / "template.jinja"
    template.write_text(TEMPLATE, encoding="utf-8")
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(calls()), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in calls()), encoding="utf-8")
    job = Job(
        name="job",
        model=Model(name=str(samples / "models" / "mapper-tiny"), chat_template=str(template)),
        data=Data(train=str(path), **data),
        training=Training(assistant_only_loss=True),
        trainer=TrainerChoice(use="command", argv=("train",)) if command else TrainerChoice(),
    )
    return Inputs(LOADERS, {"run": Run(folder=folder / f"work{suffix}{len(data)}")}, job)


def test_the_nulls_of_a_parquet_file_are_counted_with_their_trained_tokens(
    samples: Path, tmp_path: Path
) -> None:
    found: NullTokens = inputs(samples, tmp_path, ".parquet").get("arrow_nulls")

    lines = inputs(samples, tmp_path, ".jsonl")
    more = inputs(samples, tmp_path, ".parquet").get("prepared").length - lines.get("prepared").length
    assert (found.rows, found.other, found.first) == (6, 6, 0)
    assert found.tokens == found.trained == more.sum() > 0
    assert set(found.keys) == {"city", "room"}
    assert lines.get("arrow_nulls") is None


def test_without_nulls_the_ids_are_those_of_the_json_lines(samples: Path, tmp_path: Path) -> None:
    parquet = inputs(samples, tmp_path, ".parquet", drop_nulls=True)

    assert parquet.get("prepared").digest == inputs(samples, tmp_path, ".jsonl").get("prepared").digest
    assert parquet.get("arrow_nulls") is None


def test_a_command_reads_the_file_itself(samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    found = inputs(samples, tmp_path, ".parquet", command=True, drop_nulls=True).get("arrow_nulls")

    assert found.other == 6


def test_a_file_that_changed_after_it_was_prepared_is_an_error(samples: Path, tmp_path: Path) -> None:
    made = inputs(samples, tmp_path, ".parquet")
    made.get("prepared")
    other = calls()
    other[0]["messages"][0]["content"] = "When?"
    pq.write_table(pa.Table.from_pylist(other), tmp_path / "rows.parquet")

    with pytest.raises(InputError, match="changed after it was prepared: run again"):
        made.get("arrow_nulls")
