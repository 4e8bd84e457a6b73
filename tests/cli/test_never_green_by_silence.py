"""Every way in which a run can fall silent is red: the exit code, and a report that can be read."""

import signal
import sys
from pathlib import Path

import psutil
import pytest
from junitparser import JUnitXml

from tests.cli.project import HEAD, Project, Ran, rule_text
from tests.commands import wait_for_end


def red(ran: Ran, code: int, status: str = "incomplete") -> None:
    """The exit code, a JSON report that is not passed, and a JUnit file that a CI server shows red."""
    assert ran.code == code, ran.out + ran.err
    assert ran.report["status"] == status
    assert ran.report["verdict"] != "passed"
    suites = JUnitXml.fromfile(str(ran.folder / "r.xml"))
    assert suites.errors + suites.failures > 0


def test_rule_raises(project: Project) -> None:
    project.rules(rule_text("boom", "raise ValueError('broken\\nrule')"))
    project.policy("fine: {}\nboom: {}")

    ran = project.run()

    red(ran, 3)
    assert ran.outcome("fine") == "passed"
    assert ran.outcome("boom") == "errored"
    assert ran.result("boom")["reason"] == "the rule raised ValueError: broken rule"


def test_rule_leaves_the_interpreter_by_sys_exit(fresh: Project) -> None:
    fresh.rules(rule_text("leaver", "sys.exit(0)"))
    fresh.policy("leaver: {}\nfine: {}")

    ran = fresh.run()

    red(ran, 3)
    assert ran.result("leaver")["reason"] == "the rule raised SystemExit: 0"


def test_rule_hangs(fresh: Project) -> None:
    fresh.rules(rule_text("hang", "time.sleep(3600)"))
    fresh.policy("hang: {timeout: 0.5}\nfine: {}")

    ran = fresh.run()

    red(ran, 3)
    assert ran.outcome("hang") == "timeout"
    assert ran.result("hang")["reason"] == "not finished after 0.5 s"
    assert ran.outcome("fine") == "passed"


def test_rule_kills_the_interpreter(fresh: Project) -> None:
    fresh.rules(rule_text("die", "os._exit(0)"), rule_text("crash", "os.kill(os.getpid(), 11)"))
    fresh.policy("die: {}\ncrash: {}\nfine: {}")

    ran = fresh.run()

    red(ran, 3)
    assert ran.result("die")["reason"] == "the worker died: exit code 0"
    assert ran.result("crash")["reason"] == "the worker died: killed by SIGSEGV"
    assert ran.outcome("fine") == "passed"


def test_rule_allocates_without_end(project: Project) -> None:
    from ftcheck.runner.execute import execute
    from ftcheck.runner.load import load
    from ftcheck.runner.options import Options
    from ftcheck.runner.timeouts import Limits
    from ftcheck.runner.workplace import Workplace

    project.rules(rule_text("eat", "x = []\nwhile True: x.append(b'\\x01' * (8 << 20))"))
    policy = project.policy("eat: {}\nfine: {}")
    loaded = load(policy, rules_dirs=[project.folder / "rules"])
    options = Options(
        policy=str(policy), rules_dirs=(project.folder / "rules",), limits=Limits(memory=300 << 20)
    )

    with Workplace() as place:
        eat, fine = execute(place, options, loaded, loaded.checks, ()).results

    assert eat.outcome == "errored"
    assert eat.reason == "stopped: it used more than 0.3 GiB of memory"
    assert fine.outcome == "passed"


def test_rule_that_yields_nothing_is_skipped_and_not_passed(project: Project) -> None:
    project.rules(rule_text("silent", "pass"))
    project.policy("silent: {}")

    ran = project.run()

    assert ran.code == 4
    assert ran.outcome("silent") == "skipped"
    assert "nothing was checked" in ran.result("silent")["reason"]


def test_rule_that_is_no_generator_is_an_error(project: Project) -> None:
    project.rules('\n@rule("plain")\ndef plain():\n    """Holds.\n\n    Else not."""\n    return None\n')
    project.policy("plain: {}")

    red(project.run(), 3)


def test_plugin_fails_to_import(project: Project) -> None:
    project.write("rules/broken.py", "import no_such_module\n")
    project.policy("fine: {}")

    ran = project.run()

    red(ran, 3)
    assert "broken.py: could not be loaded: ModuleNotFoundError: No module named 'no_such_module'" in ran.err


