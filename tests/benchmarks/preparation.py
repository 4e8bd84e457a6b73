"""Rows to ids, labels and columns: ftcheck's preparation beside TRL's own, in one run.

    python -m tests.benchmarks.preparation [--rows N] [--trl-rows N] [--repeat N] [--tokenizer FOLDER ...]

Rows are Alpaca's (as `messages`). Both sides have the tokenizer open, TRL's its trainer too, before the clock
starts. ftcheck prepares all rows on all cores, in a process of its own: `cold` counts everything, loading its
engine and holding it against the trainer's tokenizer included; `steady` is the rate of the rows beyond the
first, from a second run on four times the rows. TRL's `_prepare_dataset` takes `--trl-rows` of them, which is
enough for its rate, in one process (its default) and in two. Ids and labels are compared row by row. Rates
and ratios are medians of `--repeat` rounds of both sides: a shared machine is now fast, now slow.

`--cases` times other material instead, both sides in two processes, cold: tool rows (Qwen3), long prompts
(cut into words as Falcon does), Chinese Alpaca (as DeepSeek-V3 does; see `vocabularies`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation

from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.settings import Data, Job, Model, Training
from tests.benchmarks import tool_rows, vocabularies
from tests.places import DATA

LOADERS = {one.name: one for one in (tokenizer.tokenizer, preparation.prepared, preparation.rows)}
SETTINGS: tuple[dict[str, Any], ...] = (
    {"max_length": 1024},
    {"max_length": 1024, "assistant_only_loss": True},
)
TIMES = 4
"""How many times the rows the second run has."""


def alpaca(count: int) -> Iterator[dict[str, Any]]:
    """Alpaca's rows as conversations of two messages."""
    taken = 0
    for path in sorted((DATA / "datasets" / "alpaca_en_52k_shards").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            if taken == count:
                return
            asked = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
            yield {"messages": turns}
            taken += 1


def opened(model: Path, data: Path, folder: Path, training: dict[str, Any]) -> Inputs:
    """ftcheck's inputs for a job, with the tokenizer open."""
    job = Job(
        name="job",
        model=Model(name=str(model)),
        data=Data(train=str(data)),
        training=Training(**training),
    )
    inputs = Inputs(LOADERS, {"run": Run(folder=folder)}, job)
    inputs.get("tokenizer")
    return inputs


def ours(model: Path, data: Path, training: dict[str, Any]) -> dict[str, Any]:
    """One preparation in this process: rows, seconds, the engine."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = opened(model, data, Path(folder), training)
        started = time.perf_counter()
        made: Prepared = inputs.get("prepared")
        seconds = time.perf_counter() - started
        return {"rows": len(made), "seconds": seconds, "engine": made.engine, "digest": made.digest}


def ours_alone(model: Path, data: Path, training: dict[str, Any]) -> dict[str, Any]:
    """The same in a process of its own, as the check worker is one."""
    given = json.dumps([str(model), str(data), training])
    command = [sys.executable, "-m", "tests.benchmarks.preparation", "--alone", given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def theirs(backend: Any, rows: list[dict[str, Any]], training: dict[str, Any], processes: int) -> float:
    """Rows a second of TRL's own preparation."""
    from datasets import Dataset

    from tests.plugins.preparation.trl_side import preparation_of

    several = {"dataset_num_proc": processes} if processes > 1 else {}
    with tempfile.TemporaryDirectory() as folder:
        preparing = preparation_of(backend, rows, Path(folder), **training, **several)
        data = Dataset.from_list(rows)
        started = time.perf_counter()
        preparing(data)
        return len(rows) / (time.perf_counter() - started)


def identical(model: Path, rows: list[dict[str, Any]], training: dict[str, Any]) -> bool:
    """Whether both sides make the same ids and labels of these rows."""
    from tests.plugins.preparation.test_against_trl import fed
    from tests.plugins.preparation.trl_side import trainer_of

    with tempfile.TemporaryDirectory() as folder:
        data = write(Path(folder) / "rows.jsonl", rows, 1)
        inputs = opened(model, data, Path(folder), training)
        mine = fed(inputs.get("prepared"), training)
        return bool(
            trainer_of(inputs.get("tokenizer").original, rows, Path(folder), **training)(rows) == mine
        )


def compare(
    model: Path, small: Path, large: Path, rows: list[dict[str, Any]], training: dict[str, Any], repeat: int
) -> str:
    """One line of the table: medians of `repeat` rounds, in each of which both sides run."""
    with tempfile.TemporaryDirectory() as folder:
        backend = opened(model, small, Path(folder), training).get("tokenizer").original
    found: list[tuple[float, float, float]] = []
    for _ in range(repeat):
        cold, more = (ours_alone(model, data, training) for data in (small, large))
        steady = (more["rows"] - cold["rows"]) / (more["seconds"] - cold["seconds"])
        found.append((cold["rows"] / cold["seconds"], steady, theirs(backend, rows, training, 1)))
    first, steady, one = (median(values) for values in zip(*found, strict=True))
    ratios = [
        median(mine / trl for mine, trl in pairs)
        for pairs in (
            [(first, trl) for first, _, trl in found],
            [(steady, trl) for _, steady, trl in found],
        )
    ]
    two = theirs(backend, rows, training, 2)
    same = identical(model, rows, training)
    loss = "assistant" if training.get("assistant_only_loss") else "all"
    return (
        f"{model.name:22}{loss:11}{cold['engine']:19}{first:8,.0f}{steady:9,.0f}{one:8,.0f}{two:8,.0f}"
        f"{ratios[0]:8.1f}x{ratios[1]:7.1f}x{steady / two:7.1f}x  {'identical' if same else 'DIFFERENT'}"
    )


def write(path: Path, rows: list[dict[str, Any]], times: int) -> Path:
    """The rows as JSON lines, so many times over."""
    with path.open("w", encoding="utf-8") as file:
        for _ in range(times):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


def tools(count: int) -> Iterator[dict[str, Any]]:
    """Tool rows with definitions and arguments as JSON texts: Arrow gives objects the keys of all others."""
    made = Random(14)
    for number in range(count):
        row = tool_rows.row(number, made)
        for turn in row["messages"]:
            for call in turn.get("tool_calls", ()):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        yield {**row, "tools": json.dumps(row["tools"])}


def long_prompts(count: int) -> Iterator[dict[str, Any]]:
    """Prompts of 200 to 450 words of meetings, and short completions, as in T0's mixture."""
    lines = (DATA / "jobs" / "meetings" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [turn for line in lines for turn in json.loads(line)["messages"]]
    words = " ".join(turn["content"] for turn in turns).split()
    made = Random(0)
    for _ in range(count):
        start, size, more = made.randrange(len(words) - 500), made.randint(200, 450), made.randint(3, 30)
        end = start + size
        yield {"prompt": " ".join(words[start:end]), "completion": " " + " ".join(words[end : end + more])}


def chinese(count: int) -> Iterator[dict[str, Any]]:
    """Alpaca in Chinese as conversations, its 1,000 rows numbered and over again."""
    path = DATA / "datasets" / "llama_factory" / "alpaca_zh_demo.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    for number in range(count):
        row = known[number % len(known)]
        asked = f"{number} {row['instruction']}" + ("\n" + row["input"] if row["input"] else "")
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
        yield {"messages": turns}


def cases(folder: Path, repeat: int) -> Iterator[str]:
    """One line for each other kind of material."""
    several: tuple[tuple[str, Path, list[dict[str, Any]], dict[str, Any]], ...] = (
        ("tool rows", DATA / "tokenizers" / "Qwen3", list(tools(2_111)), SETTINGS[1]),
        ("long prompts", vocabularies.falcon_like(folder / "falcon"), list(long_prompts(6_000)), SETTINGS[0]),
        ("Chinese", vocabularies.deepseek_like(folder / "deepseek"), list(chinese(52_002)), SETTINGS[1]),
    )
    for name, model, rows, training in several:
        training = {**training, "max_length": 8192}
        data = write(folder / f"{name}.jsonl", rows, 1)
        backend = opened(model, data, folder, training).get("tokenizer").original
        found = []
        for _ in range(repeat):
            mine = ours_alone(model, data, training)
            found.append((mine["rows"] / mine["seconds"], theirs(backend, rows, training, 2)))
        rate, trl = (median(values) for values in zip(*found, strict=True))
        ratio = median(one / other for one, other in found)
        same = "identical" if identical(model, rows[:200], training) else "DIFFERENT"
        yield f"{name:14}{mine['engine']:19}{rate:8,.0f}{trl:8,.0f}{ratio:8.1f}x  {same}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=52_002)
    parser.add_argument("--trl-rows", type=int, default=4_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tokenizer", type=Path, nargs="*", help="tokenizer folders")
    parser.add_argument("--cases", action="store_true", help="other material: tools, long prompts, Chinese")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        model, data, training = json.loads(given.alone)
        print(json.dumps(ours(Path(model), Path(data), training)))
        return
    if given.cases:
        print(f"{'material':14}{'engine':19}{'rows/s':>8}{'TRL x2':>8}{'times':>9}  of 200 rows")
        with tempfile.TemporaryDirectory() as folder:
            for line in cases(Path(folder), given.repeat):
                print(line, flush=True)
        return
    names = [DATA / "tokenizers" / name for name in ("llama-3-instruct", "phi-3-mini-instruct")]
    print(f"{'':52}{'rows a second':^33}{'times TRL':^25}")
    print(
        f"{'tokenizer':22}{'loss':11}{'engine':19}{'cold':>8}{'steady':>9}{'TRL':>8}{'TRL x2':>8}"
        f"{'cold':>9}{'steady':>8}{'x2':>8}  ids and labels"
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = list(alpaca(given.rows))
        small = write(Path(folder) / "small.jsonl", rows, 1)
        large = write(Path(folder) / "large.jsonl", rows, TIMES)
        for model in given.tokenizer or names:
            for training in SETTINGS:
                print(
                    compare(model, small, large, rows[: given.trl_rows], training, given.repeat), flush=True
                )


if __name__ == "__main__":
    main()
