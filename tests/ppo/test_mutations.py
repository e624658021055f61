"""The mutations of learning (``make mutations``) still say where the package is to be broken."""

from pathlib import Path

import mutations
import pytest

PPO = Path(mutations.ROOT, "mjxppo", "ppo")


@pytest.mark.parametrize("mutation", mutations.read(), ids=lambda mutation: mutation.what)
def test_its_text_stands_in_the_file_once(mutation):
    assert (PPO / mutation.file).read_text().count(mutation.old) == 1
    assert Path(mutations.ROOT, mutation.tests).is_file()
