"""Copies, conflicting answers and leaks, from the command line."""

import json
import operator
from pathlib import Path
from typing import Any

from tests.cli.project import Project


def test_sums_with_other_operators_are_neither_copies_nor_leaks(project: Project, samples: Path) -> None:
    """What one reads as the same but for punctuation would be left out by `fix`: it must be the same."""
    results = {"+": operator.add, "-": operator.sub, "*": operator.mul, "%": operator.mod}
    sums = [
        (f"What is {a} {sign} {b}?", str(of(a, b)))
        for a in range(20, 40)
        for b in range(2, 9)
        for sign, of in results.items()
    ]
    learned, asked = [one for one in sums if "%" not in one[0]], [one for one in sums if "%" in one[0]]
    project.write("rows.jsonl", "".join(json.dumps(_turns(*one)) + "\n" for one in learned))
    project.write("gold.json", json.dumps([{"input": one, "expected": answer} for one, answer in asked]))
    project.write(
        "policy.yaml",
        f"ftcheck: 1\nname: sums\njobs:\n  job:\n    model: {{name: {samples}/models/mapper-tiny}}\n"
        "    data: {train: rows.jsonl, gold: {path: gold.json}}\n    training: {max_length: 128}\n"
        "checks: {duplicates: {}, leakage: {}}\n",
    )

    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.code == 0, ran.out
    results_of = [one for result in ran.report["results"] for one in result["measurements"]]
    measured = {one["name"]: one["value"] for one in results_of}
    assert measured["gold_compared"] == len(asked)
    assert measured["gold_leaked"] == measured["rows_duplicate"] == 0
    assert measured["questions_with_other_answers"] == 0


def _turns(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
