"""A tokenizer for the tests of the preparation."""

from pathlib import Path

import pytest
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.model.tokenizer import ChatTokenizer

from ftcheck.records import Location


@pytest.fixture
def chat(samples: Path) -> ChatTokenizer:
    """The mapper's."""
    at = Location(path="policy.yaml")
    return tokenizer.open_tokenizer(str(samples / "models" / "mapper-tiny"), offline=True, place=at)
