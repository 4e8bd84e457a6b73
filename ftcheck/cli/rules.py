"""`ftcheck rules`, `ftcheck explain`, `ftcheck selftest`."""

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import (
    DataFlags,
    RunFlags,
    all_rules_dirs,
    data_flags,
    overrides,
    policy_of,
    rules_dirs,
)
from ftcheck.plurals import counted

THREADS = 5
"""How many public threads are listed for a failure; `--json` lists all."""

if TYPE_CHECKING:
    from ftcheck.extension.plugin_host import Host
    from ftcheck.extension.rules import Rule
    from ftcheck.policy.made import Made
    from ftcheck.tables.failures import Failure


@click.command(short_help="List the available rules.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--plugin", "plugins", multiple=True, metavar="NAME", help="Include an installed plugin's rules."
)
@rules_dirs
def rules(as_json: bool, plugins: tuple[str, ...], rules_dirs: tuple[Path, ...]) -> None:
    """List the available rules, by family."""
    from ftcheck.extension.plugin_host import make_host

    host = make_host(plugins, all_rules_dirs(rules_dirs))
    if as_json:
        click.echo(json.dumps([_described(host, rule) for rule in host.rules.values()], indent=2))
        return
    width = max(map(len, host.rules), default=0)
    family = None
    for rule in sorted(host.rules.values(), key=lambda rule: (rule.family, rule.id)):
        if rule.family != family:
            family = rule.family
            click.echo(f"{family}")
        click.echo(f"  {rule.id:<{width}}  {rule.summary}")


def _described(host: "Host", rule: "Rule") -> dict[str, object]:
    from dataclasses import asdict

    from ftcheck.policy import describe_params
    from ftcheck.tables.failures import caught_by

    owner = host.owner[f"rule:{rule.id}"]
    return {
        "id": rule.id,
        "family": rule.family,
        "stage": rule.stage.value,
        "holds": rule.summary,
        "why": rule.why,
        "how": rule.detail,
        "inputs": list(rule.inputs),
        "only": list(rule.only.stated) if rule.only is not None else None,
        "params": [
            {"name": one.name, "kind": one.kind, "default": one.default, "help": one.help}
            for one in describe_params(rule)
        ],
        "plugin": f"{owner.name} {owner.version}",
        "catches": [asdict(one) for one in caught_by(rule.id)],
    }


