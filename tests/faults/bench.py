"""A small job in a folder, whole and clean, that a fault breaks; and the recommended checks run on it."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

from ruamel.yaml import YAML

from ftcheck import testing
from ftcheck.inputs.container import Inputs, Run, Store
from ftcheck.inputs.loader import Loader
from ftcheck.inputs.machine import Machine, Packages
from ftcheck.ledger import judge
from ftcheck.records import Finding, Result, Severity
from ftcheck.runner.load import load
from ftcheck.runner.worker import run_check
from tests.places import CHECKOUT

SAMPLES = CHECKOUT / "policies" / "samples"
JOB = "job"
ROWS = 80
INSTALLED = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "datasets": "5.2.0",
    "ftcheck": "0.1.0",
    "numpy": "2.4.0",
    "peft": "0.21.2",
    "pyarrow": "22.0.0",
    "tokenizers": "0.23.3",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
}
GIB = 1 << 30

Row = dict[str, Any]


@cache
def _lines(path: str) -> tuple[str, ...]:
    return tuple((SAMPLES / path).read_text(encoding="utf-8").splitlines())


def rows_of(path: str, start: int = 0, stop: int | None = None) -> list[Row]:
    """Some rows of a sample data set."""
    return [json.loads(line) for line in _lines(path)[start:stop]]


@dataclass
class Bench:
    """A clean job, to be broken: change any part of it, then `look`."""

    folder: Path
    policy: dict[str, Any] = field(default_factory=dict)
    train: list[Row] = field(default_factory=list)
    evaluation: list[Row] = field(default_factory=list)
    gold: list[Row] = field(default_factory=list)
    template: str | None = None
    tokenizer: dict[str, Any] = field(default_factory=dict)
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] | None = field(default_factory=dict)
    packages: dict[str, str | None] = field(default_factory=lambda: dict(INSTALLED))
    machine: Machine = field(default_factory=lambda: Machine("Linux", 16, 128 * GIB))
    environment: dict[str, Any] = field(default_factory=dict)
    repository: dict[str, Any] | None = None
    opened: dict[str, Any] = field(default_factory=dict)
    patches: list[Any] = field(default_factory=list)
    after: list[Callable[["Bench"], None]] = field(default_factory=list)

    @property
    def job(self) -> dict[str, Any]:
        """The job's section of the policy."""
        section: dict[str, Any] = self.policy["jobs"][JOB]
        return section

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.folder / "model"

    @property
    def path(self) -> Path:
        """The policy's file."""
        return self.folder / "policy.yaml"

    def set(self, key: str, value: Any) -> None:
        """Set `training.max_length` (say) of the job."""
        *sections, last = key.split(".")
        section = self.job
        for one in sections:
            section = section.setdefault(one, {})
        section[last] = value

    def drop(self, key: str) -> None:
        """Take a setting out of the job."""
        *sections, last = key.split(".")
        section = self.job
        for one in sections:
            section = section[one]
        del section[last]

    def file(self, name: str, text: str | bytes) -> Path:
        """A file beside the policy."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
        return path

    def then(self, action: Callable[["Bench"], None]) -> None:
        """Do something once the files are written (a file that JSON cannot hold, a lock, a broken byte)."""
        self.after.append(action)

    def patch(self, target: str, value: Any) -> None:
        """Let a function of the machine (`shutil.disk_usage`) say something else while the checks run."""
        self.patches.append((target, value))

    def write(self) -> None:
        """Write the policy, the data and the model's files."""
        self.model.mkdir(parents=True, exist_ok=True)
        for name, rows in (("train.jsonl", self.train), ("eval.jsonl", self.evaluation)):
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            self.file(name, "".join(line + "\n" for line in lines))
        self.file("golden.json", json.dumps(self.gold, ensure_ascii=False, indent=1))
        for name, value in (
            ("tokenizer.json", self.tokenizer),
            ("tokenizer_config.json", self.tokenizer_config),
            ("config.json", self.config),
            ("generation_config.json", self.generation),
        ):
            if value is not None:
                self.file(f"model/{name}", json.dumps(value, ensure_ascii=False))
        if self.template is not None:
            self.file("model/chat_template.jinja", self.template)
        with self.path.open("w", encoding="utf-8") as file:
            YAML().dump(self.policy, file)
        for action in self.after:
            action(self)
        self.after.clear()

    def look(self, overrides: Sequence[str] = ()) -> "Looked":
        """Run every check of the policy, in this process, with this machine as the bench says it is."""
        started = time.monotonic()
        loaded = load(self.path, overrides)
        loaders = {**loaded.host.loaders, **self._given(loaded.host.loaders)}
        folder = self.folder / f"work-{time.monotonic_ns()}"
        base = {"run": Run(folder, offline=True), "jobs": tuple(loaded.policy.jobs.values())}
        shared = Store()
        jobs = {name: Inputs(loaders, base, job, shared) for name, job in loaded.policy.jobs.items()}
        host = Inputs(loaders, base, None, shared)
        with self._patched():
            results = [
                judge(
                    run_check(loaded.host, check, jobs[check.job] if check.job else host),
                    loaded.policy.gate.fail_on,
                )
                for check in loaded.checks
            ]
        shutil.rmtree(folder, ignore_errors=True)
        return Looked(tuple(results), time.monotonic() - started, jobs[JOB])

    def _given(self, loaders: Mapping[str, Loader]) -> dict[str, Loader]:
        """Loaders that tell of the bench's machine and not of this one."""
        made: dict[str, Callable[[], Any]] = {
            "machine": lambda: self.machine,
            "packages": lambda: Packages("3.11.7", self.packages),
        }
        for name, value in self.opened.items():
            made[name] = partial(_same, value)
        for name, stated in (("environment", self.environment), ("repository", self.repository)):
            if name in loaders and stated is not None:
                made[name] = partial(getattr(testing, name), **stated)
        return {name: Loader(name, open_) for name, open_ in made.items()}

    @contextmanager
    def _patched(self) -> Any:
        with ExitStack() as stack:
            for target, value in self.patches:
                stack.enter_context(mock.patch(target, value))
            yield


