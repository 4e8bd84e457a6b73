"""Item 26: after `ftcheck fix`, the checks whose changes were taken pass; over generated policies."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from ftcheck_rules.labels.labels import truncation
from ftcheck_rules.lengths.lengths import context_window, percentile_seq_len
from ftcheck_rules.serving.guardrails import guardrail
from ftcheck_rules.serving.serving import output_cap

from ftcheck.extension.rules import Rule
from ftcheck.fix.search import Found, search
from ftcheck.records import Change, Outcome, Result
from ftcheck.settings import Job
from ftcheck.testing import gold, inputs, job, model_config, prepared, run
from tests.faults.bench import BASES, Bench

RULES: dict[str, Rule] = {
    one.id: one for one in (output_cap, guardrail, percentile_seq_len, truncation, context_window)
}
BENCHES = ("chat", "completion")


class Generated:
    """A job with made-up numbers, some of them too small, and the checks that look at numbers."""

    def __init__(self, seed: int) -> None:
        from dataclasses import replace

        dice = Random(seed)
        count = dice.choice([3, 40, 400])
        numbers = np.random.default_rng(seed)
        trained = numbers.lognormal(dice.uniform(3, 6), dice.uniform(0.1, 0.9), count).astype(int) + 2
        prompts = numbers.lognormal(dice.uniform(3, 6), dice.uniform(0.1, 0.9), count).astype(int) + 2
        self.trained, self.lengths = trained.tolist(), (trained + prompts).tolist()
        self.answers = [max(2, int(one * dice.uniform(0.5, 1.5))) for one in self.trained[:50]]
        items = gold(*[("?", "A") for _ in self.answers])
        sized = zip(items.items, self.answers, strict=True)
        self.gold = (
            None
            if dice.random() < 0.3
            else replace(items, items=tuple(replace(one, answer_tokens=n) for one, n in sized))
        )
        self.context = dice.choice([1024, 4096, 32_768])
        low = dice.choice([32, 128, 512])
        self.sections: dict[str, dict[str, Any]] = {
            "training": {"max_length": dice.choice([64, 256, 1024, 4096])},
            "serving": {
                "max_new_tokens": dice.choice([None, 16, 64, 248, 1024]),
                "max_input_tokens": dice.choice([32, 512, 2000, 8000]),
                "over_limit": dice.choice(["reject", "rules"]),
                "log": dice.choice([None, "content", "token-counts"]),
                "schema_retries": dice.choice([0, 9]),
                "max_model_len": dice.choice([None, 512, 2048]),
            },
            "targets": {
                "max_new_tokens": dice.choice([None, None, (low, low * dice.choice([2, 16]))]),
                "max_length": dice.choice([None, None, (low, low * dice.choice([2, 16]))]),
            },
        }

    def job(self, changes: Iterable[Change]) -> Job:
        sections = {name: dict(section) for name, section in self.sections.items()}
        for change in changes:
            _, _, section, key = change.path.split(".")
            sections[section][key] = change.new
        return job("job", **sections)

    def results(self, changes: Sequence[Change]) -> list[Result]:
        one = self.job(changes)
        rows = prepared(self.lengths, trained=self.trained, max_length=one.training.max_length)
        given: dict[str, Any] = {
            "job": one,
            "prepared": rows,
            "gold": self.gold,
            "model": model_config(self.context),
            "endpoint": None,
            "inputs": inputs(),
        }
        return [run(rule, **{name: given[name] for name in rule.inputs}).result for rule in RULES.values()]


def rejected(found: Found, after: Iterable[Result]) -> list[str]:
    """Checks that got their change and want another value of that key, in `after`: a run with all changes."""
    got = {choice.change.path: choice for choice in found.taken}
    failed = {one.check.id: one for one in after if one.outcome is Outcome.FAILED}
    bad = []
    for path, choice in got.items():
        for check in choice.checks:
            key = path.split(".", 2)[2]
            again = [
                one.message
                for one in (failed[check].findings if check in failed else ())
                if one.severity != "info" and one.at is not None and one.at.yaml_path == f"jobs.job.{key}"
            ]
            bad += [f"{check}: {path}: {choice.change.new!r}: {message}" for message in again]
    return bad


def changes(found: Found) -> list[Change]:
    return [choice.change for choice in found.taken]


@pytest.mark.parametrize("block", range(10))
def test_26_after_fix_the_checks_whose_changes_were_taken_pass(block: int) -> None:
    """Forty generated jobs a block: no check asks for another value of a key that it had changed."""
    taken = 0
    for seed in range(40 * block, 40 * block + 40):
        made = Generated(seed)
        found = search(made.results(()), made.results, lambda _: None, unsafe=True)
        assert found.settled, seed
        assert rejected(found, made.results(changes(found))) == [], seed
        taken += len(found.taken)
    assert taken > 20


@pytest.mark.parametrize("base", BENCHES)
@pytest.mark.parametrize("seed", range(2))
def test_26_the_same_with_every_recommended_check_on_real_rows(base: str, seed: int, tmp_path: Path) -> None:
    dice, bench = Random(f"{base} {seed}"), BASES[base](tmp_path)
    settings: dict[str, list[Any]] = {
        "training.max_length": [48, 96, 200, 2048],
        "training.packing": [True, False],
        "training.gradient_accumulation_steps": [1, 64],
        "training.learning_rate": [2.0e-4, 0.1],
        "serving.max_new_tokens": [8, 40, 900],
        "serving.max_input_tokens": [64, 512, 2000],
        "serving.log": ["content", "none"],
        "serving.max_model_len": [512, 4096],
    }
    for key, values in settings.items():
        bench.set(key, dice.choice(values))
    bench.write()

    found = search(_looked(bench, ()), lambda some: _looked(bench, some), lambda _: None, unsafe=True)

    assert found.taken
    assert rejected(found, _looked(bench, changes(found))) == []


def _looked(bench: Bench, changes: Sequence[Change]) -> tuple[Result, ...]:
    return bench.look([f"{one.path}={json.dumps(one.new)}" for one in changes]).results


def test_26_the_cap_that_fix_writes_is_not_called_too_low_afterwards() -> None:
    """The issue's own: 248, then `set it to 424`."""
    one = job(serving={"max_new_tokens": 64})
    lengths = [200] * 245 + [246, 247, 424]
    rows = prepared([900] * len(lengths), trained=lengths)
    [finding] = run(output_cap, job=one, gold=None, prepared=rows).findings
    assert finding.change is not None

    again = run(output_cap, job=job(serving={"max_new_tokens": finding.change.new}), gold=None, prepared=rows)

    assert again.result.outcome == "passed"
