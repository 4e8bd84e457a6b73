"""Files of every layout, type quirk and mix of columns: what ftcheck makes of them beside datasets and TRL.

    python -m tests.plugins.reading.differential [--files N] [--seed N]

For each file the installed datasets loads it and TRL's own SFTTrainer prepares it. ftcheck must make the same
ids and labels, or refuse where they raise, or a finding of its data rules must say what differs.
"""

import argparse
import contextlib
import copy
import csv
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation
from ftcheck_rules.data.data import data_readable, data_schema

from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.records import Finding, Severity
from ftcheck.settings import Data, Job, Model, Training
from ftcheck.settings import TrainerChoice as Choice
from ftcheck.testing import run
from tests.places import CHECKOUT
from tests.plugins.preparation.trl_side import Fed, quiet, tiny_model

MODEL = CHECKOUT / "policies" / "samples" / "models" / "mapper-tiny"
LOADERS = {
    one.name: one
    for one in (tokenizer.tokenizer, preparation.as_loaded, preparation.prepared, preparation.rows)
}
WORDS = [
    "late",
    "early",
    "badge",
    "printer",
    "router",
    "Hanoi",
    "Lima",
    "Oslo",
    "7",
    "42",
    "über",
    "naïve",
    "東京",
    "ticket",
]
TEXTS = (
    "2024-05-0{}",
    "2024-05-0{}T10:00:00",
    "{}",
    "{}.50",
    "None",
    "N/A",
    "true",
    '{{"a": {}}}',
    "",
    "null",
)
"""Texts that a reader may take for something else; `{}` is the row's number."""
NUMBERS = (0.3, 1e-12, 37.77492951234567, 1.0, 3, 2**53 + 1, -0.0, 1e300, 0.1 + 0.2)

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One generated file with its settings."""

    number: int
    name: str
    suffix: str
    rows: list[Row]
    training: dict[str, Any]
    command: bool


@dataclass
class Verdict:
    """How the two sides compare: `same`, `refused`, `told`, or `wrong`, with what was said."""

    outcome: str
    why: str = ""
    findings: list[str] = field(default_factory=list)


def cases(count: int, seed: int = 13) -> Iterator[Case]:
    """Files, always the same for a seed."""
    for number in range(count):
        dice = random.Random(f"{seed}:{number}")
        layout = dice.choice(sorted(LAYOUTS))
        rows = [LAYOUTS[layout](dice, n) for n in range(dice.randint(1, 5))]
        quirk = dice.choice(sorted(QUIRKS)) if dice.random() < 0.8 else "none"
        if quirk in QUIRKS:
            QUIRKS[quirk](dice, rows)
        suffix = dice.choice((".jsonl", ".jsonl", ".jsonl", ".json", ".parquet", ".csv"))
        if suffix == ".csv" and not all(isinstance(v, str) for row in rows for v in row.values()):
            suffix = ".jsonl"
        training: dict[str, Any] = {"max_length": dice.choice((None, 24, 200))}
        if dice.random() < 0.3:
            training["assistant_only_loss"] = True
        if dice.random() < 0.3:
            training["completion_only_loss"] = dice.random() < 0.5
        command = dice.random() < 0.6
        yield Case(number, f"{layout} {quirk}", suffix, rows, training, command)


def _text(dice: random.Random, n: int) -> str:
    return " ".join(dice.choices(WORDS, k=dice.randint(1, 9))) + f" {n}"


def _talk(dice: random.Random, n: int) -> list[Row]:
    turns: list[Row] = []
    if dice.random() < 0.3:
        turns.append({"role": "system", "content": _text(dice, n)})
    for _ in range(dice.randint(1, 2)):
        turns.append({"role": "user", "content": _text(dice, n)})
        turns.append({"role": "assistant", "content": _text(dice, n)})
    return turns


def _sharegpt(dice: random.Random, n: int) -> list[Row]:
    names = {"user": dice.choice(("human", "user")), "assistant": "gpt", "system": "system"}
    return [{"from": names[t["role"]], "value": t["content"]} for t in _talk(dice, n)]


def _split(dice: random.Random, n: int) -> Row:
    turns = _talk(dice, n)
    return {"prompt": turns[:-1], "completion": turns[-1:]}


LAYOUTS: Mapping[str, Callable[[random.Random, int], Row]] = {
    "messages": lambda dice, n: {"messages": _talk(dice, n)},
    "split": _split,
    "split-text": lambda dice, n: {"prompt": _text(dice, n) + "\n", "completion": _text(dice, n)},
    "text": lambda dice, n: {"text": _text(dice, n)},
    "sharegpt": lambda dice, n: {"conversations": _sharegpt(dice, n)},
    "conversations": lambda dice, n: {"conversations": _talk(dice, n)},
    "alpaca": lambda dice, n: {"instruction": _text(dice, n), "input": "", "output": _text(dice, n)},
}


def _some(dice: random.Random, rows: list[Row]) -> list[Row]:
    """Some of the rows, at least one."""
    return dice.sample(rows, dice.randint(1, len(rows)))


def _odd_texts(dice: random.Random, rows: list[Row]) -> None:
    """A column of texts that look like something else, in all rows or some."""
    shape, chosen = dice.choice(TEXTS), rows if dice.random() < 0.7 else _some(dice, rows)
    for n, row in enumerate(chosen):
        names = [name for name, value in row.items() if isinstance(value, str)]
        if names:
            row[names[-1]] = shape.format(n + 1)
        else:
            turns = next(value for value in row.values() if isinstance(value, list))
            for turn in turns[-1:] if dice.random() < 0.5 else turns:
                turn["value" if "value" in turn else "content"] = shape.format(n + 1)


def _calls(dice: random.Random, rows: list[Row]) -> None:
    for row in _some(dice, rows):
        turns = next((v for v in row.values() if isinstance(v, list)), None)
        if turns is None:
            row["score"] = dice.choice(NUMBERS)
            continue
        arguments = {dice.choice("pqr"): dice.choice(NUMBERS) for _ in range(2)}
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        turns[-1]["tool_calls"] = [call]


def _extra_column(dice: random.Random, rows: list[Row]) -> None:
    values = {
        "text": "some text 1",
        "prompt": "a prompt",
        "completion": "an answer",
        "prompt_id": "p7",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "source": "wiki",
        "score": 3,
        "chosen": "yes",
    }
    name = dice.choice(sorted(values))
    for row in rows if dice.random() < 0.6 else _some(dice, rows):
        row.setdefault(name, copy.deepcopy(values[name]))


def _switches(dice: random.Random, rows: list[Row]) -> None:
    for row in rows if dice.random() < 0.5 else _some(dice, rows):
        row["chat_template_kwargs"] = {"enable_thinking": dice.random() < 0.5}


def _nulls(dice: random.Random, rows: list[Row]) -> None:
    for row in _some(dice, rows):
        row[dice.choice(sorted(row))] = None


def _missing(dice: random.Random, rows: list[Row]) -> None:
    for row in _some(dice, rows):
        del row[dice.choice(sorted(row))]
        row.setdefault("source", "x")


def _message_keys(dice: random.Random, rows: list[Row]) -> None:
    key, value = dice.choice(
        (("weight", 0), ("name", "Ann"), ("train", False), ("thinking", "hm"), ("id", 7))
    )
    for row in rows if dice.random() < 0.5 else _some(dice, rows):
        turns = next((v for v in row.values() if isinstance(v, list)), None)
        if turns:
            turns[-1][key] = value


QUIRKS: Mapping[str, Callable[[random.Random, list[Row]], None]] = {
    "odd-texts": _odd_texts,
    "calls": _calls,
    "extra-column": _extra_column,
    "switches": _switches,
    "nulls": _nulls,
    "missing": _missing,
    "message-keys": _message_keys,
}


def write(case: Case, folder: Path) -> Path | None:
    """The file; None where its kind cannot hold these rows."""
    path = folder / f"{case.number}{case.suffix}"
    if case.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in case.rows), encoding="utf-8")
    elif case.suffix == ".json":
        path.write_text(json.dumps(case.rows, indent=1), encoding="utf-8")
    elif case.suffix == ".csv":
        names = list(dict.fromkeys(name for row in case.rows for name in row))
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, names, restval="")
            writer.writeheader()
            writer.writerows(case.rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            pq.write_table(pa.Table.from_pylist(case.rows), path)
        except (pa.ArrowException, OSError):
            return None
    return path


class Trl:
    """TRL's preparation of data sets: one trainer for each set of arguments, built once."""

    def __init__(self, folder: Path) -> None:
        """`folder` takes what trainers write."""
        self._folder = folder
        self._trainers: dict[str, Any] = {}

    def fed(self, path: Path, training: dict[str, Any]) -> list[Fed]:
        """Ids and labels of each row that is fed. Raises what datasets or TRL raise."""
        import datasets
        from trl.data_utils import is_conversational

        builder = {".csv": "csv", ".parquet": "parquet"}.get(path.suffix, "json")
        with quiet(), tempfile.TemporaryDirectory(dir=self._folder) as cache:
            rows = datasets.load_dataset(builder, data_files=[str(path)], split="train", cache_dir=cache)
            trainer, backend, arguments = self._trainer(training)
            first = next(iter(rows))
            if arguments.assistant_only_loss and not is_conversational(first):
                raise ValueError("assistant_only_loss: the dataset is not conversational")
            stated = training.get("completion_only_loss")
            split = "prompt" in first and "completion" in first
            trainer.completion_only_loss = split if stated is None else stated
            made = trainer._prepare_dataset(rows, backend, arguments, False, None, "train")
            return [(row["input_ids"], row["labels"]) for row in made]

    def _trainer(self, training: dict[str, Any]) -> Any:
        from datasets import Dataset
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        name = json.dumps({k: v for k, v in training.items() if k != "completion_only_loss"})
        if name not in self._trainers:
            backend = AutoTokenizer.from_pretrained(str(MODEL))
            stated = {**training, "completion_only_loss": None}
            arguments = SFTConfig(
                output_dir=str(self._folder), report_to="none", use_cpu=True, bf16=False, **stated
            )
            turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            rows = Dataset.from_list([{"messages": turns}])
            trainer = SFTTrainer(
                model=tiny_model(backend), args=arguments, train_dataset=rows, processing_class=backend
            )
            self._trainers[name] = trainer, backend, arguments
        return self._trainers[name]


