"""The choice of changes, and how they are written: no check runs here."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ftcheck.fix import search
from ftcheck.records import Change, Check, Finding, Outcome, Result, Severity, Stage
from tests.fix.kit import POLICY


def result(check: str, *findings: Finding, outcome: Outcome = Outcome.FAILED) -> Result:
    about = Check(check, check, check, "a", Stage.BEFORE)
    return Result(about, outcome, findings=findings)


def wants(new: Any, old: Any = 64, key: str = "training.max_length", **more: Any) -> Finding:
    severity = more.pop("severity", Severity.ERROR)
    return Finding("bad", severity, change=Change(f"jobs.a.{key}", old, new, **more))


def chosen(*findings: Finding) -> search.Choice:
    found = search.proposals(result(f"c{number}", one) for number, one in enumerate(findings))
    [choice] = search.resolved(found)
    return choice


def test_the_largest_of_lower_bounds_and_the_smallest_of_upper_bounds_are_taken() -> None:
    low = Severity.WARNING

    up = chosen(wants(128), wants(512, severity=low), wants(256))
    down = chosen(wants(32), wants(8, severity=low))

    assert (up.change.new, up.checks, [one.check for one in up.others]) == (512, ("c1",), ["c0", "c2"])
    assert down.change.new == 8


def test_else_the_worst_finding_decides_then_the_first() -> None:
    low = Severity.WARNING

    assert chosen(wants(32, severity=low), wants(128)).change.new == 128
    assert chosen(wants("none", "content"), wants("counts", "content")).change.new == "none"
    assert chosen(wants(True, False), wants(True, False)).checks == ("c0", "c1")


def test_remarks_and_waived_checks_ask_for_nothing() -> None:
    found = [
        result("a", wants(128, severity=Severity.INFO)),
        result("b", wants(128), outcome=Outcome.WAIVED),
        result("c", Finding("no change")),
    ]

    assert search.proposals(found) == ()


def agree(changes: Sequence[Change]) -> str | None:
    return None


def test_what_a_change_brings_to_light_is_mended_too() -> None:
    steps = "training.gradient_accumulation_steps"

    def check(changes: Sequence[Change]) -> Iterable[Result]:
        values = {one.path: one.new for one in changes}
        yield result("length")
        yield result("steps", *([] if f"jobs.a.{steps}" in values else [wants(4, 16, steps)]))

    found = search.search([result("length", wants(512))], check, agree)

    assert [(one.change.path, one.change.new) for one in found.taken] == [
        ("jobs.a.training.max_length", 512),
        (f"jobs.a.{steps}", 4),
    ]
    assert found.settled


def test_a_key_that_checks_pull_to_and_fro_stays_as_it_was() -> None:
    def check(changes: Sequence[Change]) -> Iterable[Result]:
        value = {one.path: one.new for one in changes}.get("jobs.a.training.max_length", 64)
        yield result("long", *([wants(512, value)] if value < 512 else []))
        yield result("fits", *([wants(64, value)] if value > 256 else []))

    found = search.search(check(()), check, agree)

    [left] = found.left
    assert found.taken == ()
    assert found.settled
    assert left.reason == "the checks disagree: fits proposes 64, long 512"


def test_a_search_without_end_stops_and_says_that_it_is_not_settled() -> None:
    runs = 0

    def check(changes: Sequence[Change]) -> Iterable[Result]:
        nonlocal runs
        runs += 1
        value = changes[0].new if changes else 1
        yield result("more", wants(value + 1, value))

    found = search.search(check(()), check, agree)

    assert (found.settled, runs) == (False, search.ROUNDS + 1)
    assert (found.taken[0].change.old, found.taken[0].change.new) == (1, 1 + search.ROUNDS)


def test_unsafe_changes_are_held_unless_they_are_wanted() -> None:
    first = [result("a", wants(512, safe=False))]

    held = search.search(first, None, agree)
    taken = search.search(first, None, agree, unsafe=True)

    assert (held.taken, [one.change.new for one in held.held]) == ((), [512])
    assert ([one.change.new for one in taken.taken], taken.held) == ([512], ())


def test_what_cannot_be_is_left_with_its_reason() -> None:
    found = search.search([result("a", wants(512))], None, lambda changes: "never")

    assert [(one.path, one.reason) for one in found.left] == [("jobs.a.training.max_length", "never")]


def test_reasons_not_to_write() -> None:
    def why(path: str, new: Any = 1, given: Sequence[str] = ()) -> str | None:
        return search.unwritable(POLICY, [Change(path, 0, new)], ("mapper",), given)

    assert why("jobs.mapper.training.max_length") is None
    assert "is set on the command line" in str(
        why("jobs.mapper.training.lora.r", 1, ["jobs.mapper.training.lora={}"])
    )
    assert why("gate.max_age") == "only settings of a job can be written"
    assert "redacted" in str(why("jobs.mapper.serving.system_prompt", "use [redacted]"))


def taken_away(folder: Path, policy: str, key: str) -> str:
    path = folder / "policy.yaml"
    path.write_text(policy, encoding="utf-8")
    return search.written(str(path), policy, [Change(f"jobs.a.{key}", "x", None)], ("a",))


HEAD = "ftcheck: 1\n"

JOB = "jobs:\n  a:\n    model: {name: ./m}\n"


def test_a_value_that_only_the_job_states_goes(tmp_path: Path) -> None:
    policy = f"{HEAD}{JOB}    serving:\n      system_prompt: hello # hi\n      log: none\n"

    assert taken_away(tmp_path, policy, "serving.system_prompt") == policy.replace(
        "      system_prompt: hello # hi\n", ""
    )


def test_a_value_that_defaults_state_too_becomes_null(tmp_path: Path) -> None:
    policy = (
        f"{HEAD}defaults: {{serving: {{system_prompt: other}}}}\n{JOB}    serving: {{system_prompt: x}}\n"
    )

    new = taken_away(tmp_path, policy, "serving.system_prompt")

    assert new == policy.replace("{system_prompt: x}", "{system_prompt: null}")


def test_a_value_that_a_base_file_states_becomes_null_here(tmp_path: Path) -> None:
    base = f"{HEAD}{JOB}    serving: {{system_prompt: x}}\n"
    (tmp_path / "base.yaml").write_text(base, encoding="utf-8")
    policy = f"{HEAD}extends: [./base.yaml]\n"

    new = taken_away(tmp_path, policy, "serving.system_prompt")

    assert new == f"{policy}jobs:\n  a:\n    serving:\n      system_prompt: null\n"
    assert (tmp_path / "base.yaml").read_text(encoding="utf-8") == base


def test_a_value_with_another_default_becomes_null(tmp_path: Path) -> None:
    policy = f"{HEAD}{JOB}    training: {{max_length: 5, packing: false}}\n"

    new = taken_away(tmp_path, policy, "training.max_length")

    assert new == policy.replace("max_length: 5", "max_length: null")


def test_a_library_argument_goes_from_its_open_section(tmp_path: Path) -> None:
    policy = f"{HEAD}{JOB}    training: {{model_init_kwargs: {{device_map: auto}}, packing: false}}\n"

    new = taken_away(tmp_path, policy, "training.model_init_kwargs.device_map")

    assert "model_init_kwargs: {}, packing: false" in new
