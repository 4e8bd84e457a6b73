from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model import tokenizer as loaders
from ftcheck_plugins.model.tokenizer import ChatTokenizer, open_tokenizer

from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.tokenizer import ServingSide
from ftcheck.records import Location
from ftcheck.settings import Evaluation
from ftcheck.testing import job
from tests.faults.bench import Bench, chat
from tests.faults.catalogue import BROKEN_MISTRAL

ASKED = ({"role": "user", "content": "Hi"},)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return chat(tmp_path)


def opened(bench: Bench) -> ChatTokenizer:
    bench.write()
    return open_tokenizer(str(bench.model), offline=True, place=Location())


def mistral(bench: Bench, version: str | None = "4.57.1", kind: str = "mistral") -> ChatTokenizer:
    bench.config.update(model_type=kind, architectures=["MistralForCausalLM"], transformers_version=version)
    bench.tokenizer["pre_tokenizer"] = BROKEN_MISTRAL
    return opened(bench)


def test_a_mistral_tokenizer_is_mended_as_transformers_does_it(bench: Bench) -> None:
    side = mistral(bench)

    mended = side.with_fixed_regex()

    assert mended is not None
    assert mended.encode("1234") != side.encode("1234")
    assert mended.encode("one word") == side.encode("one word")
    assert side.encode("1234") == opened(bench).encode("1234")


def test_what_a_new_transformers_saved_is_left_alone(bench: Bench) -> None:
    side = mistral(bench, version="5.1.0")
    mended = side.with_fixed_regex()

    assert mended is not None
    assert mended.encode("1234 CamelCase") == side.encode("1234 CamelCase")


def test_other_families_are_not_mended(bench: Bench) -> None:
    assert mistral(bench, kind="llama").with_fixed_regex() is None


def test_a_tokenizer_that_splits_by_no_regex_is_not_mended(bench: Bench) -> None:
    bench.config["model_type"] = "mistral"
    bench.tokenizer["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    }
    assert opened(bench).with_fixed_regex() is None


@pytest.mark.parametrize("named", [{"name": ["default"], "template": "x"}, {"name": "default"}, "default"])
def test_named_templates_that_transformers_cannot_read_are_named(bench: Bench, named: Any) -> None:
    bench.tokenizer_config["chat_template"] = [named]
    bench.template = None

    with pytest.raises(
        InputError, match=r"chat_template in tokenizer_config\.json must be a text, or a list"
    ):
        opened(bench)


@pytest.mark.parametrize(
    ("template", "switches", "changes"),
    [
        ("{{ strftime_now('%Y') }}", {}, True),
        ("{{ strftime_now('%d %b') }}", {}, True),
        ("{{ date_string or strftime_now('%d %b %Y') }}", {}, True),
        ("{{ date_string or strftime_now('%d %b %Y') }}", {"date_string": "1 Jan 2026"}, False),
        ("{% if tools %}{{ strftime_now('%d') }}{% endif %}", {}, False),
        ("{{ messages[0].content }}", {}, False),
    ],
)
def test_a_template_that_writes_the_date_changes_with_it(
    bench: Bench, template: str, switches: dict[str, str], changes: bool
) -> None:
    bench.template = template
    side = opened(bench)
    before = side.render(ASKED, prompt=True)

    assert side.changes_with_date(ASKED, **switches) is changes
    assert side.render(ASKED, prompt=True) == before


def test_evaluation_takes_the_servers_side_where_it_names_nothing_of_its_own(bench: Bench) -> None:
    side = ServingSide(opened(bench), same=True, switches={"a": 1})
    load = loaders.evaluation.open
    run = Run(bench.folder, offline=True)

    assert load(job(), run, side) is None
    same = load(job(evaluation=Evaluation(batch_size=8)), run, side)
    assert (same.tokenizer, same.switches, same.same) == (side.tokenizer, {"a": 1}, True)
    other = load(job(evaluation=Evaluation(chat_template_kwargs={})), run, side)
    assert other.switches == {}


def test_evaluation_opens_what_it_names(bench: Bench) -> None:
    side = ServingSide(opened(bench), same=True)
    path = bench.file("eval.jinja", "{{ messages[0].content }}!")
    made = job(evaluation=Evaluation(chat_template=str(path)))

    found = loaders.evaluation.open(made, Run(bench.folder, offline=True), side)

    assert found.tokenizer.render(ASKED) == "Hi!"
    assert found.tokenizer.encode("Hi") == side.tokenizer.encode("Hi")
