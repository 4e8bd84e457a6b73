"""Work is taken over by jobs of which nothing that was read differs, and by no other."""

from dataclasses import replace
from typing import Any

import pytest

from ftcheck import InputError
from ftcheck.inputs.container import Inputs, Run, Store
from ftcheck.inputs.loader import Loader
from ftcheck.inputs.traces import Traces, same
from ftcheck.settings import Job, Model, Training


def job(name: str, **training: Any) -> Job:
    return Job(name=name, model=Model(name="/m"), training=Training(**training))


class Bench:
    """Loaders that count how often they work, and the inputs of several jobs that share what they make."""

    def __init__(self, tmp_path: Any) -> None:
        self.worked: list[str] = []
        self.told: list[str] = []
        self.digests: dict[str, str] = {}
        self.traces = Traces()
        self.folder = tmp_path
        self.late: list[Job] = []
        loaders = {
            "cut": Loader("cut", self.cut, ("job", "run")),
            "twice": Loader("twice", self.twice, ("cut", "inputs")),
            "tokens": Loader("tokens", self.tokens, ("job",)),
        }
        self.loaders = loaders

    def cut(self, job: Job, run: Run) -> list[int]:
        self.worked.append(f"cut {job.label}")
        self.late.append(job)
        run.digests.get(f"{job.label}.train")
        run.note(f"{job.label}.train: cut")
        if job.training.max_length == 13:
            raise InputError(f"job {job.label}: 13")
        return [job.training.max_length or 0]

    def twice(self, cut: list[int], inputs: Inputs) -> list[int]:
        self.worked.append("twice")
        return cut * (2 if inputs.get("tokens") is None else 3)

    def tokens(self, job: Job) -> object:
        return None if job.training.packing else [1]

    def inputs(self, about: Job, policy: str = "p.yaml") -> Inputs:
        run = Run(folder=self.folder, digests=self.digests, note=self.told.append, policy=policy)
        return Inputs(self.loaders, {"run": run, "jobs": ()}, about, Store(), traces=self.traces)


@pytest.fixture
def bench(tmp_path: Any) -> Bench:
    return Bench(tmp_path)


def test_jobs_that_differ_in_what_is_not_read_share_the_work(bench: Bench) -> None:
    one, other = bench.inputs(job("a", max_length=5)), bench.inputs(job("b", max_length=5, learning_rate=0.1))

    assert one.get("cut") is other.get("cut")
    assert bench.worked == ["cut a"]
    assert bench.told == ["a.train: cut", "b.train: cut"]


def test_what_is_read_keeps_jobs_apart(bench: Bench) -> None:
    assert bench.inputs(job("a", max_length=5)).get("cut") == [5]
    assert bench.inputs(job("b", max_length=6)).get("cut") == [6]
    assert bench.inputs(job("c", max_length=5)).get("cut") == [5]

    assert bench.worked == ["cut a", "cut b"]


def test_other_bytes_in_the_data_keep_jobs_apart(bench: Bench) -> None:
    bench.digests = {"a.train": "1", "b.train": "2", "c.train": "1"}
    for name in "abc":
        bench.inputs(job(name, max_length=5)).get("cut")

    assert bench.worked == ["cut a", "cut b"]


def test_an_input_of_an_input_is_looked_up_for_the_other_job(bench: Bench) -> None:
    assert bench.inputs(job("a", max_length=5)).get("twice") == [5, 5, 5]
    assert bench.inputs(job("b", max_length=5, packing=True)).get("twice") == [5, 5]
    assert bench.inputs(job("c", max_length=5, learning_rate=0.1)).get("twice") == [5, 5, 5]

    assert bench.worked == ["cut a", "twice", "twice"]


def test_a_failure_is_each_job_s_own(bench: Bench) -> None:
    for name in "ab":
        with pytest.raises(InputError, match=f"job {name}: 13"):
            bench.inputs(job(name, max_length=13)).get("cut")


def test_what_is_read_late_must_hold_for_all_who_took_the_result(bench: Bench) -> None:
    one = bench.inputs(job("a", max_length=5, seed=1))
    same, different = (bench.inputs(job(n, max_length=5, seed=s)) for n, s in (("b", 1), ("c", 2)))
    assert one.get("cut") is same.get("cut")
    assert bench.late[0].training.seed == 1
    assert different.get("cut") == [5]
    assert bench.worked == ["cut a", "cut c"]

    other = bench.inputs(job("d", max_length=5, seed=1, learning_rate=0.5))
    assert other.get("cut") is different.get("cut")
    with pytest.raises(RuntimeError, match=r"training\.learning_rate"):
        _ = bench.late[1].training.learning_rate


def test_only_the_last_results_are_held(bench: Bench) -> None:
    for number in (*range(1, 10), 1):
        bench.inputs(job("a", max_length=number)).get("cut")

    assert len(bench.worked) == 10


def test_a_host_s_input_is_shared_by_policies_unless_it_reads_which_one(bench: Bench) -> None:
    def where(run: Run) -> str:
        bench.worked.append("where")
        return f"in {run.policy}"

    def what(run: Run) -> str:
        bench.worked.append("what")
        return f"{run.offline}"

    bench.loaders |= {"where": Loader("where", where, ("run",)), "what": Loader("what", what, ("run",))}
    for policy in ("p.yaml", "q.yaml", "p.yaml"):
        inputs = bench.inputs(replace(job("a"), name=policy), policy)
        assert (inputs.get("where"), inputs.get("what")) == (f"in {policy}", "False")

    assert bench.worked == ["where", "what", "where"]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), ({"a": 1}, {"a": True}), ([0], [False]), ((1, {"b": [0]}), (1, {"b": [0.0]}))],
)
def test_values_of_other_types_are_not_the_same(one: Any, other: Any) -> None:
    assert one == other
    assert not same(one, other)
    assert not same(job("a", extra={"k": one}).training, job("a", extra={"k": other}).training)
    assert same(job("a", extra={"k": one}), job("a", extra={"k": one}))
