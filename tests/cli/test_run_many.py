"""`ftcheck run` on several policies, and `ftcheck list`.

Expected, by hand: of 3 data sets x 4 jobs (learning rate, batch size and packing differ) 3 preparations; each
policy's report is the bytes of its report when it is run alone, outside `run`; the exit code is the worst of
all policies', 130 > 2 > 3 > 4 > 1 > 0.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ftcheck.runner.many import at_once
from ftcheck.runner.workplace import HELPERS
from tests.cli.project import Project, Ran, rule_text

COUNTED = """
import ftcheck_plugins.preparation.preparation as preparation
if not hasattr(preparation, "counted"):
    preparation.counted, write = True, preparation._Pass.write
    def counting(self, folder):
        with open("prepared.log", "a") as log:
            print(self.source.files[0], file=log)
        write(self, folder)
    preparation._Pass.write = counting
"""
ASKED = rule_text(
    "asked",
    """
    with open("asked.log", "a") as log:
        print(job.training.max_length, file=log)
    yield Measurement("rows", len(prepared))
    """,
    "job: Job, prepared: Prepared",
)
RATES = (1e-4, 2e-4, 1e-4, 3e-4)
CHECKS: dict[str, dict[str, Any]] = {
    name: {}
    for name in (
        "fine",
        "asked",
        "percentile-seq-len",
        "trained-tokens",
        "truncation",
        "duplicates",
        "schedule",
        "tokenizer-parity",
        "packing-efficiency",
        "learning-rate",
    )
}


def rows(number: int) -> str:
    return "".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"what is {number} plus {n * n}?"},
                    {"role": "assistant", "content": f"{number + n * n}!"},
                ]
            }
        )
        + "\n"
        for n in range(60)
    )


def job(data: str, number: int, samples: Path) -> dict[str, Any]:
    return {
        "model": {"name": str(samples / "models" / "mapper-tiny")},
        "data": {"train": f"../{data}"},
        "training": {
            "max_length": 128,
            "learning_rate": RATES[number],
            "per_device_train_batch_size": number + 1,
            "packing": number % 2 == 0,
        },
    }


def policy(project: Project, name: str, jobs: dict[str, Any], **more: Any) -> None:
    stated = {"ftcheck": 1, "name": name, "jobs": jobs, "checks": CHECKS, **more}
    project.write(f"policies/{name}.yaml", json.dumps(stated))


@pytest.fixture
def many(project: Project, samples: Path) -> Project:
    """3 policies over a data set each, of 4 jobs each."""
    project.rules(COUNTED, ASKED)
    for data in range(3):
        project.write(f"d{data}.jsonl", rows(data))
        policy(project, f"set{data}", {f"job{n}": job(f"d{data}.jsonl", n, samples) for n in range(4)})
    return project


def run(project: Project, *arguments: str, **environment: str) -> Ran:
    return project.call("run", *arguments, "--rules-dir", "rules", "--offline", **environment)


def stable(file: Path) -> dict[str, Any]:
    report = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in report.items() if key != "run"}


@pytest.mark.parametrize("cache", [(), ("--no-cache",)])
def test_each_data_set_is_prepared_once_and_each_report_is_the_one_of_the_policy_alone(
    many: Project, cache: tuple[str, ...]
) -> None:
    ran = run(many, "policies/", "-n", "2", "-o", "json=out/", "-o", "html=out/", *cache)

    assert ran.code == 0, ran.out + ran.err
    prepared = (many.folder / "prepared.log").read_text().splitlines()
    assert sorted(Path(one).name for one in prepared) == ["d0.jsonl", "d1.jsonl", "d2.jsonl"]
    assert (many.folder / "asked.log").read_text().splitlines() == ["128"] * 3
    assert "12 passed" in ran.out
    assert "gate open for 12 of 12 jobs" in ran.out
    index = (many.folder / "out" / "index.html").read_text(encoding="utf-8")
    for data in range(3):
        assert f'href="set{data}.html"' in index
        assert (many.folder / "out" / f"set{data}.html").is_file()
        name = f"set{data}"
        alone = run(many, f"policies/{name}.yaml", "-o", f"json={name}.json", "--no-cache")
        assert alone.code == 0
        assert stable(many.folder / "out" / f"{name}.json") == stable(many.folder / f"{name}.json")


POINTED = rule_text("pointed", "yield Finding('here', at=prepared.at(3))", "job: Job, prepared: Prepared")


@pytest.mark.parametrize("cache", [(), ("--no-cache",)])
def test_a_finding_names_the_file_of_its_own_job_where_another_has_the_same_rows(
    many: Project, samples: Path, cache: tuple[str, ...]
) -> None:
    many.rules(COUNTED, ASKED, POINTED)
    many.write("copy.jsonl", rows(0))
    jobs = {"first": job("d0.jsonl", 0, samples), "second": job("copy.jsonl", 0, samples)}
    policy(many, "copied", jobs, checks={**CHECKS, "pointed": {}})

    run(many, "policies/copied.yaml", "-o", "json=copied.json", *cache)

    report = json.loads((many.folder / "copied.json").read_text(encoding="utf-8"))
    places = {
        one["job"]: Path(finding["path"]).name
        for one in report["results"]
        for finding in one["findings"]
        if one["rule"] == "pointed"
    }
    assert places == {"first": "d0.jsonl", "second": "copy.jsonl"}


VARIED: dict[str, dict[str, Any]] = {
    "usual": {},
    "another-rate": {"training": {"learning_rate": 3e-4}},
    "shorter": {"training": {"max_length": 12}},
    "a-sample": {"data": {"sample": {"rows": 100}}},
    "the-sample-shorter": {"data": {"sample": {"rows": 100}}, "training": {"max_length": 12}},
    "another-sample": {"data": {"sample": {"rows": 100, "seed": 1}}},
    "epochs": {"training": {"num_train_epochs": 1, "warmup_steps": 5, "completion_only_loss": False}},
}


def test_all_recommended_checks_say_of_each_job_what_they_say_of_it_alone(
    project: Project, samples: Path
) -> None:
    project.write("d.jsonl", "".join(rows(number) for number in range(4)))
    usual = job("d.jsonl", 1, samples)
    jobs = {
        name: {key: value | more.get(key, {}) for key, value in usual.items()}
        for name, more in VARIED.items()
    }
    stated = {"ftcheck": 1, "name": "varied", "extends": ["recommended"], "jobs": jobs}
    project.write("policies/varied.yaml", json.dumps(stated))

    project.call("run", "policies/varied.yaml", "--offline", "--no-cache", "-o", "json=r.json")

    report = json.loads((project.folder / "r.json").read_text(encoding="utf-8"))
    together = {one["id"]: one for one in report["results"]}
    for name in VARIED:
        words = ("--job", name, "--offline", "--no-cache", "-o", f"json={name}.json")
        project.call("run", "policies/varied.yaml", *words)
        alone = json.loads((project.folder / f"{name}.json").read_text(encoding="utf-8"))
        assert report["jobs"][name] == alone["jobs"][name]
        of_job = [one for one in alone["results"] if one["job"] == name]
        assert len(of_job) > 30
        assert [together[one["id"]] for one in of_job] == of_job


def test_jobs_that_a_rule_can_tell_apart_are_each_asked(many: Project, samples: Path) -> None:
    jobs = {f"job{n}": job("d0.jsonl", n, samples) for n in range(4)}
    for number in (1, 2):
        jobs[f"job{number}"]["training"]["max_length"] = 12 * number
    policy(many, "cut", jobs)

    ran = run(many, "policies/cut.yaml", "-o", "json=cut.json")

    assert sorted((many.folder / "asked.log").read_text().splitlines()) == ["12", "128", "24"]
    report = json.loads((many.folder / "cut.json").read_text(encoding="utf-8"))
    kept = {name: one["ids"] for name, one in report["jobs"].items()}
    assert len(set(kept.values())) == 3
    assert kept["job0"] == kept["job3"]
    for name in jobs:
        policy(many, "alone", {name: jobs[name]})
        assert run(many, "policies/alone.yaml", "-o", "json=one.json", "--no-cache").code in (0, ran.code)
        one = json.loads((many.folder / "one.json").read_text(encoding="utf-8"))
        assert one["jobs"][name]["ids"] == kept[name]
        theirs = {r["id"]: (r["outcome"], r["measurements"], r["findings_total"]) for r in report["results"]}
        for result in one["results"]:
            mine = (result["outcome"], result["measurements"], result["findings_total"])
            assert theirs[result["id"]] == mine


def test_the_worst_is_first_and_gives_the_exit_code(many: Project, samples: Path) -> None:
    bad = {f"job{n}": job("d1.jsonl", n, samples) for n in range(2)}
    bad["job0"]["training"]["max_length"] = 8
    policy(many, "cut", bad)
    many.write("policies/broken.yaml", "ftcheck: 1\njbos: {}\nchekcs: {}\n")
    gone = job("gone.jsonl", 0, samples)
    policy(many, "gone", {"lost": gone})

    ran = run(many, "policies/*.yaml", "-n", "1", "-o", "json=out/{policy}-report.json")

    assert ran.code == 2
    lines = [one for one in ran.out.splitlines() if one.strip()]
    assert lines[0].endswith("6 policies · 1 at a time")
    assert lines[1].startswith("! broken")
    assert "broken.yaml:1:1: the policy has no jobs" in lines[1]
    assert "(and 2 more)" in lines[1]
    assert lines[2].startswith("! gone · lost")
    assert "incomplete: " in lines[2]
    assert lines[3].startswith("✗ cut · job0")
    assert "truncation" in lines[3]
    assert "13 passed" in lines[4]
    assert json.loads((many.folder / "out/broken-report.json").read_text())["status"] == "incomplete"
    (many.folder / "policies/broken.yaml").unlink()
    assert run(many, "policies").code == 3
    (many.folder / "policies/gone.yaml").unlink()
    assert run(many, "policies/").code == 1


def test_a_hundred_jobs_fit_a_screen(project: Project, samples: Path) -> None:
    odd = "yield Finding(f'{job.name} is odd') if job.name[-1] in '13' else Measurement('n', len(prepared))"
    project.rules(rule_text("odd", odd, "job: Job, prepared: Prepared"))
    project.write("d.jsonl", rows(0))
    for number in range(20):
        jobs = {f"job{n}": job("d.jsonl", n % 4, samples) for n in range(5)}
        text = {"ftcheck": 1, "jobs": jobs, "checks": {"odd": {}, "fine": {}}}
        project.write(f"policies/p{number:02}.yaml", json.dumps(text))

    ran = run(project, "policies", LINES="24")

    assert ran.code == 1
    assert len(ran.out.splitlines()) <= 24
    assert "p00 · 2 jobs (job1 … job3)" in ran.out
    assert "40 failed, 60 passed" in ran.out
    assert "more that did not pass" in ran.out
    assert len(run(project, "policies", "-v", LINES="24").out.splitlines()) > 24


def test_a_glob_without_policies_and_a_policy_without_jobs_are_not_green(project: Project) -> None:
    project.rules()
    (project.folder / "empty").mkdir()
    for stated in ("nothing/*.yaml", "empty", "empty/"):
        ran = run(project, stated)
        assert ran.code == 2
        assert len(ran.err.splitlines()) == 1
        assert stated in ran.err
    project.write("policies/a.yaml", "ftcheck: 1\nchecks: {}\n")
    project.write("policies/b.yaml", "ftcheck: 1\njobs: {j: {model: {name: ./m}}}\nchecks: {fine: {}}\n")
    ran = run(project, "policies")
    assert ran.code != 0
    assert "! a" in ran.out


def test_collect_only_names_the_policy_that_cannot_be_used_and_lists_the_others(project: Project) -> None:
    for name in ("a", "b"):
        jobs = f"jobs: {{{name}: {{model: {{name: ./m}}}}}}\nchecks: {{fine: {{}}}}\n"
        project.write(f"policies/{name}.yaml", f"ftcheck: 1\n{jobs}")

    ran = run(project, "policies", "--collect-only", "--job", "b")

    assert ran.code == 2
    assert ran.out.splitlines() == ["policies/b.yaml: fine"]
    assert "policies/a.yaml: no job 'b'; known: a" in ran.err


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("json=one.json", "json=one-{policy}.json"),
        ("json", "name a folder"),
        ("jsn=out/", "did you mean 'json'"),
    ],
)
def test_outputs_that_several_policies_would_share_are_refused(many: Project, output: str, said: str) -> None:
    ran = run(many, "policies/", "-o", output)

    assert ran.code == 2
    assert said in ran.err
    assert not (many.folder / "prepared.log").exists()


def test_ctrl_c_ends_all_and_writes_what_there_is(many: Project) -> None:
    many.rules(
        COUNTED,
        ASKED.replace(
            "yield Measurement", "while not os.path.exists('go'): time.sleep(0.01)\n    yield Measurement"
        ),
    )
    running = many.start(
        "run", "policies/", "--rules-dir", "rules", "--offline", "-n", "2", "-o", "json=out/"
    )
    asked = many.folder / "asked.log"
    running.started.until(lambda: asked.exists() and len(asked.read_text().splitlines()) == 2)

    os.kill(running.started.pid, signal.SIGINT)
    ran = running.end()

    assert ran.code == 130
    reports = [json.loads((many.folder / f"out/set{n}.json").read_text()) for n in range(3)]
    assert {one["status"] for one in reports} == {"incomplete"}
    assert sum(bool(one["results"]) for one in reports) == 2
    assert "not run: interrupted before its first check" in ran.out


def test_a_worker_that_dies_costs_the_check_in_flight_alone(many: Project) -> None:
    many.rules(
        COUNTED,
        ASKED.replace(
            "yield Measurement",
            "os._exit(9) if job.training.learning_rate == 2e-4 else None\n    yield Measurement",
        ),
    )

    ran = run(many, "policies", "-n", "1", "-o", "json=out/")

    assert ran.code == 3
    for number in range(3):
        report = json.loads((many.folder / f"out/set{number}.json").read_text())
        broken = [one["id"] for one in report["results"] if one["outcome"] == "errored"]
        assert broken == ["job1::asked"]
    assert len((many.folder / "prepared.log").read_text().splitlines()) == 3


def test_jobs_of_one_policy_are_checked_side_by_side(many: Project, samples: Path) -> None:
    who = rule_text(
        "who",
        "open('who.log', 'a').write(f'{os.getpid()}\\n')\nyield Measurement('n', 1)",
        "prepared: Prepared",
    )
    many.rules(COUNTED, ASKED, who)
    jobs = {f"d{data}-{n}": job(f"d{data}.jsonl", n, samples) for data in range(3) for n in range(2)}
    policy(many, "all", jobs, checks={**CHECKS, "who": {}})

    for count in ("1", "2"):
        files = ("-o", f"json=all{count}.json", "--no-cache")
        assert run(many, "policies/all.yaml", "-n", count, *files).code == 0
        asked = (many.folder / "who.log").read_text().split()
        assert (len(asked), len(set(asked))) == (3, int(count))
        assert len((many.folder / "prepared.log").read_text().splitlines()) == 3
        for log in ("who.log", "prepared.log"):
            (many.folder / log).unlink()

    assert stable(many.folder / "all1.json") == stable(many.folder / "all2.json")


def test_the_table_says_what_is_wrong_and_not_more(many: Project, samples: Path) -> None:
    """Data that is not there is the reason and no list of checks; a part of the checks shuts the gate, and
    nothing has failed; a check of the host that fails is no check of the job.
    """
    policy(many, "set0", {"job0": job("gone.jsonl", 0, samples)})
    policy(many, "set1", {"job0": job("d1.jsonl", 0, samples)}, gate={"require": ["job0::schedule"]})
    (many.folder / "policies/set2.yaml").unlink()

    ran = run(many, "policies", "--select", "trained-tokens", "-o", "html=out/")

    assert ran.code == 3, ran.out + ran.err
    [absent] = [line for line in ran.out.splitlines() if "set0 · job0" in line]
    assert absent.startswith("! ")
    assert "incomplete: " in absent
    assert "no such file" in absent
    [shut] = [line for line in ran.out.splitlines() if "set1 · job0" in line]
    assert shut.split("  ")[-1].strip() == "gate shut: required"
    assert "1 incomplete, 1 gate shut, 0 passed · gate open for 0 of 2 jobs" in ran.out
    assert "gate shut" in (many.folder / "out/index.html").read_text(encoding="utf-8")


def test_two_commands_at_once_prepare_each_data_set_once(many: Project) -> None:
    first, second = (
        many.start("run", "policies", "--rules-dir", "rules", "--offline", "-n", "1", "-o", f"json=out{n}/")
        for n in range(2)
    )

    assert (first.end().code, second.end().code) == (0, 0)
    assert len((many.folder / "prepared.log").read_text().splitlines()) == 3


def test_list_is_a_matrix(many: Project) -> None:
    many.write("policies/broken.yaml", "ftcheck: 1\njbos: {}\n")
    listed = ("list", "policies/*.yaml", "--rules-dir", "rules")

    ran = many.call(*listed, "--json")

    assert ran.code == 2
    assert "broken.yaml:2:1: jbos: unknown key 'jbos'" in ran.err
    matrix = json.loads(ran.out)["include"]
    assert len(matrix) == 12
    assert matrix[5] == {
        "policy": "policies/set1.yaml",
        "job": "job1",
        "name": "set1",
        "stage": "before",
        "checks": 10,
    }
    assert "policies/set1.yaml  job1  10 checks" in many.call(*listed).out
    assert many.call("list", "policies/set0.yaml", "--rules-dir", "rules").code == 0


@pytest.mark.parametrize("count", ["0", "-1", "x", "\u00b2", "1.5"])
def test_a_number_of_processes_that_is_none_is_refused(count: str, tmp_path: Path) -> None:
    ran = Project(tmp_path).call("run", "policies", f"--numprocesses={count}")

    assert ran.code == 2
    assert f"'{count}' is neither a number from 1 nor 'auto'" in ran.err


def test_there_are_no_more_workers_than_have_anything_to_do() -> None:
    assert at_once(999, 2) == HELPERS
    assert at_once(999, 40) == 40
    assert at_once(3, 40) == 3


def test_a_cluster_that_would_not_be_used_is_an_error(tmp_path: Path) -> None:
    for address in ("10.0.0.1:6379", ""):
        ran = Project(tmp_path).call("run", "policy.yaml", "--ray-address", address)
        assert ran.code == 2
        assert "no cluster is used without --engine ray" in ran.err
    ran = Project(tmp_path).call("run", "policy.yaml", "--engine", "ray", "--ray-address", "")
    assert ran.code == 2
    assert "--ray-address: name a cluster" in ran.err