def ours(case: Case, path: Path, folder: Path) -> tuple[list[Fed] | None, list[Finding]]:
    """What ftcheck feeds (None where a row is in trouble), and what its data rules say."""
    job = Job(
        name="job",
        model=Model(name=str(MODEL)),
        data=Data(train=str(path)),
        training=Training(**case.training),
        trainer=Choice(use="command", argv=("train",)) if case.command else Choice(),
    )
    inputs = Inputs(LOADERS, {"run": Run(folder=folder, workers=1)}, job)
    with quiet():
        readable = run(data_readable, job=job, inputs=inputs)
        schema = run(data_schema, job=job, rows=inputs.get("rows"))
        prepared: Prepared = inputs.get("prepared")
    said = [*readable.findings, *schema.findings]
    if prepared.row_errors:
        return None, said
    fed = []
    for row, start, stop in prepared.fed_spans(job.training).tolist():
        ids = prepared.tokens.ids(row)[start:stop].tolist()
        mask = prepared.tokens.mask(row)[start:stop].tolist()
        fed.append((ids, [one if kept else -100 for one, kept in zip(ids, mask, strict=True)]))
    return fed, said


def compare(case: Case, trl: Trl, folder: Path) -> Verdict | None:
    """Both sides of one file; None where it could not be written."""
    path = write(case, folder)
    if path is None:
        return None
    work = folder / f"work{case.number}"
    work.mkdir()
    mine, said = ours(case, path, work)
    theirs: list[Fed] | None = None
    why = ""
    try:
        theirs = trl.fed(path, case.training)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"[:200]
    told = [f"{one.severity}: {one.message}" for one in said]
    if theirs is None:
        loud = mine is None or any(_says_so(one, case.command) for one in said)
        return Verdict("refused" if loud else "wrong", why, told)
    alarms = [one for one in told if "TRL raises" in one or "does not read these files" in one]
    alarms = [one for one in alarms if "by the order of a set" not in one]  # this process drew the other one
    if alarms and mine is not None:
        return Verdict("wrong", "neither datasets nor TRL raise", alarms)
    if mine is not None and sorted(mine) == sorted(theirs):
        return Verdict("same", findings=told)
    return Verdict("told" if told or mine is None else "wrong", "other ids or labels", told)


