"""alignment-handbook: mixtures of data sets, and a template in the file."""

from pathlib import Path

from ftcheck.policy.nodes import plain
from tests.importers.test_sheet import imported

HEAD = "model_name_or_path: m\n"


def test_the_older_mixer_takes_shares_of_data_sets(tmp_path: Path) -> None:
    text = HEAD + "dataset_mixer:\n  org/a.b: 1.0\n  org/c: 0.5\ndataset_splits: [train_sft]\n"
    tree, record = imported(tmp_path, text)

    assert record.framework == "alignment-handbook"
    assert plain(tree)["data"] == {"train": ["org/a.b", "org/c"]}
    refused = {one.key: one.changes for one in record.not_mapped}
    assert refused == {"dataset_mixer.org/c": ("ids",), "dataset_splits": ("ids",)}
    assert [one.at.line for one in record.mapped if one.key == "dataset_mixer.org/a.b"] == [3]


def test_weights_and_columns_of_a_mixture(tmp_path: Path) -> None:
    text = HEAD + "dataset_mixture:\n  datasets:\n    - {id: a, weight: 0.1, columns: [messages, x]}\n"
    refused = {one.key for one in imported(tmp_path, text)[1].not_mapped}
    assert refused == {"dataset_mixture.datasets.0.weight", "dataset_mixture.datasets.0.columns"}


def test_a_template_in_the_file_stands_for_model_chat_template(tmp_path: Path) -> None:
    text = HEAD + "dataset_mixer: {a: 1.0}\nchat_template: '{{ messages }}'\n"
    [found] = imported(tmp_path, text)[1].not_mapped
    assert (found.key, found.stands) == ("chat_template", "model.chat_template")
    assert found.value == "{{ messages }}"
