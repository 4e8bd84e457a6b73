"""Every page in a real browser: nothing is fetched, nothing complains, all can be reached and read."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from tests.browser import axe
from tests.browser.chromium import WIDTHS, Browser
from tests.report.html import worked

pytestmark = pytest.mark.browser
KINDS = (
    "before",
    "plan",
    "row",
    "monitor",
    "night",
    "everything",
    "green",
    "started",
    "empty",
    "nothing",
    "hostile",
    "hostile-plan",
    "hostile-run",
    "hostile-night",
)
FOCUSABLE = "a[href], button, input, select, summary, [tabindex='0']"
needs_axe = pytest.mark.skipif(
    axe.script() is None, reason="axe-core is not here: python -m tests.browser.axe"
)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_nothing_leaves_the_page_and_the_console_is_empty(
    browser: Browser, pages: Mapping[str, Path], kind: str
) -> None:
    browser.open(pages[kind])

    assert set(browser.requests()) == {pages[kind].resolve().as_uri()}
    assert browser.complaints() == []


@needs_axe
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_violation(
    browser: Browser, pages: Mapping[str, Path], kind: str, width: int, dark: bool
) -> None:
    browser.open(pages[kind], width, dark=dark)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")

    assert browser.run("return document.documentElement.dataset.theme") == ("dark" if dark else "light")
    assert browser.violations() == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_screen(
    browser: Browser, pages: Mapping[str, Path], kind: str, width: int
) -> None:
    browser.open(pages[kind], width)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")

    wide, room = browser.run(
        "const { scrollWidth, clientWidth } = document.documentElement;return [scrollWidth, clientWidth]"
    )
    assert wide == room <= width


def test_the_tab_key_reaches_every_control_in_the_order_of_the_page(
    browser: Browser, pages: Mapping[str, Path], kind: str
) -> None:
    browser.open(pages[kind])
    wanted = browser.run(
        f"window.wanted = [...document.querySelectorAll(`{FOCUSABLE}`)].filter(one => one.checkVisibility());"
        "window.reached = [];"
        "document.addEventListener('focusin', one => window.reached.push(window.wanted.indexOf(one.target)));"
        "document.body.focus(); return window.wanted.length"
    )
    browser.press(*["\ue004"] * wanted)

    assert wanted >= 2
    assert browser.run("return window.reached") == list(range(wanted))


def test_a_page_has_landmarks_one_heading_on_top_and_none_left_out(
    browser: Browser, pages: Mapping[str, Path], kind: str
) -> None:
    browser.open(pages[kind])
    levels = browser.run(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(one => Number(one.tagName[1]))"
    )

    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert browser.run("return document.querySelectorAll('header, main, footer, nav').length") == 4
    assert (
        browser.run(
            "const ids = [...document.querySelectorAll('[id]')].map(one => one.id);"
            "return ids.filter((one, n) => ids.indexOf(one) !== n)"
        )
        == []
    )
    assert (
        browser.run(
            "return [...document.querySelectorAll('a[href^=\"#\"]')].map(one => one.getAttribute('href'))"
            ".filter(one => !document.getElementById(one.slice(1)))"
        )
        == []
    )


def test_without_scripts_all_is_there_but_the_filters_and_the_buttons(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    browser.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.driver.get(pages["before"].resolve().as_uri())
        text = browser.driver.find_element("css selector", "main").text
    finally:
        browser.tell("Emulation.setScriptExecutionDisabled", value=False)

    assert "percentile-seq-len" in text
    assert "gate shut" in text
    assert "Copy" not in text
    assert "Clear" not in text


def test_on_paper_everything_folded_is_shown_and_nothing_for_the_mouse(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    browser.open(pages["before"], medium="print", dark=True)
    heights = browser.run(
        "return [...document.querySelectorAll('details > .inside')].map(one => one.offsetHeight)"
    )

    assert len(heights) > 80
    assert min(heights) > 0
    assert browser.run("return getComputedStyle(document.querySelector('header.bar')).display") == "none"
    assert browser.run("return getComputedStyle(document.getElementById('filters')).display") == "none"
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_switch_changes_the_theme_and_the_next_page_remembers(
    browser: Browser, pages: Mapping[str, Path]
) -> None:
    browser.open(pages["before"], dark=False)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.run(ground)
    browser.driver.find_element("id", "theme").click()

    assert browser.run("return document.getElementById('theme').getAttribute('aria-pressed')") == "true"
    dark = browser.run(ground)
    assert dark != light
    browser.driver.refresh()
    assert browser.run(ground) == dark


def shown(browser: Browser) -> list[str]:
    """The checks that the filters let through, by outcome, job and name."""
    found: list[str] = browser.run(
        "return [...document.querySelectorAll('details.check:not([hidden])')]"
        ".map(one => `${one.dataset.outcome} ${one.dataset.job}::${one.dataset.rule}`)"
    )
    return sorted(found)


def test_filters_by_outcome_job_rule_and_text(
    browser: Browser, pages: Mapping[str, Path], night: object
) -> None:
    browser.open(pages["before"])
    results = json.loads((pages["before"].parent / "before.json").read_text(encoding="utf-8"))["results"]
    failed = sorted(one["id"] for one in results if one["outcome"] == "failed")
    assert set(worked.PLANTED["failed"]) <= set(failed)
    assert len(shown(browser)) == len(results)

    browser.driver.find_element("css selector", "#filters button[data-outcome=failed]").click()
    assert shown(browser) == [f"failed {one}" for one in failed]
    assert f"{len(failed)} of {len(results)} checks shown" in browser.driver.find_element("id", "shown").text

    browser.driver.find_element("css selector", "#job option[value=mapper]").click()
    assert shown(browser) == [f"failed {one}" for one in failed if one.startswith("mapper::")]

    browser.driver.find_element("css selector", "#filters button[type=reset]").click()
    browser.driver.find_element("css selector", "#rule option[value=truncation]").click()
    assert [one.split("::")[1] for one in shown(browser)] == ["truncation"] * 2

    browser.driver.find_element("css selector", "#filters button[type=reset]").click()
    browser.driver.find_element("id", "q").send_keys("ANALYST padding token")
    assert "passed analyst::special-tokens" in shown(browser)
    browser.driver.find_element("id", "q").send_keys(" nonsense")
    assert shown(browser) == []
    assert browser.driver.find_element("id", "none").is_displayed()


def test_a_tile_of_the_tally_filters_the_checks(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["before"])
    browser.driver.find_element("css selector", ".tiles a[data-outcome=skipped]").click()

    assert {one.split()[0] for one in shown(browser)} == {"skipped"}


def test_the_button_copies_the_change(browser: Browser, pages: Mapping[str, Path]) -> None:
    browser.open(pages["before"])
    origin = pages["before"].resolve().as_uri()
    for name in ("clipboardReadWrite", "clipboardSanitizedWrite"):
        browser.tell("Browser.grantPermissions", permissions=[name], origin=origin)
    browser.run("navigator.clipboard.writeText = async text => { window.copied = text }")
    button = browser.driver.find_element("css selector", "#failures-before .change .copy")
    change = browser.driver.find_element("css selector", "#failures-before .change ins").text
    button.click()

    assert browser.run("return window.copied") == change
    assert button.text == "Copied"
    assert browser.run("return document.getElementById('said').textContent") == "Copied"


@pytest.mark.parametrize("kind", ["hostile", "hostile-plan", "hostile-run", "hostile-night"])
def test_hostile_texts_run_nothing_and_turn_nothing_around(
    browser: Browser, pages: Mapping[str, Path], kind: str
) -> None:
    browser.open(pages[kind])
    text = browser.driver.find_element("css selector", "body").get_attribute("textContent")

    assert browser.complaints() == []
    assert browser.run("return window.hit") is None
    assert browser.run("return document.querySelectorAll('main script, main img, main b > pipe').length") == 0
    assert ("<b>|pipe|</b>" if kind == "hostile" else "<script>window.hit = 1</script>") in text
    for sign in ("\u202e", "\x1b", "\u0000"):
        assert sign not in text


@pytest.mark.parametrize(
    "attack", ["<script>window.hit = 1</script>", "<img src=x onerror='window.hit = 1'>"]
)
def test_what_would_be_markup_is_refused_by_the_policy_of_the_page(
    browser: Browser, pages: Mapping[str, Path], tmp_path: Path, attack: str
) -> None:
    broken = tmp_path / "broken.html"
    text = pages["green"].read_text(encoding="utf-8").replace("<main", f"{attack}<main", 1)
    broken.write_text(text, encoding="utf-8")
    browser.open(broken)

    assert browser.run("return window.hit") is None
    assert any("Content Security Policy" in one for one in browser.complaints())
