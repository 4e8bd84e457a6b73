"""For each kind of file: how a mutant is written, and which commands and checks then look at it."""

import contextlib
import io
import json
import random
import re
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck.cli import run_command
from ftcheck.errors import FtcheckError
from ftcheck.gate.input_digests import gather
from ftcheck.gate.stored import read_report
from ftcheck.gate.ticket import Reason, Refusal
from ftcheck.inputs.container import Inputs, Run, Store
from ftcheck.inputs.loader import Loader
from ftcheck.ledger import narrowed
from ftcheck.records import Outcome, Result
from ftcheck.runner.load import Loaded, load
from ftcheck.runner.worker import run_check
from tests.mutants import configs
from tests.mutants.mutate import broken_bytes, broken_json, broken_text
from tests.mutants.world import World

BUG = re.compile(r"internal error|Traceback|the rule raised|could not be opened: \w+(Error|Exception|Panic)?")
CODES = {0, 1, 2, 3, 4, 5, 6}
PLACE = re.compile(r"^policy\.yaml:1:1: error: forged", re.MULTILINE)


class Wrong(Exception):
    """What a command or check may never do."""


@dataclass
class Place:
    """Where a worker writes its mutants; `kept` is what it opened once for all of them."""

    world: World
    folder: Path
    kept: dict[str, Any]

    def fresh(self) -> Path:
        """An empty folder."""
        folder = self.folder / "mutant"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def called(*arguments: str) -> tuple[int, str]:
    """A command in this process: its exit code, and all that it printed. Raises `Wrong`."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = int(run_command(list(arguments)))
    said = printed.getvalue()
    if BUG.search(said) or code not in CODES:
        raise Wrong(f"{' '.join(arguments)}: exit {code}: {said[-1500:]}")
    if PLACE.search(said):
        raise Wrong(f"{' '.join(arguments)}: forged a place: {said[-1500:]}")
    return code, said


def looked(policy: Path, given: dict[str, Any] | None = None, names: Sequence[str] | None = None) -> str:
    """Every check of a policy on its job, in this process: their outcomes. Raises `Wrong`."""
    try:
        loaded = load(policy)
    except FtcheckError as error:
        return f"policy refused ({error.code})"
    job = loaded.policy.jobs["job"]
    gather(job, loaded.checks, loaded.during, policy=loaded.policy.path)
    results = _results(loaded, policy.parent / "work", given or {}, names)
    for one in results:
        said = f"{one.reason or ''}\n{one.detail or ''}"
        if one.outcome is Outcome.ERRORED and (one.detail or BUG.search(said)):
            raise Wrong(f"{one.check.id}: {said[-3000:]}")
    return ",".join(sorted({one.outcome.value for one in results}))


def _results(
    loaded: Loaded, folder: Path, given: dict[str, Any], names: Sequence[str] | None
) -> list[Result]:
    loaders = {**loaded.host.loaders, **{name: Loader(name, _giving(value)) for name, value in given.items()}}
    base = {"run": Run(folder, offline=True), "jobs": tuple(loaded.policy.jobs.values())}
    inputs = Inputs(loaders, base, loaded.policy.jobs["job"], Store())
    checks = [one for one in loaded.checks if names is None or one.name in names]
    results = [run_check(loaded.host, check, inputs) for check in checks]
    shutil.rmtree(folder, ignore_errors=True)
    return results


def _giving(value: Any) -> Callable[[], Any]:
    return lambda: value


def policy(place: Place, source: random.Random) -> str:
    """A policy: validated, shown with origins, planned."""
    path = place.fresh() / "policy.yaml"
    path.write_bytes(broken_text(source, place.world.policy.read_text(encoding="utf-8")))
    codes = [
        called("policy", "check", str(path))[0],
        called("policy", "show", str(path), "--origin")[0],
        called("run", str(path), "--collect-only")[0],
    ]
    return f"exit {codes[0]}"


def report(place: Place, source: random.Random) -> str:
    """A report: asked at the gate, and converted to every format. It opens only with the same meaning."""
    world, folder = place.world, place.fresh()
    if "report" not in place.kept:
        place.kept["report"] = json.loads(world.report.read_bytes())
        place.kept["meaning"] = meaning(world.report)
    path = folder / "report.json"
    path.write_bytes(broken_json(source, place.kept["report"]))
    code, _ = called("gate", str(path), "--policy", str(world.policy))
    if code not in (0, 5):
        raise Wrong(f"gate: exit {code}")
    if code == 0 and meaning(path) != place.kept["meaning"]:
        raise Wrong(f"opened: {difference(place.kept['meaning'], meaning(path))}")
    for form in ("junit", "markdown", "github", "sarif", "gitlab", "json"):
        called("report", "convert", str(path), "-o", f"{form}={folder / form}")
        written = folder / form
        if form != "json" and written.exists() and PLACE.search(written.read_text(encoding="utf-8")):
            raise Wrong(f"{form}: forged a place")
    return "open" if code == 0 else "shut"


def meaning(path: Path) -> Any:
    """What the gate goes by in a report: of each check what it is and what came of it, and all digests."""
    found = read_report(path)
    if isinstance(found, Reason):
        return found.code
    return {
        "status": (found.status, found.verdict, found.stage, found.fail_on),
        "policy": (tuple(found.overrides), narrowed(found.selection), sorted(found.removed)),
        "jobs": {name: vars_of(one) for name, one in found.jobs.items()},
        "inputs": {name: one.digest for name, one in found.inputs.items() if name.startswith("job.")},
        "problems": len(found.problems),
        "results": {one.check.id: _of_result(one) for one in found.results},
        "count": len(found.results),
    }


def vars_of(record: Any) -> dict[str, Any]:
    """A record's fields."""
    return {name: getattr(record, name) for name in record.__slots__}


