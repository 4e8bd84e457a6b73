"""Tokens of messages' own words: counted against the tokenizer itself, merged, drawn, kept, refused."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation, role_tokens
from transformers import AutoTokenizer

from ftcheck.errors import InputError
from ftcheck.extension.plugin_host import make_host
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.loader import Loader, loader
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.role_tokens import RoleTokens, Words
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.settings import Data, Job, Model, Outliers, Training

LOADERS = {one.name: one for one in (tokenizer.tokenizer, preparation.prepared, role_tokens.role_tokens)}
SYSTEM = {"role": "system", "content": "Be brief."}


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def talk(*words: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [SYSTEM, *(turn(roles[n % 2], one) for n, one in enumerate(words))]}


ROWS = [
    *(talk(f"what is {n} plus {n + 1}?", f"{n + n + 1}" * (1 + n % 3)) for n in range(30)),
    *(talk("naïve café", "ja", *["noch etwas?", "nein."] * n) for n in range(2, 7)),
    talk("", "an empty question"),
]


class Bench:
    """A folder with rows, and the inputs of a job on them."""

    def __init__(self, folder: Path, samples: Path) -> None:
        self.folder = folder
        self.model = samples / "models" / "mapper-tiny"
        self._runs = 0

    def write(self, rows: Sequence[Any], name: str = "rows.jsonl") -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def inputs(
        self,
        rows: Sequence[Any],
        *,
        cache: bool = False,
        data: Data | None = None,
        template: str | None = None,
        **loaders: Loader,
    ) -> Inputs:
        self._runs += 1
        path = self.write(rows)
        job = Job(
            name="job",
            model=Model(name=str(self.model), chat_template=template),
            data=data or Data(train=str(path)),
            training=Training(max_length=None),
        )
        run = Run(folder=self.folder / f"work{self._runs}", cache=cache)
        return Inputs({**LOADERS, **loaders}, {"run": run}, job)

    def counted(self, rows: Sequence[Any], **more: Any) -> RoleTokens:
        found = self.inputs(rows, **more).get("role_tokens")
        assert isinstance(found, RoleTokens)
        return found


@pytest.fixture
def bench(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    return Bench(tmp_path, samples)


def counted(parts: Sequence[Words]) -> dict[str, dict[int, int]]:
    return {
        one.name: {int(n): int(one.counts.counts[n]) for n in one.counts.counts.nonzero()[0]} for one in parts
    }


def by_hand(bench: Bench, rows: Sequence[Any], *, turns: bool = False) -> dict[str, dict[int, int]]:
    """The same with `transformers` alone, message by message."""
    alone = AutoTokenizer.from_pretrained(bench.model)
    found: dict[str, Counter[int]] = {}
    for row in rows:
        for number, one in enumerate(row["messages"], start=1):
            name = (str(number) if number <= 8 else "later") if turns else one["role"]
            size = len(alone(one["content"], add_special_tokens=False)["input_ids"])
            found.setdefault(name, Counter())[size] += 1
    return {name: dict(sorted(sizes.items())) for name, sizes in found.items()}


def test_words_are_those_that_the_tokenizer_counts_message_by_message(bench: Bench) -> None:
    found = bench.counted(ROWS)

    assert counted(found.roles) == by_hand(bench, ROWS)
    assert counted(found.turns) == by_hand(bench, ROWS, turns=True)
    assert [one.name for one in found.roles] == ["system", "user", "assistant"]
    assert [one.name for one in found.turns] == [*"12345678", "later"]
    assert (found.rows, found.total, found.messages) == (36, 36, sum(len(row["messages"]) for row in ROWS))


def test_the_fast_engine_counts_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [talk(f"question {n}", f"naïve answer {n * n}") for n in range(700)]
    plain = bench.counted(many)
    monkeypatch.setattr(role_tokens, "WORTH", 0)

    assert role_tokens._written(bench.counted(many)) == role_tokens._written(plain)


def test_words_and_what_the_template_adds_are_all_tokens_of_the_rows(bench: Bench) -> None:
    opened = bench.inputs(ROWS)
    found: RoleTokens = opened.get("role_tokens")
    prepared: Prepared = opened.get("prepared")

    assert found.tokens == int(prepared.length.sum())
    assert found.template == found.rest.tokens  # no row is short
    assert found.rest.sequences == len(ROWS)
    assert (found.short, found.beside) == (0, 0)
    assert found.template > 0


def test_histograms_of_parts_merge_into_that_of_the_whole(bench: Bench) -> None:
    whole = bench.counted(ROWS)
    parts = [bench.counted(ROWS[start:stop]) for start, stop in ((0, 3), (3, 31), (31, None))]

    for order in ((0, 1, 2), (2, 0, 1)):
        merged = reduce(RoleTokens.merge, (parts[n] for n in order))
        assert role_tokens._written(merged) == role_tokens._written(whole)
        assert merged.total == whole.total


def test_more_rows_than_are_counted_are_drawn_the_same_ones_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role_tokens, "MOST", 20)
    once, again = bench.counted(ROWS), bench.counted(ROWS)

    assert (once.rows, once.total, once.rest.sequences) == (20, 36, 20)
    assert role_tokens._written(once) == role_tokens._written(again)


def test_rows_that_are_not_fed_are_not_counted(bench: Bench) -> None:
    rows = [*ROWS, talk("long " * 500, "no"), {"messages": "broken"}]
    outliers = Outliers(above_percentile=90, action="drop")
    opened = bench.inputs(rows, data=Data(train=str(bench.write(rows)), outliers=outliers))
    prepared: Prepared = opened.get("prepared")
    kept = [row for row, used in zip(rows, prepared.used.tolist(), strict=True) if used]

    assert 0 < len(kept) < len(ROWS)
    assert counted(opened.get("role_tokens").roles) == by_hand(bench, kept)


def test_prompts_with_completions_are_conversations_and_plain_text_is_none(bench: Bench) -> None:
    pairs = [
        {"prompt": row["messages"][:-1], "completion": row["messages"][-1:], "note": n}
        for n, row in enumerate(ROWS)
    ]

    assert counted(bench.counted(pairs).roles) == by_hand(bench, ROWS)
    assert bench.inputs([{"text": "once upon a time"}] * 3).get("role_tokens") is None
    assert bench.inputs([{"prompt": "one", "completion": " two"}] * 3).get("role_tokens") is None


def test_files_without_lines_are_read_too(bench: Bench) -> None:
    array = bench.folder / "rows.json"
    array.write_text(json.dumps(ROWS), encoding="utf-8")

    found = bench.counted(ROWS, data=Data(train=str(array)))

    assert counted(found.turns) == by_hand(bench, ROWS, turns=True)


def test_tools_calls_and_unknown_roles_are_told_apart_from_words(bench: Bench) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    rows = [
        {"messages": [turn("user", "add"), turn("assistant", None, tool_calls=[call]), turn("tool", "2")]},
        {"messages": [turn("user", "add"), turn("narrator", [{"type": "text", "text": "he added"}])]},
        {"messages": [turn("user", "add"), turn("assistant", "2")], "tools": [call]},
    ]
    plain = bench.folder / "plain.jinja"
    plain.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", encoding="utf-8")
    opened = bench.inputs(rows, template=str(plain))
    found: RoleTokens = opened.get("role_tokens")
    reference: Tokenizer = opened.get("tokenizer")

    assert [one.name for one in found.roles] == ["user", "assistant", "tool", "other"]
    assert found.beside == 2
    sizes = {one.name: one.counts for one in found.roles}
    assert sizes["assistant"].counts[0] == 1  # a call without words
    assert sizes["other"].tokens == len(reference.encode("he added"))


def test_rows_whose_template_leaves_words_out_are_short() -> None:
    found = RoleTokens.of(
        ["user", "assistant", "user"], np.array([5, 5, 9]), np.array([2, 1]), np.array([14, 3])
    )

    assert (found.short, found.template, found.rest.tokens) == (1, -2, 4)
    assert found.share(17) == 1.0


def test_a_second_run_takes_them_from_the_cache_and_opens_no_tokenizer(bench: Bench) -> None:
    @loader("tokenizer")
    def closed(job: Job) -> Tokenizer:
        raise InputError("opened again")

    first = bench.counted(ROWS, cache=True)
    again = bench.counted(ROWS, cache=True, tokenizer=closed)
    assert role_tokens._written(first) == role_tokens._written(again)
    assert again.total == first.total

    changed = [*ROWS[:-1], talk("", "another answer")]
    with pytest.raises(InputError, match="opened again"):
        bench.inputs(changed, cache=True, tokenizer=closed).get("role_tokens")


def test_files_that_changed_after_the_preparation_are_refused(bench: Bench) -> None:
    opened = bench.inputs(ROWS)
    prepared: Prepared = opened.get("prepared")
    assert len(prepared) == len(ROWS)
    bench.write([{"text": "something else"}] * 40)

    with pytest.raises(InputError, match="changed after it was prepared"):
        opened.get("role_tokens")


def test_no_rule_asks_for_them_so_that_no_run_counts_them() -> None:
    from ftcheck.inputs.container import closure

    host = make_host()

    assert "role_tokens" in host.loaders
    for rule in host.rules.values():
        assert "role_tokens" not in closure(host.loaders, rule.inputs), rule.id
