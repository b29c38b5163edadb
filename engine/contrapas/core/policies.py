"""Retry policies as the text that records hold; a saga has few, so each is written and read once."""

from __future__ import annotations

from functools import lru_cache

from contrapas.author.retry import Retry


@lru_cache(maxsize=1024)
def policy_text(policy: Retry) -> str:
    """A policy as JSON text."""
    return policy.text()


@lru_cache(maxsize=1024)
def policy_from(text: str) -> Retry:
    """Back from the text."""
    return Retry.parse(text)
