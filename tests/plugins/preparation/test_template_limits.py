"""Templates that loop for ever, fill the memory or reach out of the sandbox: each ends soon, and is told."""

import json
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ftcheck_plugins.model.tokenizer import ChatTokenizer, open_tokenizer
from ftcheck_plugins.preparation import template_limits

from ftcheck import InputError
from ftcheck.records import Location
from tests.bounded_cpu import bounded_cpu
from tests.faults.bench import Bench, chat

MIB = 1 << 20
SECONDS = 1.0
"""CPU time for one conversation."""
SHIPPED = template_limits.SECONDS
EACH = "{{% for {0} in {1} %}}"
END = "{% endfor %}"
LOOP = "".join(EACH.format(one, "range(99999)") for one in "abc") + 3 * END
OVER_TEXT = "{% set s = ('x' * 9999) | list %}" + "".join(EACH.format(one, "s") for one in "abc") + 3 * END
DOUBLE = "{% set n.t = n.t ~ n.t %}"
HOSTILE = {
    "nested loops over ranges": (LOOP, "did not finish"),
    "nested loops over a text": (OVER_TEXT, "did not finish"),
    "a power that fills the processor": ("{{ (10 ** (10 ** 9)) % 7 }}", "did not finish|MiB"),
    "a billion characters by multiplication": ("{{ 'x' * 10**9 }}", "MiB"),
    "a billion characters by padding": ("{{ 'x'.ljust(10**9) }}", "MiB"),
    "a billion characters by format": ("{{ '%1000000000d' % 1 }}", "MiB"),
    "doubling": (
        "{% set n = namespace(t='xxxxxxxx') %}{% for i in range(99) %}" + DOUBLE + END + "{{ n.t }}",
        "MiB",
    ),
    "five million characters": ("{{ 'x' * 5000000 }}", "5,000,000 characters"),
    "attributes out of the sandbox": ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    "methods out of the sandbox": (
        "{{ messages.append.__self__.__class__.__init__.__globals__ }}",
        "SecurityError",
    ),
    "a macro that calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "a megabyte of text": ("x" * MIB, "1,048,576 characters"),
    "a megabyte of brackets": ("{{ " + "(" * MIB + ")" * MIB + " }}", "2,097,158 characters"),
    "brackets below the limit": ("{{ " + "(" * 50_000 + ")" * 50_000 + " }}", "RecursionError"),
}


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is refused yet; and what does not end is stopped sooner than in a user's run."""
    monkeypatch.setattr(template_limits, "SECONDS", SECONDS)
    template_limits._refused.clear()
    yield
    template_limits._refused.clear()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    bench = chat(tmp_path_factory.mktemp("small"))
    bench.write()
    return open_tokenizer(str(bench.model), place=Location())


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_bounded_time_and_memory(
    name: str, small: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, said = HOSTILE[name]
    if "did not finish" not in said:  # the bound that is shipped: filling memory takes time on a busy machine
        monkeypatch.setattr(template_limits, "SECONDS", SHIPPED)
    asked = [{"role": "user", "content": "Hi"}]
    before = peak()

    with bounded_cpu(), pytest.raises(InputError, match=said):
        small.render(asked, chat_template=template)

    assert peak() - before < 1.5 * template_limits.MEMORY


def test_a_template_that_does_not_end_is_tried_once(small: ChatTokenizer) -> None:
    asked = [{"role": "user", "content": "Hi"}]
    with pytest.raises(InputError, match="did not finish"):
        small.render(asked, chat_template=LOOP)

    with bounded_cpu(SECONDS), pytest.raises(InputError, match="did not finish"):
        small.render(asked, chat_template=LOOP)


def test_a_long_conversation_may_be_long(small: ChatTokenizer) -> None:
    words = "word " * 600_000
    assert len(small.render([{"role": "user", "content": words}])) > len(words.strip())


def test_limits_and_timers_are_as_before_afterwards(small: ChatTokenizer) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)

    small.render([{"role": "user", "content": "Hi"}])
    with pytest.raises(InputError):
        small.render([{"role": "user", "content": "Hi"}], chat_template="{{ 'x' * 10**9 }}")

    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    signal.raise_signal(signal.SIGPROF)


def test_another_thread_renders_too(small: ChatTokenizer) -> None:
    done: list[str] = []
    turns = [{"role": "user", "content": "Hi"}]
    thread = threading.Thread(target=lambda: done.append(small.render(turns)))
    thread.start()
    thread.join()

    assert done == [small.render(turns)]


def looked(folder: Path, template: str) -> Bench:
    bench = chat(folder)
    bench.template = template
    bench.write()
    return bench


@pytest.mark.parametrize("template", [LOOP, "{{ 'x' * 10**9 }}", "x" * MIB])
def test_a_whole_job_with_such_a_template_fails_with_a_finding(tmp_path: Path, template: str) -> None:
    with bounded_cpu():
        found = looked(tmp_path, template + "{% generation %}{% endgeneration %}").look()

    result = found.of("chat-template")
    assert result is not None
    assert result.outcome == "failed"
    assert any("the chat template" in finding.message for finding in result.findings)
    assert json.dumps([finding.message for finding in result.findings]).count("x" * 100) == 0