def _says_so(one: Finding, command: bool) -> bool:
    """Whether a finding tells that TRL refuses: an error for a command, but for the usual conversions."""
    return not command or one.severity is Severity.ERROR or "TRL does not do so" in one.message


@contextlib.contextmanager
def folders() -> Iterator[tuple[Trl, Path]]:
    """A work folder, and TRL in it."""
    with tempfile.TemporaryDirectory() as name:
        trainers = Path(name) / "trl"
        trainers.mkdir()
        yield Trl(trainers), Path(name)


def main() -> int:
    """Compare, and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=13)
    stated = parser.parse_args()
    counts: Counter[str] = Counter()
    with folders() as (trl, folder):
        number = written = 0
        for case in cases(10 * stated.files, stated.seed):
            if written == stated.files:
                break
            number += 1
            verdict = compare(case, trl, folder)
            if verdict is None:
                continue
            written += 1
            counts[verdict.outcome] += 1
            if verdict.outcome == "wrong":
                print(f"{case.number} {case.name}{case.suffix} {case.training} command={case.command}")
                print(f"  {verdict.why}  {verdict.findings}  {json.dumps(case.rows)[:300]}", flush=True)
    print(f"{written:,} files:", ", ".join(f"{count:,} {name}" for name, count in counts.most_common()))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
