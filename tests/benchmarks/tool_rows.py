"""Times `ftcheck run` on tool rows: `python -m tests.benchmarks.tool_rows`.

2,111 rows like those of the Berkeley Function-Calling Leaderboard: seven definitions each (no two alike), a
call or two, results, 3.3 M tokens in all, on the tokenizer and template of Qwen3. The recommended checks run
without anything kept from before, and on other rows with a known tokenizer; the limit is 10 s on 2 cores that
do nothing else, which is why the CPU seconds are printed too. `--without` leaves `tool-calls` out.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.places import DATA

ROWS = 2_111
DEFINITIONS = 7
WORDS = tuple(
    f"{first}{second}"
    for first in ("in", "re", "con", "trans", "per", "sub", "dis", "pro")
    for second in ("voice", "port", "fer", "form", "mit", "duct", "vent", "cess", "ject", "tract")
)
POLICY = """ftcheck: 1
name: tool-rows
extends: [recommended]
jobs:
  j:
    model: {{name: model, tokenizer: {tokenizer}}}
    data: {{train: train.jsonl}}
    training:
      max_length: 4096
      per_device_train_batch_size: 1
      learning_rate: 2.0e-4
      output_dir: out
      lora: {{r: 16, lora_alpha: 32, target_modules: all-linear}}
      assistant_only_loss: true
checks: {{output-schema: false, hub-access: false, memory-fit: false{more}}}
"""


def definition(made: random.Random) -> dict[str, Any]:
    """One function with four to six parameters, each described in a sentence."""
    names = made.sample(WORDS, made.randint(4, 6))
    properties = {
        name: {
            "type": kind,
            "description": " ".join(["The", *made.choices(WORDS, k=9)]) + ".",
            **({"enum": made.sample(WORDS, 3)} if kind == "string" and made.random() < 0.2 else {}),
        }
        for name, kind in zip(
            names, made.choices(["string", "integer", "number", "boolean"], k=6), strict=False
        )
    }
    parameters = {"type": "object", "properties": properties, "required": names[:2]}
    described = " ".join(["Finds", *made.choices(WORDS, k=14)]) + "."
    function = {"name": "_".join(made.sample(WORDS, 3)), "description": described, "parameters": parameters}
    return {"type": "function", "function": function}


def call(tool: dict[str, Any], number: int, made: random.Random) -> dict[str, Any]:
    """A call of a function with all its arguments."""
    values = {
        name: made.choice(schema["enum"])
        if "enum" in schema
        else {
            "string": " ".join(made.choices(WORDS, k=3)),
            "integer": made.randint(1, 9999),
            "number": round(made.random() * 100, 2),
            "boolean": made.random() < 0.5,
        }[schema["type"]]
        for name, schema in tool["function"]["parameters"]["properties"].items()
    }
    function = {"name": tool["function"]["name"], "arguments": values}
    return {"id": f"call{number:05d}", "type": "function", "function": function}


def row(number: int, made: random.Random) -> dict[str, Any]:
    """A question, one or two calls with their results, and an answer."""
    tools = [definition(made) for _ in range(DEFINITIONS)]
    calls = [
        call(tool, 2 * number + n, made) for n, tool in enumerate(made.sample(tools, made.randint(1, 2)))
    ]
    results = [
        {"role": "tool", "tool_call_id": one["id"], "content": json.dumps({"case": made.randint(1, 10**9)})}
        for one in calls
    ]
    turns = [
        {"role": "user", "content": f"Request {number}: " + " ".join(made.choices(WORDS, k=20)) + "?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        *results,
        {"role": "assistant", "content": " ".join(made.choices(WORDS, k=15)) + "."},
    ]
    return {"messages": turns, "tools": tools}


def write(folder: Path, *, without: bool = False) -> Path:
    """The job in a folder; its policy's path."""
    made = random.Random(14)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            file.write(json.dumps(row(number, made)) + "\n")
    tokenizer = DATA / "tokenizers" / "Qwen3"
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(SHAPE), encoding="utf-8")
    more = ", tool-calls: false" if without else ""
    policy = folder / "policy.yaml"
    policy.write_text(POLICY.format(tokenizer=tokenizer, more=more), encoding="utf-8")
    return policy


SHAPE = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}


def main(arguments: list[str]) -> None:
    """Write the rows and run the checks: with nothing kept, then on other rows."""
    with tempfile.TemporaryDirectory(prefix="ftcheck-tools-") as name:
        folder = Path(name)
        policy = write(folder, without="--without" in arguments)
        _timed(policy, "nothing kept")
        with (folder / "train.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row(ROWS, random.Random(15))) + "\n")
        _timed(policy, "other rows, tokenizer known")


def _timed(policy: Path, what: str) -> None:
    """Run the checks and print the time."""
    folder = policy.parent
    report = folder / "report.json"
    command = [sys.executable, "-m", "ftcheck", "run", str(policy), "--offline", "-o", f"json={report}"]
    environment = {**os.environ, "FTCHECK_CACHE": str(folder / "cache")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(command, env=environment, capture_output=True, check=False)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    results = {
        one["rule"]: one["outcome"] for one in json.loads(report.read_text(encoding="utf-8"))["results"]
    }
    size = (folder / "train.jsonl").stat().st_size
    print(
        f"{what}: {size / 1e6:.1f} MB: {seconds:.1f} s on {os.cpu_count()} cores, {used:.1f} s of CPU time"
        f" (tool-calls {results['tool-calls']})"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