@click.command(short_help="Explain what a rule checks, why, and its parameters.")
@click.argument("rule_id", metavar="RULE")
@click.argument("sources", nargs=-1, metavar="[POLICY|CONFIG|DATA...]")
@data_flags
@click.option("--job", "jobs", multiple=True, metavar="J", help="Only this job of POLICY; repeatable.")
@overrides
@click.option(
    "--plugin", "plugins", multiple=True, metavar="NAME", help="Include an installed plugin's rules."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@rules_dirs
def explain(
    rule_id: str,
    sources: tuple[str, ...],
    data: DataFlags,
    jobs: tuple[str, ...],
    overrides: tuple[str, ...],
    plugins: tuple[str, ...],
    as_json: bool,
    offline: bool,
    rules_dirs: tuple[Path, ...],
) -> int:
    """Explain what RULE checks, what goes wrong otherwise, how it is measured, and its parameters.

    Also lists the known failures that it catches, each with its fix and with public threads that report it.
    With a POLICY, or DATA or a CONFIG as `ftcheck check` takes them, the rule also runs on these: what it
    measures and finds stands below, and the command exits as `ftcheck run` does.
    """
    from ftcheck.errors import UsageError
    from ftcheck.exit_codes import ExitCode
    from ftcheck.extension.plugin_host import make_host

    folders = all_rules_dirs(rules_dirs)
    if not sources:
        if data != DataFlags() or jobs or overrides:
            raise UsageError("name the data file, the configuration or the policy that the options are about")
        host = make_host(plugins, folders)
        rule = _named(host, rule_id)
        click.echo(json.dumps(_described(host, rule), indent=2) if as_json else _page(host, rule))
        return ExitCode.OK
    if as_json or plugins:
        raise UsageError(
            f"{'--json' if as_json else '--plugin'} is for the rule alone: leave out {sources[0]}"
        )
    return _explained_with(
        rule_id,
        policy_of(sources, data),
        overrides,
        jobs,
        RunFlags(verbose=True, offline=offline, rules_dirs=rules_dirs),
    )


def _named(host: "Host", rule_id: str) -> "Rule":
    import difflib

    from ftcheck.errors import UsageError

    if rule_id not in host.rules:
        close = difflib.get_close_matches(rule_id, host.rules, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "`ftcheck rules` lists them"
        raise UsageError(f"no rule '{rule_id}'; {hint}")
    return host.rules[rule_id]


def _explained_with(
    rule_id: str, policy: "str | Made", overrides: tuple[str, ...], jobs: tuple[str, ...], flags: RunFlags
) -> int:
    """The rule's page, and below it the run of its checks."""
    from dataclasses import replace

    from ftcheck.cli.run import run_checks
    from ftcheck.errors import UsageError
    from ftcheck.policy.made import Made
    from ftcheck.runner.load import load

    folders = all_rules_dirs(flags.rules_dirs)
    loaded = load(policy, overrides, folders)
    rule = _named(loaded.host, rule_id)
    names = [name for name, check in loaded.policy.checks.items() if (check.rule or name) == rule_id]
    if not names and isinstance(policy, Made):
        policy, names = replace(policy, settings={**policy.settings, "checks": {rule_id: {}}}), [rule_id]
    click.echo(_page(loaded.host, rule) + "\n")
    if not names:
        raise UsageError(f"{policy} plans no check of the rule {rule_id}: add it under 'checks'")
    planned = {check.name for check in load(policy, overrides, folders, rule.stage).checks}
    if rule.only is not None and not planned & set(names):
        raise UsageError(f"{policy}: no job sets {' or '.join(rule.only.stated)}, which {rule_id} is about")
    return run_checks(
        policy, replace(flags, select=tuple(names)), overrides=overrides, jobs=jobs, stage=rule.stage.value
    )


def _page(host: "Host", rule: "Rule") -> str:
    from ftcheck.policy import describe_params
    from ftcheck.tables.failures import caught_by

    owner = host.owner[f"rule:{rule.id}"]
    parts = [rule.id, _paragraph("checks", rule.summary), _paragraph("why", rule.why)]
    if rule.detail:
        parts.append(_paragraph("how", rule.detail))
    for one in describe_params(rule):
        parts.append(
            _paragraph("param", f"{one.name} ({one.kind}, default {json.dumps(one.default)})  {one.help}")
        )
    parts += [_paragraph("catches", _failure(one)) for one in caught_by(rule.id)]
    if rule.only is not None:
        parts.append(_paragraph("planned", f"for jobs that set {' or '.join(rule.only.stated)}"))
    parts.append(_paragraph("inputs", ", ".join(rule.inputs)))
    parts.append(
        _paragraph("from", f"{owner.name} {owner.version} ({owner.distribution}), stage {rule.stage}")
    )
    return "\n".join(parts)


def _failure(one: "Failure") -> str:
    """A catalogued failure: what it is, its symptom, the fix, and public threads, one per line."""
    rest = len(one.threads) - THREADS
    more = [f"and {counted(rest, 'more thread', 'more threads')} (--json lists all)"] if rest > 0 else []
    parts = [f"{one.what} ({one.id}). Symptom: {one.symptom}", f"Fix: {one.fix}"]
    return "\n\n".join([*parts, *one.threads[:THREADS], *more])


def _paragraph(label: str, text: str) -> str:
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    wrapper = textwrap.TextWrapper(86, break_on_hyphens=False, break_long_words=False)
    wrapped = [line for part in paragraphs for line in wrapper.wrap(part)]
    return "\n".join(f"  {label if n == 0 else '':<9} {line}" for n, line in enumerate(wrapped))


@click.command(short_help="Test that each rule finds the failure that it is for.")
@click.option("-v", "--verbose", is_flag=True, help="Also show the cases that come out as expected.")
@click.option(
    "--plugin", "plugins", multiple=True, metavar="NAME", help="Include an installed plugin's rules."
)
@rules_dirs
def selftest(verbose: bool, plugins: tuple[str, ...], rules_dirs: tuple[Path, ...]) -> int:
    """Run every rule's must-fail and must-pass cases in this installation.

    Exits 3 if a case does not come out as expected: then a passed run of this installation proves nothing.
    """
    from ftcheck.exit_codes import ExitCode
    from ftcheck.extension.plugin_host import make_host
    from ftcheck.records import Outcome
    from ftcheck.testing import run

    host, wrong, ran = make_host(plugins, all_rules_dirs(rules_dirs)), [], set()
    for case in (case for rule in host.rules.values() for case in rule.planted()):
        said = run(host.rules[case.rule], case.params, **case.inputs()).result.outcome
        expected = Outcome.FAILED if case.fails else Outcome.PASSED
        ran.add((case.rule, case.fails))
        line = f"{case.rule}: {case.name}: {said.value}"
        if said is not expected:
            wrong.append(line)
            click.echo(f"wrong  {line}, expected {expected.value}", err=True)
        elif verbose:
            click.echo(f"ok     {line}")
    for rule_id in host.rules:
        for fails in (True, False):
            if (rule_id, fails) not in ran:
                wrong.append(rule_id)
                click.echo(f"wrong  {rule_id}: no must-{'fail' if fails else 'pass'} case", err=True)
    kinds = counted(len(ran), "kind of case", "kinds of cases")
    click.echo(f"{counted(len(host.rules), 'rule')}, {kinds}, {len(wrong)} wrong")
    return ExitCode.INCOMPLETE if wrong else ExitCode.OK
