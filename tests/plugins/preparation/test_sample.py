"""A sample's rows are prepared as the same rows are among all, and say of themselves what they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ftcheck_plugins.preparation import preparation

from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.sampling.draw import keys
from ftcheck.sampling.row_sample import RowSample
from ftcheck.settings import Data, Job, Model, Sampling, Training
from tests.plugins.preparation.kit import LOADERS, turns

ROWS = 400


def job(samples: Path, folder: Path, sampling: Sampling | None, **data: Any) -> Job:
    path = folder / "rows.jsonl"
    if not path.exists():
        said = (json.dumps({"messages": turns(f"answer {n} " * (1 + n % 9))}) for n in range(ROWS))
        path.write_text("\n\n".join(said) + "\n", encoding="utf-8")
    return Job(
        name="job",
        model=Model(name=str(samples / "models" / "mapper-tiny")),
        data=Data(train=str(path), sample=sampling, **data),
        training=Training(max_length=64),
    )


def prepare(one: Job, folder: Path, **given: Any) -> Prepared:
    prepared: Prepared = Inputs(LOADERS, {"run": Run(folder=folder, **given)}, one).get("prepared")
    return prepared


def test_the_rows_of_a_sample_are_prepared_as_among_all(samples: Path, tmp_path: Path) -> None:
    whole = prepare(job(samples, tmp_path, None), tmp_path / "work")
    some = prepare(job(samples, tmp_path, Sampling(rows=50, seed=2)), tmp_path / "work")

    chosen = sorted(np.argsort(keys(2, 0, ROWS))[:50].tolist())
    assert len(some) == 50
    assert some.length.tolist() == whole.length[chosen].tolist()
    assert [some.tokens.ids(n).tolist() for n in range(50)] == [whole.tokens.ids(n).tolist() for n in chosen]
    assert [some.at(n) for n in range(50)] == [whole.at(n) for n in chosen]
    assert some.at(0).row == chosen[0] + 1


def test_it_claims_no_digest_over_all_ids(samples: Path, tmp_path: Path) -> None:
    some = prepare(job(samples, tmp_path, Sampling(rows=50, seed=2)), tmp_path / "work")

    assert some.digest is None
    assert some.sample is not None
    assert some.sample == RowSample(50, ROWS, 2, some.sample.ids)
    assert some.sample.ids is not None


@pytest.mark.parametrize("rows", [ROWS, ROWS + 1])
def test_a_sample_of_all_rows_is_an_ordinary_run(samples: Path, tmp_path: Path, rows: int) -> None:
    whole = prepare(job(samples, tmp_path, None), tmp_path / "one")
    some = prepare(job(samples, tmp_path, Sampling(rows=rows)), tmp_path / "other")

    assert some.sample is None
    assert some.digest == whole.digest
    assert some.digest is not None


def test_several_processes_prepare_the_same_sample(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftcheck_plugins.preparation import processes

    one = job(samples, tmp_path, Sampling(rows=200, seed=8))
    alone = prepare(one, tmp_path / "alone", workers=1)
    monkeypatch.setattr(processes, "PIECE", 2_000)
    monkeypatch.setattr(processes, "WORTH", 1)
    together = prepare(one, tmp_path / "together", workers=3)

    assert together.sample == alone.sample
    assert together.rows.line.tolist() == alone.rows.line.tolist()
    assert list(together.rows.records) == list(alone.rows.records)


def test_a_kept_sample_is_found_again_and_another_seed_is_not(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    found: list[str] = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        one = job(samples, tmp_path, Sampling(rows=30, seed=seed))
        made = prepare(one, tmp_path / folder, cache=True, cached=found.append)
        assert made.sample is not None
        assert made.sample.seed == seed
        assert made.rows.numbers is not None
    assert found == ["job.train"]


def test_texts_are_those_of_the_rows(samples: Path, tmp_path: Path) -> None:
    some = prepare(job(samples, tmp_path, Sampling(rows=5, seed=3)), tmp_path / "work")
    chosen = sorted(np.argsort(keys(3, 0, ROWS))[:5].tolist())

    assert [some.rows.texts(n)[1][1].split()[1] for n in range(5)] == [str(n) for n in chosen]


def test_held_out_rows_are_sampled_too_and_data_eval_is_read_whole(samples: Path, tmp_path: Path) -> None:
    loaders = LOADERS | {"prepared_eval": preparation.prepared_eval}
    run = Run(folder=tmp_path / "work")
    divided = job(samples, tmp_path, Sampling(rows=20), validation_split=0.25)
    parts = Inputs(loaders, {"run": run}, divided)
    assert parts.get("prepared").sample.of == 300
    assert parts.get("prepared_eval").sample.of == 100

    named = job(samples, tmp_path, Sampling(rows=20), eval=str(tmp_path / "rows.jsonl"))
    assert Inputs(loaders, {"run": Run(folder=tmp_path / "other")}, named).get("prepared_eval").sample is None


def test_the_layout_is_that_of_the_first_row_of_all(samples: Path, tmp_path: Path) -> None:
    """The first row, which is not drawn, has a text beside its messages: TRL looks at its columns."""
    one = job(samples, tmp_path, Sampling(rows=50, seed=2))
    assert 0 not in np.argsort(keys(2, 0, ROWS))[:50]
    path = tmp_path / "rows.jsonl"
    rest = path.read_text(encoding="utf-8").partition("\n")[2]
    path.write_text(json.dumps({"text": "plain"}) + "\n" + rest, encoding="utf-8")

    some = prepare(one, tmp_path / "work")

    assert some.rows.format == "text"
    assert some.rows.opening == {"text": "text"}
    assert len(some.row_errors) == 50