def _of_result(one: Result) -> Any:
    check = one.check
    return (
        (
            check.name,
            check.rule,
            check.job,
            check.stage,
            check.severity,
            json.dumps(dict(check.params)),
            check.plugin,
        ),
        (one.outcome, one.blocking, one.findings_total, bool(one.measurements)),
        [finding.severity for finding in one.findings],
    )


def difference(was: Any, is_now: Any) -> str:
    """Where two meanings part."""
    if not isinstance(was, dict) or not isinstance(is_now, dict):
        return f"{was!r} -> {is_now!r}"
    keys = [key for key in {*was, *is_now} if was.get(key) != is_now.get(key)]
    return "; ".join(f"{key}: {difference(was.get(key), is_now.get(key))}" for key in keys)[:1500]


def rows(place: Place, source: random.Random) -> str:
    """Data rows: .jsonl, .json, .csv, .parquet; all checks of rows, with the tokenizer opened once."""
    folder, suffix = place.fresh(), source.choice((".jsonl", ".jsonl", ".jsonl", ".json", ".csv", ".parquet"))
    path = folder / f"train{suffix}"
    path.write_bytes(_mutated_rows(place.world, source, suffix))
    gold = place.world.gold
    if source.random() < 0.15:
        gold = folder / "gold.json"
        gold.write_bytes(broken_json(source, json.loads(place.world.gold.read_bytes())))
    policy = folder / "policy.yaml"
    policy.write_text(place.world.text(train=path, gold=gold), encoding="utf-8")
    return looked(policy, _opened(place))


def _opened(place: Place) -> dict[str, Any]:
    """The tokenizer, the model's configuration and its weights, opened once."""
    if "opened" not in place.kept:
        loaded = load(place.world.policy)
        base = {"run": Run(place.folder / "work", offline=True), "jobs": tuple(loaded.policy.jobs.values())}
        inputs = Inputs(loaded.host.loaders, base, loaded.policy.jobs["job"], Store())
        place.kept["opened"] = {
            name: inputs.get(name) for name in ("tokenizer", "model", "weights", "packages")
        }
    opened: dict[str, Any] = place.kept["opened"]
    return opened