@dataclass(frozen=True)
class Looked:
    """What the checks of a bench said."""

    results: tuple[Result, ...]
    seconds: float
    inputs: Inputs

    @property
    def loud(self) -> tuple[Result, ...]:
        """Checks that found something above `info`, or broke, in planned order."""
        return tuple(
            one
            for one in self.results
            if one.outcome in ("errored", "timeout")
            or any(f.severity is not Severity.INFO for f in one.findings)
        )

    def of(self, rule: str) -> Result | None:
        """The result of a rule's check."""
        return next((one for one in self.results if one.check.rule == rule), None)

    def said(self) -> str:
        """Everything above `info`, one line each, for a failed assertion."""
        lines = []
        for one in self.loud:
            lines.append(f"{one.check.name}: {one.outcome} {one.reason or ''}")
            lines += [f"    {f.severity} {place(f)}: {f.message} [{f.fix}]" for f in one.findings[:3]]
        return "\n".join(lines) or "nothing above info"


def place(finding: Finding) -> str:
    """Where a finding points, as the list of faults says it: `train.jsonl:3`, `training.max_length`."""
    at = finding.at
    if at is None:
        return ""
    if at.yaml_path is not None:
        return at.yaml_path.removeprefix(f"jobs.{JOB}.")
    name = Path(at.path).name if at.path else ""
    return f"{name}:{at.line}" if at.line is not None else name


def chat(folder: Path) -> Bench:
    """Conversations with a system prompt, packed, assistant tokens in the loss, 4-bit LoRA."""
    model = SAMPLES / "models" / "mapper-tiny"
    bench = Bench(
        folder,
        policy={
            "ftcheck": 1,
            "name": "bench",
            "stage": "before",
            "extends": ["recommended"],
            "jobs": {JOB: _job()},
        },
        train=rows_of("mapper/train.jsonl", 0, ROWS),
        evaluation=rows_of("mapper/eval.jsonl", 0, 60),
        gold=json.loads((SAMPLES / "mapper/golden.json").read_text(encoding="utf-8"))[:100],
        template=(model / "chat_template.jinja").read_text(encoding="utf-8"),
        tokenizer=_json(model / "tokenizer.json"),
        tokenizer_config=_json(model / "tokenizer_config.json"),
        config=_json(model / "config.json"),
        generation=_json(model / "generation_config.json"),
    )
    bench.model.mkdir(parents=True, exist_ok=True)
    shutil.copy(model / "model.safetensors", bench.model / "model.safetensors")
    bench.file("output_schema.json", (SAMPLES / "mapper/output_schema.json").read_bytes())
    return bench


def _same(value: Any) -> Any:
    return value


def _json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _job() -> dict[str, Any]:
    return {
        "model": {"name": "model"},
        "data": {
            "train": "train.jsonl",
            "eval": "eval.jsonl",
            "gold": {"path": "golden.json", "input": "input", "expected": "expected"},
        },
        "training": {
            "max_length": 320,
            "packing": True,
            "per_device_train_batch_size": 1,
            "per_device_eval_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "learning_rate": 2.0e-4,
            "num_train_epochs": 2,
            "assistant_only_loss": True,
            "save_total_limit": 1,
            "output_dir": "out",
            "lora": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
            "quantization": {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_compute_dtype": "bfloat16",
            },
        },
        "serving": {
            "system_prompt": "Map the help-desk request to one line of JSON: intent, team, urgency, device.",
            "max_input_tokens": 512,
            "max_new_tokens": 64,
            "over_limit": "rules",
            "log": "token-counts",
            "output_schema": "output_schema.json",
            "schema_retries": 1,
        },
    }


def completion(folder: Path) -> Bench:
    """Prompts and completions as plain text: no chat template is applied."""
    bench = chat(folder)
    bench.drop("training.assistant_only_loss")
    bench.set("training.completion_only_loss", True)
    bench.drop("serving.system_prompt")
    bench.drop("serving.output_schema")
    bench.drop("serving.schema_retries")
    bench.train = [_as_completion(row) for row in bench.train]
    bench.evaluation = [_as_completion(row) for row in bench.evaluation]
    return bench


