"""The case of `/work/shared/cases` whose Parquet file gave every call all calls' arguments."""

from pathlib import Path

import pytest

from tests.cli.test_cases_fail import run_case

pytestmark = pytest.mark.realdata


def test_parquet_null_args(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    seen = run_case("parquet-null-args", tmp_path)

    [finding] = seen.of("arrow-nulls")
    assert finding["severity"] == "error"
    assert "60 of 60 rows" in finding["message"]
    assert "500 tokens, 500 of them in the loss" in finding["message"]
    assert finding["row"] == 1
    assert finding["change"]["path"] == "jobs.j.data.drop_nulls"
