"""What is missing on this machine is a visible skip, and a failure where everything must run."""

from __future__ import annotations

import pytest

from tests.installed import connector_listed


def test_a_connector_that_is_not_listed_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make setup"):
        connector_listed("no such connector")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="make setup"):
        connector_listed("no such connector")
