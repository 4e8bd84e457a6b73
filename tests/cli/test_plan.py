"""`ftcheck plan` on the shipped samples and on what goes wrong."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ftcheck.planning import JobPlan
from tests.cli.project import Project, Ran


def policy(samples: Path, training: str = "max_length: 512, packing: true", more: str = "") -> str:
    return (
        "ftcheck: 1\nname: small\njobs:\n  mapper:\n"
        f"    model: {{name: {samples}/models/mapper-tiny}}\n"
        f"    data: {{train: {samples}/mapper/train.jsonl}}\n"
        f"    training: {{{training}, lora: {{r: 16}}, bf16: true}}\n"
        f"{more}"
    )


@pytest.fixture
def small(project: Project, samples: Path) -> Project:
    project.write("policy.yaml", policy(samples))
    return project


def planned(project: Project, *arguments: str) -> Ran:
    return project.call("plan", "policy.yaml", "--offline", "-o", "json=r.json", *arguments)


def test_the_page_has_a_line_for_each_answer(small: Project) -> None:
    ran = planned(small)

    assert ran.code == 0, ran.err
    for label in ("lengths", "packing", "step", "memory", "time", "disk", "better"):
        assert re.search(rf"^{label} ", ran.out, re.MULTILINE), f"{label}\n{ran.out}"
    assert "p50 97 · p95 111 · p99 118 · max 128" in ran.out


def test_the_json_holds_the_numbers_of_the_rules(small: Project) -> None:
    small.write(
        "policy.yaml",
        (small.folder / "policy.yaml").read_text(encoding="utf-8")
        + "checks: {percentile-seq-len: {}, packing-efficiency: {}, tokens-per-step: {}}\n",
    )
    lengths = planned(small).report["jobs"]["mapper"]
    ran = small.call("run", "policy.yaml", "-o", "json=r.json")

    measured = {
        one["name"]: one["value"] for result in ran.report["results"] for one in result["measurements"]
    }
    assert lengths["lengths"]["rows"] == measured["rows"]
    assert lengths["lengths"]["tokens"] == measured["tokens"]
    assert lengths["lengths"]["percentiles"]["p95"] == measured["p95"]
    assert lengths["lengths"]["max"] == measured["max"]
    assert lengths["packing"]["planned"] == measured["blocks_planned"]
    assert lengths["packing"]["trl"] == measured["blocks_trl"]
    assert lengths["step"]["nominal"] == measured["tokens_per_step"]


def test_the_same_inputs_give_the_same_json(small: Project) -> None:
    assert planned(small).report == planned(small).report


def test_the_histogram_in_the_json_adds_up(small: Project) -> None:
    masked = "--set", "jobs.mapper.training.assistant_only_loss=true"
    lengths = planned(small, *masked).report["jobs"]["mapper"]["lengths"]

    for part in ("total", "prompt", "completion"):
        assert sum(count for _, count in lengths[part]) == lengths["rows"]
    assert sum(tokens * count for tokens, count in lengths["total"]) == lengths["tokens"]
    assert sum(count for _, count in lengths["trained"]["positions"]) == lengths["trained_tokens"]


def test_whose_words_the_tokens_are_is_told_by_role_and_the_rest_with_verbose(small: Project) -> None:
    quiet, verbose = planned(small), planned(small, "-v", "-o", "markdown=p.md")

    found = verbose.report["jobs"]["mapper"]["role_tokens"]
    said = "".join(rf"{one['name']} {one['p50']} \(.*?\) · " for one in found["roles"])
    each = round(found["template"]["tokens"] / found["rows"])
    assert [one["name"] for one in found["roles"]] == ["system", "user", "assistant"]
    assert re.search(rf"^by role   {said}template {each} per row", quiet.out, re.MULTILINE), quiet.out
    assert "by turn" not in quiet.out
    assert f"3rd: 1,500 messages · p50 {found['turns'][2]['p50']} · " in verbose.out
    assert "| by turn | 1st: 1,500 messages" in (small.folder / "p.md").read_text(encoding="utf-8")
    assert re.search(r"of other trainers: axolotl [\d,]+ \([\d.]+ %\) · LLaMA-Factory [\d,]+ ", verbose.out)


def test_words_add_up_to_the_rows_and_other_trainers_packing_is_told(
    small: Project,
) -> None:
    job = planned(small).report["jobs"]["mapper"]
    found, lengths = job["role_tokens"], job["lengths"]

    assert (found["rows"], found["total"], found["tokens"]) == (1500, 1500, lengths["tokens"])
    for kind in ("roles", "turns"):
        words = sum(one["tokens"] for one in found[kind])
        assert words + found["template"]["tokens"] == lengths["tokens"]
        assert sum(one["messages"] for one in found[kind]) == found["messages"] == 4500
        for one in found[kind]:
            assert sum(count for _, count in one["counts"]) == one["messages"]
            assert sum(tokens * count for tokens, count in one["counts"]) == one["tokens"]
    shares = sum(one["share"] for one in found["roles"]) + found["template"]["share"]
    assert shares == pytest.approx(1, abs=1e-5)
    packing = job["packing"]
    assert [one["trainer"] for one in packing["others"]] == ["axolotl", "LLaMA-Factory"]
    for one in packing["others"]:
        assert (one["sequences"], one["total"]) == (1500, 1500)
        assert one["blocks"] >= packing["planned"]
        assert one["fill"] == pytest.approx(packing["tokens"] / one["blocks"] / 512, abs=1e-4)


def test_rows_of_many_messages_show_their_turns_and_plain_text_has_neither(
    project: Project, samples: Path
) -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"words {n}"} for n in range(10)]
    project.write("rows.jsonl", "\n".join([json.dumps({"messages": turns})] * 20) + "\n")
    project.write("texts.jsonl", "\n".join([json.dumps({"text": "once upon a time"})] * 20) + "\n")
    stated = policy(samples)
    first = stated.replace(f"{samples}/mapper/train.jsonl", "rows.jsonl")
    second = first[first.index("  mapper:") :].replace("mapper:", "texts:", 1).replace("rows.", "texts.")
    project.write("policy.yaml", first + second)

    ran = planned(project)

    assert len(re.findall("^by role", ran.out, re.MULTILINE)) == 1
    assert re.search(r"^by turn   1st \d+ \(.* · 8th \d+ \(\d+ %\) · later \d+", ran.out, re.MULTILINE)
    assert ran.report["jobs"]["texts"]["role_tokens"] is None
    assert ran.report["jobs"]["texts"]["role_tokens_problem"] == ""


def test_a_missed_target_is_told_with_what_to_change(small: Project, samples: Path) -> None:
    stated = "max_length: 768, packing: true, per_device_train_batch_size: 4, gradient_accumulation_steps: 8"
    target = "    targets: {tokens_per_step: [32768, 65536]}\n"
    small.write("policy.yaml", policy(samples, stated, target))

    ran = planned(small)

    assert "tokens_per_step 32,768 to 65,536 does not hold: 4 x 8 x 768 = 24,576" in ran.out
    assert "gradient_accumulation_steps: 8 -> 16 (49,152 tokens per step)" in ran.out
    assert re.search(
        r"^write it  ftcheck fix policy.yaml --job mapper --unsafe --diff", ran.out, re.MULTILINE
    )


def test_what_an_estimate_assumes_is_told_with_verbose_only(small: Project, samples: Path) -> None:
    more = "    hardware: {gpu: RTX 4090, price_per_hour: 0.4}\n"
    small.write("policy.yaml", policy(samples, more=more))

    quiet, verbose = planned(small), planned(small, "-v")

    assert "assumes" not in quiet.out
    assert verbose.out.count("assumes") > 2
    assert re.search(r"^cost|cost [\d.]+ \([\d.]+ to [\d.]+\)", quiet.out, re.MULTILINE)


def test_an_unknown_gpu_and_architecture_are_no_confident_guess(small: Project, samples: Path) -> None:
    small.write("policy.yaml", policy(samples, more="    hardware: {gpu: Quantum 9}\n"))

    ran = planned(small)

    assert "time      unknown speed: Quantum 9 is not in" in ran.out
    assert ran.report["jobs"]["mapper"]["time"]["likely"] is None


class _Page(HTMLParser):
    """Counts the tags of a page, and notes whether any is closed that was not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markdown_and_html_hold_the_page(small: Project) -> None:
    ran = planned(small, "-o", "markdown=p.md", "-o", "html=p.html")

    assert ran.code == 0
    markdown = (small.folder / "p.md").read_text(encoding="utf-8")
    assert "| packing |" in markdown
    assert "p95 111" in markdown
    page = _Page()
    page.feed((small.folder / "p.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert {"svg", "rect", "line", "table"} <= page.seen
    assert "p95 111" in page.text


def test_a_report_on_stdout_is_not_mixed_with_the_page(small: Project) -> None:
    ran = small.call("plan", "policy.yaml", "--offline", "-o", "json")

    assert json.loads(ran.out)["schema"] == "ftcheck.plan/1"
    assert "lengths" in ran.err


def test_the_configuration_is_written_with_the_numbers_that_justify_it(small: Project) -> None:
    ran = planned(small, "--write", "optimized_training_config.json")

    path = small.folder / "optimized_training_config.json"
    job = json.loads(path.read_text(encoding="utf-8"))["jobs"]["mapper"]
    assert ran.code == 0
    assert job["training"]["max_length"] == job["numbers"]["chosen"]["length"]
    assert job["training"]["lora"]["r"] == 16
    assert str(small.folder) not in path.read_text(encoding="utf-8")
    assert (path.parent / job["model"]["name"]).is_dir()
    assert job["numbers"]["tokens"] == ran.report["jobs"]["mapper"]["lengths"]["tokens"]


def test_plots_are_drawn_as_png_and_svg_and_are_the_same_each_time(small: Project) -> None:
    pytest.importorskip("matplotlib")
    planned(small, "--plots", "one")
    planned(small, "--plots", "two")

    names = sorted(path.name for path in (small.folder / "one").iterdir())
    assert names == sorted(
        f"mapper-{plot}.{kind}" for plot in ("lengths", "cumulative", "truncation") for kind in ("png", "svg")
    )
    for name in names:
        first, second = (small.folder / folder / name for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
    assert (small.folder / "one" / "mapper-lengths.png").read_bytes().startswith(b"\x89PNG")


def test_data_that_cannot_be_read_is_exit_3_with_the_reason_and_the_others_are_planned(
    small: Project,
) -> None:
    text = (small.folder / "policy.yaml").read_text(encoding="utf-8")
    small.write("policy.yaml", text + "  other: {model: {name: ./none}, data: {train: gone.jsonl}}\n")

    ran = planned(small)

    assert ran.code == 3
    assert "other · no plan" in ran.out
    assert re.search(r"policy\.yaml:8:\d+: ", ran.out)
    assert re.search(r"^packing ", ran.out, re.MULTILINE)
    assert "reason" in ran.report["jobs"]["other"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--job", "nobody"), "no job 'nobody'"),
        (("-o", "pdf=x"), "no such report format"),
        (("--write", "gone/config.json"), "folder does not exist"),
        (("--set", "jobs.mapper.training.max_length=many"), "max_length"),
        (("--max-lost", "200"), "range"),
    ],
)
def test_bad_arguments_are_exit_2_and_said_in_a_line(
    small: Project, arguments: tuple[str, ...], said: str
) -> None:
    ran = small.call("plan", "policy.yaml", "--offline", *arguments)

    assert ran.code == 2
    assert said in ran.err
    assert not (small.folder / "config.json").exists()


def test_no_row_text_is_in_any_output(project: Project, samples: Path) -> None:
    canary = "xylophonequartz"
    turns = [{"role": "user", "content": f"{canary} please"}, {"role": "assistant", "content": canary}]
    project.write("rows.jsonl", "\n".join([json.dumps({"messages": turns})] * 40 + ['{"' + canary]) + "\n")
    project.write("policy.yaml", policy(samples).replace(f"{samples}/mapper/train.jsonl", "rows.jsonl"))

    ran = planned(project, "-o", "markdown=p.md", "-o", "html=p.html", "-v")

    assert ran.code == 0, ran.err
    for name in ("r.json", "p.md", "p.html"):
        assert canary not in (project.folder / name).read_text(encoding="utf-8")
    assert canary not in ran.out + ran.err
    assert "1 row cannot be prepared" in ran.out


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_a_terminal_gets_no_line_wider_than_it_is_and_no_broken_place(
    small: Project, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from ftcheck.cli.pages.plan_page import show
    from ftcheck.cli.pages.screen import Screen

    monkeypatch.delenv("CI", raising=False)  # a log in CI is not a terminal: nothing is wrapped there
    plan = _plan_of(small)
    console = Console(width=columns, force_terminal=True, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        show(plan, Screen(console), verbose=True, fix="ftcheck fix policy.yaml --diff")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", captured.get()).splitlines()
    places = [line for line in lines if "train.jsonl" in line]

    assert all(re.search(r"train\.jsonl:\d+:1", line) for line in places)
    whole = [line for line in lines if str(small.folder) in line]  # a path is never broken
    assert all(len(line) <= columns for line in lines if line not in (*places, *whole))


def _plan_of(small: Project) -> JobPlan:
    from ftcheck.inputs.container import Inputs, Run
    from ftcheck.planning import plan
    from ftcheck.runner.load import load

    loaded = load(str(small.folder / "policy.yaml"))
    job = loaded.policy.jobs["mapper"]
    run = Run(folder=small.folder / "work", offline=True)
    return plan(job, Inputs(loaded.host.loaders, {"run": run, "jobs": (job,)}, job))


@pytest.mark.train
def test_a_probe_takes_the_place_of_the_estimates(small: Project) -> None:
    """Real steps on this machine, which has no GPU: hours that no table could tell, and no memory."""
    blind = planned(small).report["jobs"]["mapper"]
    page = planned(small, "--probe")
    probed = page.report["jobs"]["mapper"]

    assert blind["time"]["likely"] is None
    assert 0 < probed["time"]["low"] < probed["time"]["likely"] < probed["time"]["high"]
    assert any("the tokens per second were measured" in one for one in probed["time"]["assumes"])
    assert probed["probe"].startswith("3 steps on CPU, ")
    assert probed["memory"] == blind["memory"]
    assert re.search(r"^probe +3 steps on CPU, ", page.out, re.MULTILINE)
    assert "on this CPU" in page.out
    assert not list(small.folder.rglob("checkpoint-*"))


def test_a_probe_for_a_gpu_that_is_not_here_is_refused(small: Project, samples: Path) -> None:
    small.write("policy.yaml", policy(samples, more="    hardware: {gpu: H100}\n"))
    ran = planned(small, "--probe")

    assert ran.code == 2
    assert "job mapper is planned for H100, and this machine has no NVIDIA GPU" in ran.err


def test_a_trainer_that_cannot_be_probed_is_named(small: Project, samples: Path) -> None:
    trainer = "    trainer: {use: command, argv: [python, train.py], files: [policy.yaml]}\n"
    small.write("policy.yaml", policy(samples, more=trainer))
    ran = planned(small, "--probe")

    assert ran.code == 2
    assert "the trainer 'command' of job mapper does not support single steps" in ran.err