def test_two_plugins_share_a_name(project: Project) -> None:
    project.write("more/mine.py", HEAD + rule_text("other", "yield Measurement('n', 1)"))
    project.policy("fine: {}")

    ran = project.run("--rules-dir", "more")

    red(ran, 3)
    assert "two plugins are called 'mine': more and rules" in ran.err


def test_two_plugins_offer_the_same_rule(project: Project) -> None:
    project.write("more/yours.py", HEAD + rule_text("fine", "yield Measurement('n', 1)"))
    project.policy("fine: {}")

    ran = project.run("--rules-dir", "more")

    red(ran, 3)
    assert "two plugins offer the rule 'fine': 'yours' of more and 'mine' of rules" in ran.err


def test_misspelt_hook(project: Project) -> None:
    project.write(
        "rules/hooks.py", "from ftcheck import hookimpl\n@hookimpl\ndef ftcheck_ruels(): return []\n"
    )
    project.policy("fine: {}")

    ran = project.run()

    red(ran, 3)
    assert "ftcheck_ruels" in ran.err


def test_empty_selection(project: Project) -> None:
    project.policy("fine: {tags: [a]}")

    ran = project.run("-k", "nothing-is-called-this")

    red(ran, 4, "partial")
    assert ran.report["counts"]["planned"] == 0


def test_everything_skipped(project: Project) -> None:
    project.rules(rule_text("idle", "yield Skip('nothing here')"))
    project.policy("idle: {}")

    ran = project.run()

    assert ran.code == 4
    assert ran.report["verdict"] is None
    assert ran.result("idle")["reason"] == "nothing here"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftcheck: 1\njobs: [\n", "policy.yaml:3:1"),
        ("", "policy.yaml"),
        ("ftcheck: 1\njobs: {job: {model: {name: m}}}\nchekcs: {}\n", "did you mean 'checks'?"),
        (
            "ftcheck: 1\njobs: {job: {model: {name: m}}}\nchecks: {fine: {}}\n"
            "waivers: [{check: fine, reason: r, owner: o, expire: 2099-01-01}]\n",
            "did you mean 'expires'?",
        ),
        (
            "ftcheck: 1\njobs: {job: {model: {name: m}}}\nchecks: {fine: {}}\n"
            "waivers: [{check: fine, reason: r, owner: o, expires: 2020-01-01}]\n",
            "expired",
        ),
        ("ftcheck: 1\njobs: {job: {model: {name: m}}}\nchecks: {fnie: {}}\n", "did you mean 'fine'?"),
    ],
    ids=[
        "unparseable policy",
        "empty",
        "unknown key",
        "misspelt waiver key",
        "expired waiver",
        "unknown rule",
    ],
)
def test_policy_that_cannot_be_used(project: Project, text: str, said: str) -> None:
    project.write("policy.yaml", text)

    ran = project.run()

    red(ran, 2)
    assert said in ran.err
    assert ran.report["problems"]


def test_unreadable_data(project: Project, samples: Path) -> None:
    model = f"{{name: {samples}/models/mapper-tiny}}"
    jobs = f"  job:\n    model: {model}\n    data: {{train: no-such-file.jsonl}}\n"
    project.rules(rule_text("looks", "yield Measurement('rows', len(prepared))", "prepared: Prepared"))
    project.policy("looks: {}\nfine: {}", jobs=jobs)

    ran = project.run()

    red(ran, 3)
    assert ran.outcome("job::looks") == "errored"
    reason = ran.result("job::looks")["reason"]
    assert reason.startswith("policy.yaml:6:")
    assert "no such file" in reason


