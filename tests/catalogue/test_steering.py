"""What a stranger with the right to write to a topic may say, and what not."""

from __future__ import annotations

import pytest

from tests.catalogue.desk import desk


@pytest.mark.parametrize("kind", [b"operate", b"bind", b"deliver", b"answer", b"nonsense"])
async def test_a_message_on_a_users_topic_cannot_steer_an_instance(kind: bytes) -> None:
    """Who may write to a topic could otherwise cancel instances: it is a dead letter, and its neighbour goes on."""
    async with desk() as d:
        await d.put(b'{"id":"k-1","cents":1}', headers=(("cp-kind", kind), ("cp-to", b"claim/k-1")))
        await d.settle()
        assert [letter.code for letter in d.dead()] == ["CP419"]
        assert d.dead()[0].value == b'{"id":"k-1","cents":1}'
