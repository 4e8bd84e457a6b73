"""What `--show-content` adds to a finding about a row."""

from dataclasses import replace
from typing import Any

from ftcheck.inputs.container import Inputs
from ftcheck.inputs.row_view import Piece
from ftcheck.records import Finding, Location
from ftcheck.report.html.report_page import page
from ftcheck.runner.shown_rows import MAX_SEEN, as_seen, marked, with_content
from ftcheck.testing import FakeTokenizer, inputs, job, prepared, token_store
from tests.plugins.reporters import fakes


def opened(text: str, trained: str, **training: Any) -> tuple[Inputs, Any, Any]:
    """The inputs of a job with one row, the job, and the row's place."""
    tokenizer = FakeTokenizer()
    ids = tokenizer.encode(text)
    start = len(ids) - len(tokenizer.encode(trained))
    rows = replace(prepared([len(ids)]), tokens=token_store(ids, trained=[len(ids) - start]))
    made = job(training=training)
    return inputs(made, prepared=rows, tokenizer=tokenizer), made, rows.at(0)


def test_the_row_of_a_finding_is_drawn_as_show_draws_it() -> None:
    given, made, at = opened("<|user|>hi<|assistant|>yes<|end|>", "yes<|end|>", max_length=5)

    drawn = as_seen(Finding("cut", at=at), made, given)

    assert drawn == "as the model sees it: <|user|>hi<|assistant|>«y»✂es<|end|>✂"


def test_a_finding_about_another_place_has_no_row() -> None:
    given, made, at = opened("<|user|>hi", "hi")

    for place in (None, Location("policy.yaml", 3), replace(at, path="gold.jsonl"), replace(at, row=2)):
        assert as_seen(Finding("cut", at=place), made, given) == ""


def test_rows_that_cannot_be_prepared_are_no_error_of_the_report() -> None:
    broken = inputs(broken={"prepared": "no such file"})

    assert as_seen(Finding("cut", at=Location("a.jsonl", 1, row=1)), job(), broken) == ""


def test_a_long_row_is_shortened_and_a_line_stays_one_line() -> None:
    piece = Piece("word\n", (1,), trained=True, special=False, fed=True)
    drawn = marked([piece] * MAX_SEEN)

    assert "\n" not in drawn
    assert len(drawn) == MAX_SEEN + 2
    assert drawn.endswith(" …")


def test_the_page_draws_it_with_the_loss_and_the_cut_marked() -> None:
    drawn = "as the model sees it: <|user|>hi«y<b>»✂es✂"
    finding = with_content(Finding("the answer is cut"), drawn)
    text = page(fakes.report(fakes.failed("j::truncation", finding)))

    assert '<span class="k m">&lt;|user|&gt;hi</span>' in text
    assert '<span class="k t">«y&lt;b&gt;»</span>' in text
    assert '<span class="k c">✂es✂</span>' in text
