"""Which files a folder of prepared rows stands for, and what is said of half of one."""

import json
from pathlib import Path

import pytest

from ftcheck.errors import InputError
from ftcheck.inputs import prepared_folder

INFO: dict[str, dict[str, str]] = {"features": {}}


def shards(folder: Path, *names: str, state: bool = True) -> Path:
    """A folder as `save_to_disk` leaves it; its files hold nothing."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    if state:
        told = {"_data_files": [{"filename": name} for name in names]}
        (folder / "state.json").write_text(json.dumps(told), encoding="utf-8")
        (folder / "dataset_info.json").write_text(json.dumps(INFO), encoding="utf-8")
    return folder


def split_names(folder: Path, *names: str) -> Path:
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": names}), encoding="utf-8")
    return folder


def names(found: prepared_folder.PreparedFolder) -> dict[str, list[str]]:
    return {split: [Path(one).name for one in files] for split, files in found.splits.items()}


def test_the_shards_of_a_saved_data_set_in_the_order_of_its_state(tmp_path: Path) -> None:
    found = prepared_folder.find(str(shards(tmp_path / "ds", "data-1.arrow", "data-0.arrow")))
    assert names(found) == {"train": ["data-1.arrow", "data-0.arrow"]}
    assert found.evaluation is None


def test_a_dict_of_splits_has_one_for_training_and_one_for_evaluation(tmp_path: Path) -> None:
    for name in ("train", "validation_a", "validation_b", "rest"):
        shards(tmp_path / "ds" / name, f"{name}.arrow")
    split_names(tmp_path / "ds", "rest", "train", "validation_a", "validation_b")
    found = prepared_folder.find(str(tmp_path / "ds"))
    assert names(found) == {
        "train": ["train.arrow"],
        "validation": ["validation_a.arrow", "validation_b.arrow"],
    }
    assert found.evaluation == "validation"


def test_files_alone_and_the_one_data_set_in_axolotls_folder(tmp_path: Path) -> None:
    shards(tmp_path / "loose", "train-0.parquet", "test-0.parquet", "cache-1.arrow", state=False)
    assert names(prepared_folder.find(str(tmp_path / "loose"))) == {
        "train": ["train-0.parquet"],
        "validation": ["test-0.parquet"],
    }
    one = str(tmp_path / "loose" / "train-0.parquet")
    assert prepared_folder.find(one).splits == {"train": (one,)}
    inner = shards(tmp_path / "last_run_prepared" / "0123", "data.arrow")
    assert prepared_folder.find(str(tmp_path / "last_run_prepared")).path == str(inner)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("nowhere", "nowhere: no such folder: prepare the rows first, or correct the path"),
        ("empty", "empty: no prepared rows in it: neither state.json nor an .arrow or Parquet file"),
        ("stateless", "stateless: half written: state.json, which is written last, is missing"),
        ("shardless", "shardless: half written: gone.arrow, named by state.json, is missing"),
        ("splitless", "splitless/validation: is named by"),
        ("outside", "../x.arrow is not a file of this folder"),
        ("two", "two: has 2 prepared data sets (a, b): name one of them"),
        ("tests", "dataset_dict.json: has no split 'train', but test, dev"),
        ("broken", "state.json:1:2: not valid JSON"),
        ("list.json", "list.json: neither a folder nor an .arrow or Parquet file of prepared rows"),
    ],
)
def test_what_is_no_folder_of_prepared_rows_is_one_clear_line(tmp_path: Path, made: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    shards(tmp_path / "stateless", "data-00000-of-00001.arrow", state=False)
    (shards(tmp_path / "shardless", "gone.arrow") / "gone.arrow").unlink()
    shards(tmp_path / "splitless" / "train", "t.arrow")
    split_names(tmp_path / "splitless", "train", "validation")
    told = {"_data_files": [{"filename": "../x.arrow"}]}
    (shards(tmp_path / "outside", "x.arrow") / "state.json").write_text(json.dumps(told), encoding="utf-8")
    for name in ("a", "b"):
        shards(tmp_path / "two" / name, "data.arrow")
    (tmp_path / "tests").mkdir()
    split_names(tmp_path / "tests", "test", "dev")
    (shards(tmp_path / "broken", "d.arrow") / "state.json").write_text("{", encoding="utf-8")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"folder|state|split") as raised:
        prepared_folder.find(str(tmp_path / made))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_digest_is_over_the_named_files_alone(tmp_path: Path) -> None:
    folder = shards(tmp_path / "ds", "data.arrow")
    before = prepared_folder.find(str(folder)).digest()
    (folder / "cache-1.arrow").write_bytes(b"of a map")
    assert prepared_folder.find(str(folder)).digest() == before
    (folder / "data.arrow").write_bytes(b"other")
    assert prepared_folder.find(str(folder)).digest() != before


def test_a_name_that_no_file_system_takes_is_one_line() -> None:
    with pytest.raises(InputError, match=r"cannot be read|no such folder"):
        prepared_folder.find("x" * 5_000)
