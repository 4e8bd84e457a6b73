"""What nobody knows of a job's memory: architecture, card, program. `run` and `plan` are wider or say
`unknown`, and where a lower bound is above the card's memory, both say that it does not fit."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.project import Project, Ran

pytest.importorskip("torch")
pytest.importorskip("transformers")

CARD = "{gpu: A100 80GB}"
COMMAND = "{use: command, argv: [python, train.py], files: [policy.yaml]}"
BILLION = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
}
"""Llama 3.2 1B's."""
NEAR = 2.5
"""GiB, near to what it needs, so that a step is replayed."""
MOE: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_experts": 128,
    "moe_intermediate_size": 768,
}
"""Qwen3-30B-A3B: its fused experts are 54.0 GiB, which bitsandbytes does not quantise."""


class Jobs:
    """Jobs on the shipped model and rows, with one thing changed in each."""

    def __init__(self, project: Project, samples: Path) -> None:
        self.project, self.samples = project, samples

    def model(self, **config: Any) -> str:
        """A copy of the shipped model with another config.json."""
        folder = self.project.folder / "model"
        if not folder.exists():
            shutil.copytree(self.samples / "models" / "mapper-tiny", folder)
            (folder / "model.safetensors").unlink()
        path = folder / "config.json"
        made = {**json.loads(path.read_text(encoding="utf-8")), **BILLION, **config}
        path.write_text(json.dumps(made), encoding="utf-8")
        return "./model"

    def write(
        self, *, hardware: str = CARD, trainer: str = "{use: qlora}", memory: float = NEAR, **config: Any
    ) -> None:
        """A policy with the check memory-fit; `memory` is targets.memory_gib, near to what the job needs."""
        quantised = "quantization: {load_in_4bit: true, bnb_4bit_compute_dtype: bfloat16}"
        lora = "lora: {r: 16, target_modules: [q_proj, v_proj]}"
        self.project.write(
            "policy.yaml",
            "ftcheck: 1\nname: unknown\njobs:\n  mapper:\n"
            f"    model: {{name: {self.model(**config)}}}\n"
            f"    data: {{train: {self.samples}/mapper/train.jsonl}}\n"
            f"    training: {{max_length: 512, bf16: true, {lora}, {quantised}}}\n"
            f"    hardware: {hardware}\n    trainer: {trainer}\n    targets: {{memory_gib: {memory}}}\n"
            "checks: {memory-fit: {}}\n",
        )

    def check(self) -> dict[str, Any]:
        """The result of memory-fit."""
        ran = self.project.call("run", "policy.yaml", "-o", "json=r.json")
        result: dict[str, Any]
        (result,) = (one for one in ran.report["results"] if one["rule"] == "memory-fit")
        return result

    def plan(self) -> tuple[Ran, dict[str, Any]]:
        """The plan on the terminal and as JSON; as a page it is in p.html."""
        words = ("-v", "--offline", "-o", "json=r.json", "-o", "html=p.html")
        ran = self.project.call("plan", "policy.yaml", *words)
        assert ran.code == 0, ran.err
        return ran, ran.report["jobs"]["mapper"]

    @property
    def page(self) -> str:
        return (self.project.folder / "p.html").read_text(encoding="utf-8")


@pytest.fixture
def jobs(project: Project, samples: Path) -> Jobs:
    return Jobs(project, samples)


def measured(result: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in result["measurements"]}


def widths(jobs: Jobs) -> tuple[float, float]:
    """Widths of the interval, in GiB: of memory-fit, and of the plan."""
    found, (_, planned) = measured(jobs.check()), jobs.plan()
    return found["peak_gib_high"] - found["peak_gib_low"], planned["memory"]["high"] - planned["memory"][
        "low"
    ]


@pytest.fixture
def sure(jobs: Jobs) -> tuple[float, float]:
    jobs.write()
    return widths(jobs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "novel"}, "the installed transformers does not know the model_type 'novel'"),
        ({"trainer": COMMAND}, "what the trainer 'command' does is unknown"),
    ],
    ids=["architecture", "program"],
)
def test_what_is_not_known_widens_the_interval_and_is_said(
    jobs: Jobs, sure: tuple[float, float], change: dict[str, Any], said: str
) -> None:
    jobs.write(**change)

    assert all(now > before for now, before in zip(widths(jobs), sure, strict=True))
    ran, planned = jobs.plan()
    assert any(said in one for one in planned["memory"]["assumes"])
    assert said in " ".join(ran.out.split())
    assert said.replace("'", "&#39;") in jobs.page
    # The model's code cannot be traced, or the program's can.
    by = "formulas" if "model_type" in change else "replay"
    assert measured(jobs.check())["predicted_by"] == planned["memory"]["by"] == by