def _mutated_rows(world: World, source: random.Random, suffix: str) -> bytes:
    lines = world.train.read_text(encoding="utf-8").splitlines()
    values = [json.loads(line) for line in lines]
    if suffix == ".json":
        return broken_json(source, values)
    if suffix == ".jsonl":
        made = [
            broken_json(source, one) if source.random() < 0.3 else line.encode()
            for one, line in zip(values, lines, strict=True)
        ]
        return b"\n".join(made) if source.random() < 0.8 else broken_text(source, "\n".join(lines))
    if suffix == ".csv":
        text = "prompt,completion\n" + "".join(f'"{n}, ask","{one}"\n' for n, one in enumerate("abcdef"))
        return broken_text(source, text)
    return _parquet(source, values)


def _parquet(source: random.Random, values: list[Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = source.random()
    columns: dict[str, Any] = {"messages": [one["messages"] for one in values]}
    count = len(values)
    extra = (
        pa.array(
            [source.randrange(-(2**62), 2**62) for _ in range(count)],
            pa.timestamp(source.choice(["ms", "us", "ns"])),
        ),
        pa.array([b"\xff\0"] * count, pa.binary()),
        pa.array([None] * count),
        pa.array([source.randrange(-(2**31), 2**31 - 1) for _ in range(count)], pa.date32()),
        pa.array([float("nan")] * count),
        pa.array([source.randrange(2**62) for _ in range(count)], pa.duration("us")),
        pa.array([{"a": None}] * count),
    )
    columns[source.choice(("extra", "tools", "prompt", "text"))] = source.choice(extra)
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written)
    return written.getvalue() if kind < 0.6 else broken_bytes(source, written.getvalue())


def tokenizer_config(place: Place, source: random.Random) -> str:
    """tokenizer_config.json (and its chat templates), at times its neighbours: opened as training does."""
    world, folder = place.world, place.fresh()
    model = folder / "model"
    shutil.copytree(world.model, model)
    name = source.choice(
        ("tokenizer_config.json",) * 6 + ("tokenizer.json", "config.json", "generation_config.json")
    )
    value = json.loads((world.model / name).read_bytes())
    if name == "tokenizer_config.json" and source.random() < 0.4:
        value["chat_template"] = [
            {"name": "default", "template": "{{ messages }}"},
            {"name": "tool_use", "template": "x"},
        ]
        (model / "chat_template.jinja").unlink(missing_ok=True)
    (model / name).write_bytes(broken_json(source, value))
    policy = folder / "policy.yaml"
    text = world.text(model=model)
    if source.random() < 0.5:
        text = text.replace(f", chat_template: {world.model / 'chat_template.jinja'}", "")
    policy.write_text(text, encoding="utf-8")
    return looked(
        policy, names=("data-readable", "trained-tokens", "chat-template", "special-tokens", "vocabulary")
    )


def template(place: Place, source: random.Random) -> str:
    """A chat template: rendered on the rows, within its bounds."""
    world, folder = place.world, place.fresh()
    path = folder / "template.jinja"
    path.write_bytes(broken_text(source, (world.model / "chat_template.jinja").read_text(encoding="utf-8")))
    policy = folder / "policy.yaml"
    policy.write_text(world.text(template=path), encoding="utf-8")
    names = ("data-readable", "trained-tokens", "chat-template", "special-tokens", "percentile-seq-len")
    return looked(policy, names=names)


def safetensors(place: Place, source: random.Random) -> str:
    """The header of the model's weights, at times an index: digested, and read for the tables."""
    world, folder = place.world, place.fresh()
    model = folder / "model"
    shutil.copytree(world.model, model)
    file = model / "model.safetensors"
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    kind = source.random()
    if kind < 0.75:
        made = broken_json(source, header)
        size = len(made) if source.random() < 0.9 else source.choice((0, 2**63, len(made) * 2, 2**32))
        file.write_bytes(struct.pack("<Q", size) + made + content[8 + length :])
    elif kind < 0.85:
        file.write_bytes(broken_bytes(source, content[: 8 + length]))
    else:
        file.rename(model / "model-00001-of-00001.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(header, "model-00001-of-00001.safetensors")}
        (model / "model.safetensors.index.json").write_bytes(broken_json(source, index))
    policy = folder / "policy.yaml"
    policy.write_text(world.text(model=model), encoding="utf-8")
    opened = {name: value for name, value in _opened(place).items() if name != "weights"}
    return looked(policy, opened, names=("vocabulary",))


def run_folder(place: Place, source: random.Random) -> str:
    """A run folder: monitored, asked whether it can be resumed, and its checkpoints looked at."""
    from ftcheck.gate.stored import check_resumed
    from ftcheck.inputs.run_folder import checkpoint_step

    world, folder = place.world, place.fresh()
    run = folder / "run"
    shutil.copytree(world.run, run)
    name = source.choice(
        ("run.json",) * 4
        + ("metrics.jsonl",) * 3
        + ("checkpoint-2/trainer_state.json", "checkpoint-2/files.json", "adapter_config.json")
    )
    if name.endswith("jsonl"):
        (run / name).write_bytes(broken_text(source, (world.run / name).read_text(encoding="utf-8")))
    else:
        (run / name).write_bytes(broken_json(source, json.loads((world.run / name).read_bytes())))
    code, _ = called("monitor", str(run), "--once")
    called("monitor", str(run), "--once", "--json")
    checkpoint_step(run / "checkpoint-2")
    loaded = place.kept.setdefault("policy", load(world.policy))
    decision = check_resumed(run, loaded.policy, loaded.checks, "job")
    if not isinstance(decision, Refusal):
        raise Wrong("a made-up run may be resumed")
    return f"exit {code}"


def lock(place: Place, source: random.Random) -> str:
    """The lock beside a policy: digested, read by the checks that hold it against today."""
    world, folder = place.world, place.fresh()
    policy = folder / "policy.yaml"
    policy.write_text(
        world.text(checks=("data-readable", "tokenizer-parity", "template-parity")), encoding="utf-8"
    )
    if "lock" not in place.kept:
        called("lock", str(policy), "--offline")
        place.kept["lock"] = json.loads((folder / "policy.yaml.lock").read_bytes())
    (folder / "policy.yaml.lock").write_bytes(broken_json(source, place.kept["lock"]))
    return looked(policy, _opened(place))


def config(place: Place, source: random.Random) -> str:
    """Another framework's configuration: a policy is made for it, read, and its checks are planned."""
    folder = place.fresh()
    name, content, datasets = configs.mutant(source)
    (folder / name).write_bytes(content)
    (folder / "data").mkdir()
    if datasets is not None:
        (folder / "data" / "dataset_info.json").write_bytes(datasets)
    with contextlib.chdir(folder):
        codes = [_imported(name, *more) for more in ((), ("--expand",))]
        codes.append(_said("check", name, "--collect-only", "--offline"))
    return f"exit {codes[0]}"


def _imported(name: str, *more: str) -> int:
    """The code of `init`, whose policy can be read if there is one."""
    code = _said("init", name, *more)
    if code == 0:
        called("policy", "check", "ftcheck.yaml")
        called("policy", "show", "ftcheck.yaml", "--origin")
    for written in ("ftcheck.yaml", "chat_template.jinja"):
        Path(written).unlink(missing_ok=True)
    return code


def _said(*arguments: str) -> int:
    """The code of a command, which may be a user's mistake and then is said. Raises `Wrong`."""
    code, said = called(*arguments)
    if code not in (0, 2) or not said.strip():
        raise Wrong(f"{' '.join(arguments)}: exit {code}: {said[-1500:]}")
    return code


KINDS: dict[str, Callable[[Place, random.Random], str]] = {
    "policy": policy,
    "config": config,
    "report": report,
    "rows": rows,
    "tokenizer_config": tokenizer_config,
    "template": template,
    "safetensors": safetensors,
    "run_folder": run_folder,
    "lock": lock,
}