def _as_completion(row: Row) -> Row:
    _, asked, answer = (turn["content"] for turn in row["messages"])
    return {"prompt": f"Request: {asked}\nJSON:\n", "completion": answer}


def text(folder: Path) -> Bench:
    """Plain text, all of it in the loss."""
    bench = completion(folder)
    bench.drop("training.completion_only_loss")
    bench.train = [{"text": one["prompt"] + one["completion"]} for one in bench.train]
    bench.evaluation = [{"text": one["prompt"] + one["completion"]} for one in bench.evaluation]
    return bench


CALLS = """
{{- bos_token }}
{%- if tools %}{{- '<|start_header_id|>system<|end_header_id|>\\n\\nTools:\\n' }}
{%- for tool in tools %}{{- tool | tojson + '\\n' }}{% endfor %}{{- '<|eot_id|>' }}{% endif %}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}
{%- if message['role'] == 'assistant' -%}
{% generation %}
{%- if message.reasoning_content -%}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n' -}}
{%- endif -%}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
{{- '{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}' -}}
{%- endfor -%}
{%- else -%}{{- message['content'] | trim -}}{%- endif -%}
{{- '<|eot_id|>' -}}{% endgeneration %}
{%- else -%}{{- message['content'] | trim + '<|eot_id|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
"""
"""A template with tools and reasoning; it keeps both."""

TOOL = {
    "type": "function",
    "function": {
        "name": "route",
        "description": "Sends a request to a team.",
        "parameters": {
            "type": "object",
            "properties": {"team": {"type": "string"}, "urgency": {"type": "string"}},
        },
    },
}


def tools(folder: Path) -> Bench:
    """Conversations in which the assistant calls a tool."""
    bench = chat(folder)
    bench.template = CALLS
    bench.drop("serving.output_schema")
    bench.drop("serving.schema_retries")
    bench.drop("data.gold")
    bench.train = [_with_call(row) for row in bench.train]
    bench.evaluation = [_with_call(row) for row in bench.evaluation]
    bench.set("training.max_length", 512)
    return bench


def _with_call(row: Row) -> Row:
    system, asked, answer = row["messages"]
    found = json.loads(answer["content"])
    arguments = {"team": found["team"], "urgency": found["urgency"]}
    call = {"type": "function", "function": {"name": "route", "arguments": arguments}}
    turns = [system, asked, {"role": "assistant", "content": "", "tool_calls": [call]}]
    return {"messages": turns, "tools": [TOOL]}


XML_CALLS = CALLS.replace(
    '{{- \'{"name": "\' + call.function.name + \'", "arguments": \''
    " + (call.function.arguments | tojson) + '}' -}}",
    "{{- '<function=' + call.function.name + '>' -}}"
    "{%- for name, value in call.function.arguments | items -%}"
    "{{- '<parameter=' + name + '>' ~ value ~ '</parameter>' -}}"
    "{%- endfor -%}{{- '</function>' -}}",
)
"""Another one, which writes calls as XML."""


def tool_turns(folder: Path) -> Bench:
    """Conversations in which the assistant calls a tool, reads the result, and answers."""
    bench = tools(folder)
    bench.template = XML_CALLS
    bench.set("training.max_length", 640)
    bench.train = [_with_result(row, number) for number, row in enumerate(bench.train)]
    bench.evaluation = [_with_result(row, 500 + number) for number, row in enumerate(bench.evaluation)]
    return bench


def _with_result(row: Row, number: int) -> Row:
    turns = [
        {"role": "tool", "content": json.dumps({"case": 11000 + number})},
        {"role": "assistant", "content": f"Case {11000 + number} is open."},
    ]
    return {**row, "messages": [*row["messages"], *turns]}


def thinking(folder: Path) -> Bench:
    """Conversations of two rounds whose answers begin with reasoning."""
    bench = chat(folder)
    bench.template = CALLS
    bench.drop("serving.output_schema")
    bench.drop("serving.schema_retries")
    bench.drop("data.gold")
    bench.set("training.max_length", 640)
    bench.set("serving.max_new_tokens", 256)
    bench.train = [_reasoned(one, other) for one, other in _pairs(rows_of("mapper/train.jsonl", 0, 2 * ROWS))]
    bench.evaluation = [_reasoned(one, other) for one, other in _pairs(bench.evaluation)]
    return bench


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    return list(zip(rows[::2], rows[1::2], strict=True))


def _reasoned(one: Row, other: Row) -> Row:
    turns = [dict(turn) for turn in (*one["messages"], *other["messages"][1:])]
    for turn in turns:
        if turn["role"] == "assistant":
            team = json.loads(turn["content"])["team"]
            turn["reasoning_content"] = f"The words point to the team {team}."
    return {"messages": turns}


BASES: Mapping[str, Callable[[Path], Bench]] = {
    "chat": chat,
    "completion": completion,
    "text": text,
    "tools": tools,
    "tool-turns": tool_turns,
    "thinking": thinking,
}
"""The clean jobs that faults are planted in."""


def variant(base: str, folder: Path, **changes: Any) -> Bench:
    """A base with other fields."""
    return replace(BASES[base](folder), **changes)
