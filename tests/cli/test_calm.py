"""A process of ours looks for garbage seldom; one that was told how often keeps to that."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from contrapas.cli.calm import calm


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_is_there_is_let_be_and_the_rest_looked_at_seldom() -> None:
    gc.set_threshold(700, 10, 10)
    calm(20_000, 20, 30)
    assert gc.get_threshold() == (20_000, 20, 30)
    assert gc.get_freeze_count() > 1_000


def test_a_threshold_that_somebody_has_set_stays() -> None:
    gc.set_threshold(100_000, 5, 5)
    calm(20_000, 20, 20)
    assert gc.get_threshold() == (100_000, 5, 5)