def test_broken_rows_that_no_check_speaks_of_keep_the_run_from_being_complete(
    project: Project, samples: Path
) -> None:
    row = (samples / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines()[0]
    project.write("data.jsonl", f"{row}\n{row[:40]}\n{row}\n")
    jobs = f"  job:\n    model: {{name: {samples}/models/mapper-tiny}}\n    data: {{train: data.jsonl}}\n"
    project.rules(rule_text("looks", "yield Measurement('rows', len(prepared))", "prepared: Prepared"))
    project.policy("looks: {}", jobs=jobs)

    ran = project.run()

    red(ran, 3)
    assert ran.outcome("job::looks") == "passed"
    assert "1 of 3 rows could not be prepared" in ran.report["problems"][0]["message"]
    assert "data.jsonl:2:1" in ran.report["problems"][0]["message"]


@pytest.mark.parametrize(
    "change",
    [
        "open('rows/b.jsonl', 'a').write('{}')",
        "os.remove('rows/b.jsonl')",
        "open('rows/c.jsonl', 'w').write('{}')",
    ],
)
def test_data_that_changes_while_the_checks_run_shuts_the_gate(
    project: Project, samples: Path, change: str
) -> None:
    for name in "ab":
        project.write(f"rows/{name}.jsonl", '{"text": "fine"}\n')
    project.rules(rule_text("writer", f"{change}\nyield Measurement('n', 1)", "job: Job"))
    model = samples / "models" / "mapper-tiny"
    jobs = f"  job:\n    model: {{name: {model}}}\n    data: {{train: rows/*.jsonl}}\n"
    project.policy("fine: {}\nwriter: {}", jobs=jobs)

    ran = project.run()

    red(ran, 3)
    assert ran.outcome("fine") == "passed"
    told = "policy.yaml:6:19    jobs.job.data.train: rows/*.jsonl changed while the checks ran"
    assert told in ran.out
    assert "data-changed" in ran.report["gate"]["job"]


def test_an_input_that_kills_two_workers_is_poisoned(fresh: Project) -> None:
    loader = (
        "\nfrom ftcheck import hookimpl, loader\n"
        "@loader('deadly')\ndef deadly():\n    os._exit(3)\n"
        "@hookimpl\ndef ftcheck_loaders():\n    return [deadly]\n"
    )
    sources = [
        rule_text(name, "yield Measurement('n', 1)", "deadly: Any") for name in ("one", "two", "three")
    ]
    fresh.write("rules/mine.py", "")
    fresh.write(
        "plug/deadly.py", HEAD + rule_text("fine", "yield Measurement('n', 1)") + "".join(sources) + loader
    )
    fresh.policy("one: {}\ntwo: {}\nthree: {}\nfine: {}")
    files = ("-o", "json=r.json", "-o", "junit=r.xml")

    ran = fresh.call("run", "policy.yaml", "--rules-dir", "plug", *files)

    red(ran, 3)
    assert "while opening the input 'deadly'" in ran.result("one")["reason"]
    assert "while opening the input 'deadly'" in ran.result("two")["reason"]
    assert ran.result("three")["reason"] == "input 'deadly' killed 2 workers and is not opened again"
    assert ran.outcome("fine") == "passed"


def test_run_killed_with_sigkill_leaves_the_sentinel(fresh: Project) -> None:
    fresh.rules(rule_text("slow", "open('going', 'w').close()\ntime.sleep(3600)"))
    fresh.policy("slow: {}")
    run = fresh.start("run", "policy.yaml", "--rules-dir", "rules", "-o", "json=r.json", "-o", "junit=r.xml")
    run.started.until((fresh.folder / "going").exists)

    run.started.send_signal(signal.SIGKILL)
    run.end()

    red(Ran(3, "", "", fresh.folder), 3, "started")
    assert "run did not finish" in (fresh.folder / "r.xml").read_text(encoding="utf-8")


def test_the_worker_of_a_killed_run_does_not_live_on(fresh: Project) -> None:
    writes = "with open('mine', 'w') as file: file.write(str(os.getpid()))\nos.rename('mine', 'going')"
    fresh.rules(rule_text("slow", f"{writes}\ntime.sleep(3600)"))
    fresh.policy("slow: {}")
    run = fresh.start("run", "policy.yaml", "--rules-dir", "rules")
    run.started.until((fresh.folder / "going").exists)
    worker = psutil.Process(int((fresh.folder / "going").read_text()))

    run.started.send_signal(signal.SIGKILL)
    run.end()

    wait_for_end(worker)


def test_ctrl_c_is_130_and_a_report_says_so(fresh: Project) -> None:
    fresh.rules(rule_text("slow", "open('going', 'w').close()\ntime.sleep(3600)"))
    fresh.policy("fine: {}\nslow: {}")
    run = fresh.start("run", "policy.yaml", "--rules-dir", "rules", "-o", "json=r.json", "-o", "junit=r.xml")
    run.started.until((fresh.folder / "going").exists)

    run.started.send_signal(signal.SIGINT)
    ran = run.end()

    red(ran, 130)
    assert "Traceback" not in ran.err
    assert ran.outcome("fine") == "passed"
    assert ran.outcome("slow") == "not-run"


def test_control_characters_and_lone_surrogates_in_a_message(project: Project) -> None:
    body = "yield Finding('bell \\x07 escape \\x1b[31m nul \\x00 half \\ud800 end ]]>')"
    project.rules(rule_text("dirty", body))
    project.policy("dirty: {}")

    ran = project.run("-o", "markdown=r.md", "-o", "github")

    red(ran, 1, "complete")
    assert ran.result("dirty")["findings"][0]["message"].startswith("bell ")


def test_two_thousand_findings_are_counted_and_twenty_shown(project: Project) -> None:
    project.rules(rule_text("many", "for n in range(2000):\n    yield Finding(f'number {n}')"))
    project.policy("many: {}")

    ran = project.run()

    red(ran, 1, "complete")
    assert ran.result("many")["findings_total"] == 2000
    assert len(ran.result("many")["findings"]) == 20
    assert "1,980 more" in ran.out


def test_a_read_only_folder_for_reports_is_said_before_anything_runs(project: Project) -> None:
    project.rules(rule_text("marks", "open('ran', 'w').close()\nyield Measurement('n', 1)"))
    project.policy("marks: {}")

    ran = project.call("run", "policy.yaml", "--rules-dir", "rules", "-o", "json=/proc/r.json")

    assert ran.code == 2
    assert "/proc/r.json" in ran.err
    assert not (project.folder / "ran").exists()


def test_a_full_disk_leaves_no_half_written_report(fresh: Project) -> None:
    fresh.policy("fine: {}")

    ran = fresh.call("run", "policy.yaml", "--rules-dir", "rules", "-o", "json=/dev/full")

    assert ran.code == 3
    assert "/dev/full" in ran.err


def test_a_file_without_rows_among_others_is_named(project: Project, samples: Path) -> None:
    model = samples / "models" / "mapper-tiny"
    jobs = f"  job:\n    model: {{name: {model}}}\n    data: {{train: rows/*.jsonl}}\n"
    for name, text in (("a", '{"text": "fine"}\n'), ("b", ""), ("c", "\n"), ("d", '{"text": "good"}\n')):
        project.write(f"rows/{name}.jsonl", text)
    project.policy("data-readable: {}", jobs=jobs)

    ran = project.run("--offline", "--no-cache")

    assert ran.code == 0
    [finding] = ran.result("job::data-readable")["findings"]
    assert finding["message"] == "rows/b.jsonl and 1 more contain no rows (4 files in all)"
    assert finding["severity"] == "info"


def test_exit_zero_hides_findings_and_nothing_else(project: Project) -> None:
    project.rules(rule_text("bad", "yield Finding('bad')"), rule_text("boom", "raise ValueError"))
    project.policy("bad: {}\nfine: {}")
    assert project.run("--exit-zero").code == 0

    project.policy("bad: {}\nboom: {}")
    assert project.run("--exit-zero").code == 3


def test_noise_on_stdout_does_not_reach_the_report(fresh: Project) -> None:
    fresh.rules(rule_text("noisy", "print('{}')\nos.system('echo noise')\nyield Measurement('n', 1)"))
    fresh.policy("noisy: {}")

    ran = fresh.run()

    assert ran.code == 0
    assert "noise" not in ran.out


def test_same_inputs_give_the_same_bytes_outside_run(project: Project) -> None:
    project.rules(
        rule_text("bad", "yield Finding('x', severity=Severity.WARNING)\nyield Measurement('n', 1.5)")
    )
    project.policy("bad: {}\nfine: {}")

    first, second = project.run().report, project.run().report

    del first["run"], second["run"]
    assert first == second


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_report_never_holds_a_secret(project: Project) -> None:
    secret = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"
    project.rules(rule_text("leaky", f"yield Finding('token {secret} used')"))
    project.policy("leaky: {}")

    ran = project.run("-o", "markdown=r.md", "-o", "github=r.txt")

    for name in ("r.json", "r.xml", "r.md", "r.txt"):
        assert secret not in (project.folder / name).read_text(encoding="utf-8")
    assert secret not in ran.out + ran.err


def test_item_19_a_file_without_rules_is_no_rules(project: Project) -> None:
    project.write("more/empty.py", "ANSWER = 42\n")
    project.policy("fine: {}")

    ran = project.run("--rules-dir", "more")

    red(ran, 3)
    assert "empty.py: defines no rule (a function under @rule) and no hook" in ran.err
