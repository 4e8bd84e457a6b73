"""Checks of stage during, bound to a policy and asked line by line."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ftcheck import Finding, Measurement, Severity, Skip, Stage, rule
from ftcheck.extension.hookspecs import hookimpl
from ftcheck.extension.plugin_host import Host, make_host
from ftcheck.extension.rules import Rule
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.metric_history import Expected, MetricHistory, Span
from ftcheck.policy.params import full_params
from ftcheck.records import Check, Outcome, Result
from ftcheck.testing import job
from ftcheck.training.during_checks import Action, Alarm, DuringChecks
from tests.bounded_cpu import bounded_cpu


@dataclass(frozen=True)
class Limit:
    """Parameters of `below`."""

    limit: float = 2.0
    """The most."""
    action: str = "warn"
    """What to do."""


@rule("below", stage=Stage.DURING)
def below(metrics: MetricHistory, params: Limit) -> Iterator[Any]:
    """The loss is below a limit.

    Otherwise it is above it.
    """
    if metrics.logged < 2:
        yield Skip(f"{metrics.logged} logs")
        return
    yield Measurement("loss", metrics.last[-1].loss)
    if (metrics.last[-1].loss or 0) > params.limit:
        yield Finding(f"the loss is {metrics.last[-1].loss}", Severity.ERROR, fix="wait")


@rule("broken", stage=Stage.DURING)
def broken(metrics: MetricHistory) -> Iterator[Any]:
    """It raises.

    Otherwise it would not.
    """
    raise ZeroDivisionError("by nothing")
    yield Measurement("x", 1)


@rule("needy", stage=Stage.DURING)
def needy(metrics: MetricHistory, gold: Any) -> Iterator[Any]:
    """It asks for what cannot be opened.

    Otherwise it would not.
    """
    yield Measurement("x", 1)


class Mine:
    """A plugin with these rules."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules

    @hookimpl
    def ftcheck_rules(self) -> list[Rule]:
        return list(self.rules)


def host(*rules: Rule) -> Host:
    return make_host(extra={"mine": Mine(rules)})


def check(one: Rule, **params: Any) -> Check:
    return Check(f"mapper::{one.id}", one.id, one.id, "mapper", Stage.DURING, params=params, needs=one.inputs)


def begun(*checks: tuple[Rule, dict[str, Any]], **given: Any) -> DuringChecks:
    rules = host(*(one for one, _ in checks))
    watch = DuringChecks([check(one, **params) for one, params in checks], rules, **given)
    watch.begin(Inputs({}, {}, job("mapper")))
    return watch


def fed(watch: DuringChecks, *losses: float) -> list[Alarm]:
    return [alarm for n, loss in enumerate(losses, 1) for alarm in watch.see({"step": n, "loss": loss})]


def test_a_finding_alarms_once_and_is_kept_with_its_steps() -> None:
    told: list[Alarm] = []
    watch = begun((below, {"action": "checkpoint"}), tell=told.append)

    alarms = fed(watch, 1.0, 3.0, 4.0, 1.0, 5.0, 1.0)

    assert [(alarm.step, alarm.action) for alarm in alarms] == [
        (2, Action.CHECKPOINT),
        (5, Action.CHECKPOINT),
    ]
    assert told == alarms
    assert str(alarms[0]) == "mapper::below at step 2: the loss is 3.0; wait"
    [result] = watch.results()
    assert (result["outcome"], result["acted"], result["looks"]) == ("failed", "checkpoint", 5)
    assert [(one["step"], one["last_step"]) for one in result["findings"]] == [(2, 3), (5, 5)]
    assert result["findings"][0]["message"] == "the loss is 4.0"
    assert result["measurements"][0]["value"] == 1.0


def test_a_check_that_looked_at_nothing_is_skipped_with_its_last_reason() -> None:
    watch = begun((below, {}))
    assert watch.outcomes[0].reason == "nothing was logged while the check was active"

    fed(watch, 9.0)

    [result] = watch.results()
    assert (result["outcome"], result["reason"], result["looks"]) == ("skipped", "1 logs", 0)
    fed(watch, 1.0, 1.0)
    assert watch.results()[0]["outcome"] == "passed"


def test_a_rule_that_breaks_is_errored_and_the_others_go_on() -> None:
    watch = begun((broken, {}), (needy, {}), (below, {"action": "stop"}))

    [alarm] = fed(watch, 1.0, 3.0)

    assert (alarm.check, alarm.action) == ("mapper::below", Action.STOP)
    results = {one["id"]: one for one in watch.results()}
    assert results["mapper::broken"]["outcome"] == results["mapper::needy"]["outcome"] == "errored"
    assert results["mapper::broken"]["reason"] == "ZeroDivisionError: by nothing"
    assert "gold" in results["mapper::needy"]["reason"]


def test_what_is_waived_or_capped_raises_no_alarm() -> None:
    def waive(result: Result) -> Result:
        failed = result.outcome is Outcome.FAILED
        return replace(result, outcome=Outcome.WAIVED, reason="known") if failed else result

    waived = begun((below, {"action": "stop"}), finish=waive)
    capped = DuringChecks([replace(check(below, action="stop"), severity=Severity.INFO)], host(below))
    capped.begin(Inputs({}, {}, job("mapper")))

    assert fed(waived, 1.0, 3.0) == fed(capped, 1.0, 3.0) == []
    assert [waived.results()[0][key] for key in ("outcome", "reason", "acted")] == ["waived", "known", None]
    assert capped.results()[0]["outcome"] == "passed"


def test_a_resumed_run_goes_on_with_the_lines_of_before() -> None:
    watch = DuringChecks([check(below)], host(below), Expected({"memory_gib": Span(1.0, 2.0, "x")}))
    watch.begin(Inputs({}, {}, job("mapper")), [{"step": 1, "loss": 1.0}, {"step": 1, "eval_loss": 1.0}])

    [alarm] = watch.see({"step": 2, "loss": 3.0})

    assert alarm.step == 2


def test_lines_that_are_no_logs_are_not_looked_at() -> None:
    watch = begun((below, {}))

    assert watch.see({"step": 3, "during": []}) == ()
    assert watch.results()[0]["looks"] == 0


def test_a_look_costs_next_to_nothing() -> None:
    lines, rules = 600, make_host()
    names = [one for one in rules.rules.values() if one.family == "during"]
    checks = [
        Check(f"mapper::{one.id}", one.id, one.id, "mapper", Stage.DURING, params=full_params(one, {}))
        for one in names
    ]
    watch = DuringChecks(checks, rules)
    watch.begin(Inputs({}, {}, job("mapper")), device="cuda", memory_gib=24.0)
    line = {"loss": 1.0, "grad_norm": 1.0, "tokens_per_second": 5e3, "memory_peak_gib": 9.0}

    with bounded_cpu(lines * 0.05):
        for step in range(1, lines + 1):
            watch.see({"step": step, "padding_share": 0.1, "trained_share": 0.3, **line})