def test_an_unknown_card_widens_the_interval_and_its_memory_is_asked_for(
    jobs: Jobs, sure: tuple[float, float]
) -> None:
    jobs.write(hardware="{gpu: Quantum 9, memory_gib: 80}")
    assert all(now > before for now, before in zip(widths(jobs), sure, strict=True))
    _, planned = jobs.plan()
    assert any("on an unknown GPU" in one for one in planned["memory"]["assumes"])


def test_without_a_limit_an_unknown_card_has_no_verdict(jobs: Jobs) -> None:
    jobs.write(hardware="{gpu: Quantum 9}")
    policy = jobs.project.folder / "policy.yaml"
    policy.write_text(
        policy.read_text(encoding="utf-8").replace(f"    targets: {{memory_gib: {NEAR}}}\n", ""),
        encoding="utf-8",
    )
    said = "the memory of Quantum 9 is unknown; set hardware.memory_gib"

    result, (ran, planned) = jobs.check(), jobs.plan()
    assert (result["outcome"], result["reason"]) == ("skipped", said)
    assert (planned["memory_limit"], planned["largest_batch"]) == (None, None)
    assert f"whether it fits is unknown: {said}" in ran.out
    assert "fit unknown" in jobs.page
    assert said in jobs.page


@pytest.mark.parametrize("trainer", ["{use: qlora}", COMMAND])
def test_a_lower_bound_above_the_cards_memory_does_not_fit(jobs: Jobs, trainer: str) -> None:
    jobs.write(hardware="{gpu: RTX 4090}", trainer=trainer, memory=24, **MOE)

    result, (ran, planned) = jobs.check(), jobs.plan()
    assert result["outcome"] == "failed"
    assert "54.0 GiB of them are fused experts" in result["findings"][0]["message"]
    least = measured(result)["peak_gib_at_least"]
    memory = planned["memory"]
    assert memory["likely"] is None
    assert memory["at_least"] == pytest.approx(least, abs=0.01)
    assert least > 54
    assert re.search(rf"^memory +unknown: .*experts.*; at least {least:.1f} GiB", ran.out, re.MULTILINE)
    assert "does not fit 23.61 GiB (hardware.gpu): the least that it needs is more" in ran.out
    assert re.search(r"</span> does not fit<", jobs.page)
    assert f"at least {least:.1f} GiB of 23.61 GiB (hardware.gpu)" in jobs.page
    # No settings are proposed that would end at the same place, and the target does not hold.
    assert [one["role"] for one in planned["options"]] == ["as stated"]
    assert planned["options"][0]["problems"][-1] == "does not fit 23.61 GiB"
    (target,) = planned["targets"]
    assert target["holds"] is False
    assert target["found"].startswith(f"at least {least:.4g} GiB: ")


def test_a_lower_bound_below_the_cards_memory_leaves_it_unknown(jobs: Jobs) -> None:
    jobs.write(memory=79, **MOE)

    result, (ran, planned) = jobs.check(), jobs.plan()
    assert result["outcome"] == "skipped"
    assert "at least 5" in result["reason"]
    assert planned["memory"]["at_least"] < planned["memory_limit"]
    assert re.search(r"^memory +unknown: .*; at least 5\d\.\d GiB", ran.out, re.MULTILINE)
    assert "fit unknown" in jobs.page
    assert planned["targets"][0]["holds"] is None


def test_an_unknown_architecture_whose_least_is_above_the_limit_does_not_fit(jobs: Jobs) -> None:
    eight: dict[str, Any] = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
    jobs.write(memory=4, model_type="novel", head_dim=128, **eight)

    result, (ran, planned) = jobs.check(), jobs.plan()
    assert result["outcome"] == "failed"
    assert "it does not fit" in result["findings"][0]["message"]
    assert "does not fit 4 GiB (targets.memory_gib)" in ran.out
    assert planned["targets"][0]["holds"] is False
    assert planned["memory"]["low"] > 4
