"""What may differ between a page and a run, and what may not."""

from tests.docs.same import same


def test_times_dates_and_digests_may_differ() -> None:
    shown = ["82 passed in 5.4 s · gate open until 2026-11-30 00:25", "ids sha256:0123abcd…"]

    assert same(shown, ["82 passed in 1.7 s · gate open until 2027-01-02 07:02", "ids sha256:ffff0000…"])


def test_a_count_may_not() -> None:
    assert not same(["82 passed in 5.4 s"], ["81 passed in 5.4 s"])


def test_a_gap_stands_for_any_lines_and_no_other() -> None:
    assert same(["a", "...", "z"], ["a", "b", "c", "z"])
    assert same(["a", "...", "z"], ["a", "z"])
    assert not same(["a", "...", "z"], ["a", "b", "y"])
    assert not same(["a", "z"], ["a", "b", "z"])


def test_a_gap_in_a_line_stands_for_any_words() -> None:
    assert same(["- gpu ..."], ["- gpu      skipped: no NVIDIA GPU on this machine"])
    assert not same(["- gpu ..."], ["✓ gpu      1 GPU"])


def test_the_folder_is_not_part_of_a_path() -> None:
    assert same(["policy.yaml:1:2"], ["/tmp/x7/policy.yaml:1:2"], folder="/tmp/x7")
