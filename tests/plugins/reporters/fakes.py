"""Made-up reports: single parts with defaults, and whole nights as `design.md` and `ux.md` describe them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ftcheck.errors import Problem
from ftcheck.records import (
    Change,
    Check,
    Finding,
    Location,
    Measurement,
    Outcome,
    Result,
    Severity,
    Stage,
)
from ftcheck.report.identity import named
from ftcheck.report.record import (
    InputDigest,
    JobDigests,
    PluginInfo,
    Report,
    WaiverUse,
)

POLICY = "policies/night_before.yaml"
NASTY = "bell \x07 escape \x1b[31mred\x1b[0m nul \x00 lone \ud800 cdata ]]> c1 \x9b rtl \u202e end"
SECRET = "hf_abcdefghijklmnopqrstuvwxyz0123456789"


def digest(letter: str = "a") -> str:
    return "sha256:" + letter * 64


def check(check_id: str = "mapper::truncation", **changes: Any) -> Check:
    job, _, name = check_id.rpartition("::")
    known: dict[str, Any] = {"rule": name, "stage": Stage.BEFORE, "plugin": "rules 0.1.0", "params": {}}
    return Check(id=check_id, name=name, job=job or None, **(known | changes))


def result(check_id: str = "mapper::truncation", outcome: Outcome = Outcome.PASSED, **changes: Any) -> Result:
    changes.setdefault("findings_total", len(changes.get("findings", ())))
    changes.setdefault("blocking", outcome is Outcome.FAILED)
    one = check(check_id)
    changes["findings"] = named(one, changes.get("findings", ()))
    failing = [f.fingerprint for f in changes["findings"] if f.severity is not Severity.INFO]
    unseen = changes["findings_total"] - len(changes["findings"])
    changes.setdefault("failing_total", len(failing) + unseen)
    changes.setdefault("waived_total", changes["failing_total"] if outcome is Outcome.WAIVED else 0)
    changes.setdefault("fingerprints", tuple(sorted(one for one in failing if one)))
    return Result(check=one, outcome=outcome, **changes)


def failed(check_id: str = "mapper::truncation", *findings: Finding, **changes: Any) -> Result:
    return result(check_id, Outcome.FAILED, findings=findings or (Finding("too long"),), **changes)


def required(check_id: str = "mapper::truncation") -> Result:
    """A check that failed with a warning, and that the gate requires."""
    one = failed(check_id, finding("a bit long", severity=Severity.WARNING), blocking=False)
    return replace(one, check=replace(one.check, required=True))


def finding(message: str = "too long", **changes: Any) -> Finding:
    known: dict[str, Any] = {"at": Location("data/train.jsonl", 412, 1, row=412, record=digest("d"))}
    return Finding(message, **(known | changes))


def report(*results: Result, **changes: Any) -> Report:
    """A complete report; it passes if nothing blocks and nothing broke."""
    stopped = any(one.blocking or one.outcome in (Outcome.ERRORED, Outcome.TIMEOUT) for one in results)
    known: dict[str, Any] = {
        "status": "complete",
        "verdict": "failed" if stopped else "passed",
        "policy_path": POLICY,
        "policy_name": "night-before",
        "started_at": "2026-11-22T22:10:00+00:00",
        "finished_at": "2026-11-22T22:10:04.400000+00:00",
        "results": tuple(results),
    }
    return Report(**(known | changes))


def started() -> Report:
    return report(status="started", verdict=None, finished_at=None)


def empty() -> Report:
    return report(verdict=None)


def nasty() -> Report:
    """Control characters, lone surrogates, markup and a secret in every text that users or data control."""
    text = f"{NASTY} {SECRET} <b>|pipe|</b> ::error::x\n::warning::y"
    return report(
        failed(
            "mapper::truncation",
            Finding(
                text,
                at=Location(f"data/{text}.jsonl", 3),
                fix=text,
                change=Change(f"jobs.{NASTY}", text, text),
            ),
            summary=text,
            measurements=(Measurement("p95", text, unit=text, limit=text),),
        ),
        result("mapper::skipped", Outcome.SKIPPED, reason=text),
        result("mapper::waived", Outcome.WAIVED, reason=text, findings=(Finding(text),)),
        result("mapper::errored", Outcome.ERRORED, reason=text, detail=text),
        result(f"mapper::{NASTY}", Outcome.TIMEOUT, reason=text),
        policy_name=f"night {NASTY}",
        status="incomplete",
        problems=(Problem(text, path=text, line=1),),
        notes=(text,),
        overrides=(text,),
        waivers=(WaiverUse("mapper::waived", text, text, "2026-12-31", used=True),),
        machine={"hostname": text},
    )


def many_findings(count: int = 2000) -> Report:
    """As the runner hands it on: the worst 20 and the total."""
    shown = tuple(
        finding(f"row {number} is cut", at=Location("data/train.jsonl", number, 1, row=number))
        for number in range(1, 21)
    )
    return report(failed("mapper::truncation", *shown, findings_total=count))


def every_outcome() -> Report:
    explained = set(Outcome) - {Outcome.PASSED, Outcome.FAILED}
    reasons: dict[Outcome, str] = {outcome: f"because of {outcome.value}" for outcome in explained}
    results = [
        result(
            f"mapper::{outcome.value}", outcome, reason=reasons.get(outcome), findings=_findings_of(outcome)
        )
        for outcome in Outcome
    ]
    warning = failed("mapper::warned", finding("a bit long", severity=Severity.WARNING), blocking=False)
    return report(*results, warning, status="incomplete", gate={"mapper": "incomplete, failed"})


def _findings_of(outcome: Outcome) -> tuple[Finding, ...]:
    return (finding(),) if outcome in (Outcome.FAILED, Outcome.WAIVED) else ()


def green_night() -> Report:
    """The green night of `ux.md`."""
    return report(
        *_HOST,
        result(
            "mapper::tokenizer-parity",
            summary="train = eval = gold = serve, 64 probes, 13,784 rows",
            seconds=0.61,
        ),
        result(
            "mapper::percentile-seq-len",
            measurements=(
                Measurement("p95", 93, "tokens", "<= 768"),
                Measurement("p99", 107, "tokens"),
                Measurement("max", 155, "tokens"),
                Measurement("rows", 13784, "rows"),
            ),
            seconds=0.02,
        ),
        result(
            "mapper::packing-efficiency", summary="1,333 blocks, 99.9 % full (TRL alone: 1,373)", seconds=0.4
        ),
        result(
            "analyst::percentile-seq-len", summary="p95 512 · p99 701 · max 1,311 tokens (max_length 1024)"
        ),
        **_FRAME,
        gate={"mapper": "open", "analyst": "open"},
    )


def red_night() -> Report:
    """A night in which everything happens at once."""
    return report(
        *_HOST,
        result(
            "mapper::tokenizer-parity",
            summary="train = eval = gold = serve, 64 probes, 13,784 rows",
            seconds=0.61,
        ),
        result(
            "mapper::percentile-seq-len",
            summary="p95 93 · p99 107 · max 155 tokens (max_length 768)",
            findings=(
                Finding(
                    "p95 is 93 tokens: max_length 160 would save 79 % of the padding without packing",
                    Severity.INFO,
                    Location(POLICY, 31, 19, "jobs.mapper.training.max_length"),
                ),
            ),
        ),
        _learning_rate(),
        _truncation(),
        _template_parity(),
        _duplicates(),
        *(
            result(f"analyst::{name}", Outcome.ERRORED, reason=_NO_GOLD, detail=_TRACEBACK)
            for name in ("gold-set", "output-cap", "evaluation-parity")
        ),
        result(
            "analyst::memory-fit", Outcome.TIMEOUT, reason="stopped after 600 s (checks.memory-fit.timeout)"
        ),
        result("analyst::cost", Outcome.NOT_RUN, reason="stopped after 4 failures (--maxfail 4)"),
        result("analyst::run-time", Outcome.NOT_RUN, reason="stopped after 4 failures (--maxfail 4)"),
        result("analyst::guardrail", Outcome.SKIPPED, reason="serving.endpoint is not set: nothing to probe"),
        **_FRAME | {"status": "incomplete"},
        waivers=(
            WaiverUse(
                "analyst::duplicates", "synthetic paraphrases, reviewed", "data-team", "2026-11-28", used=True
            ),
        ),
        problems=(
            Problem("plugin 'acme' is not installed; no plugin is installed", POLICY, 4, 12, "plugins"),
        ),
        notes=(
            "the waiver for mapper::leakage (POLICY:80:5) was not used: its check passed".replace(
                "POLICY", POLICY
            ),
        ),
        removed=("hub-access",),
        overrides=("jobs.mapper.training.max_length=768",),
        gate={"mapper": "open", "analyst": "incomplete, failed"},
    )


_NO_GOLD = "input 'gold': tests/golden_analyst.json: no such file (jobs.analyst.data.gold)"
_TRACEBACK = (
    'Traceback (most recent call last):\n  File "gold.py", line 12, in open\n'
    "FileNotFoundError: golden_analyst.json"
)
_HOST = (
    result(
        "environment", summary="transformers 5.23 · trl 1.16 · peft 0.21 · bitsandbytes 0.50", seconds=0.013
    ),
    result("disk-space", summary="3 checkpoints need 1.2 GiB of 80 GiB", seconds=0.001),
    result("gpu", Outcome.SKIPPED, reason="no NVIDIA GPU on this machine"),
)
_FRAME: dict[str, Any] = {
    "jobs": {
        "mapper": JobDigests(digest("a"), digest("b"), digest("c"), digest("d"), digest("e")),
        "analyst": JobDigests(digest("f"), digest("0")),
    },
    "inputs": {
        "mapper.train": InputDigest("data/mapper/train.jsonl", digest("1"), 13784),
        "analyst.gold": InputDigest("tests/golden_analyst.json", None),
    },
    "plugins": (PluginInfo("rules", "ftcheck", "0.1.0"),),
    "packages": {"transformers": "5.23.0", "trl": "1.16.0"},
    "machine": {"system": "Linux", "cpus": 2},
    "cached": ("mapper.train",),
}


def _learning_rate() -> Result:
    at = Location(POLICY, 36, 22, "jobs.mapper.training.learning_rate")
    return failed(
        "mapper::learning-rate",
        Finding(
            "0.002 is ten times what QLoRA on 8B models is usually run with",
            Severity.WARNING,
            at,
            change=Change(at.yaml_path or "", 0.002, 0.0002, safe=False),
        ),
        blocking=False,
        summary="0.002, usual is 0.0001 to 0.0003",
    )


def _truncation() -> Result:
    change = Change("jobs.analyst.training.max_length", 1024, 1536)
    fix = "keeps 99.4 % of trained tokens, +9 % steps"
    findings = [
        Finding(
            f"the answer is cut: {1300 + row:,} tokens, max_length 1024 keeps none of its {row} trained ones",
            at=Location("data/analyst/train.jsonl", row, 1, row=row, record=digest("d")),
            fix=fix,
            change=change,
        )
        for row in (412, 977, 1003, 5120)
    ]
    return failed(
        "analyst::truncation",
        *findings,
        findings_total=1204,
        summary="1,204 of 7,473 rows cut · 96,311 trained tokens lost · 88 rows left with none",
        measurements=(
            Measurement("rows_cut", 1204, "rows", "0"),
            Measurement("trained_tokens_lost", 96311, "tokens"),
        ),
        seconds=1.41,
    )


def _template_parity() -> Result:
    message = (
        'serving.chat_template\n  probe "system + one turn", token 4\n    train  <|system|> ↵ You are\n'
        "    serve  <|im_start|> system ↵ You"
    )
    return failed(
        "analyst::template-parity",
        Finding(
            message,
            at=Location(POLICY, 71, 9, "jobs.analyst.serving.chat_template"),
            fix="serve with the training template: it is saved beside the adapter as chat_template.jinja",
        ),
        summary="serving differs from training in 64 of 64 probes",
        seconds=0.2,
    )


def _duplicates() -> Result:
    rows: Sequence[int] = (17, 18, 230, 231)
    findings = tuple(
        finding(
            f"the same prompt and answer as line {row - 14}",
            at=Location("data/analyst/train.jsonl", row, 1, row=row),
        )
        for row in rows
    )
    return result(
        "analyst::duplicates",
        Outcome.WAIVED,
        findings=findings,
        findings_total=212,
        reason="waived until 2026-11-28: synthetic paraphrases, reviewed (data-team)",
        summary="212 of 7,473 rows are duplicates",
    )
