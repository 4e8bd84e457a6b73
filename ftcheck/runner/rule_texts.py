"""What `ftcheck explain` says of the rules of a run, for reports: other programs show it beside findings."""

import json
from collections.abc import Iterable

from ftcheck.extension.plugin_host import Host
from ftcheck.extension.rules import Rule
from ftcheck.policy import describe_params
from ftcheck.records import Check
from ftcheck.report.record import RuleParam, RuleText
from ftcheck.tables.failures import caught_by


def rule_texts(host: Host, checks: Iterable[Check]) -> dict[str, RuleText]:
    """The texts of the rules that checks run, by the rule's id."""
    return {name: _text(host.rules[name]) for name in sorted({check.rule for check in checks})}


def _text(rule: Rule) -> RuleText:
    threads = [thread for failure in caught_by(rule.id) for thread in failure.threads if "://" in thread]
    return RuleText(
        holds=rule.summary,
        why=rule.why,
        how=rule.detail,
        params=tuple(
            RuleParam(one.name, one.kind, json.loads(json.dumps(one.default)), one.help)
            for one in describe_params(rule)
        ),
        thread=next(iter(threads), None),
    )
