"""What an instance has to do with others: commands it has not answered, its newest answers, starts that wait, its view.

Most instances have none of it, and their records hold one byte for all. The values here are replaced, never changed:
`talk_of` gives a transition a copy of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from contrapas.core.envelope import Answered, InstanceRecord, Talk

ANSWERS_MAX: Final = 64
ANSWERS_BYTES_MAX: Final = 64_000
UNDONE_MAX: Final = 64
STATUS: Final = "$status"
"""`Asked.type` of who waits for the end of this instance (`s.cancel`)."""


NO_TALK: Final = Talk()


def answered(talk: Talk, done: Answered) -> Talk:
    """With one more answer; the oldest leave."""
    answers = [*talk.answers, done]
    size = sum([len(a.body) for a in answers])
    while len(answers) > ANSWERS_MAX or (size > ANSWERS_BYTES_MAX and len(answers) > 1):
        size -= len(answers.pop(0).body)
    return replace(talk, answers=answers, asked=[a for a in talk.asked if a.name != done.name])


def talk_of(record: InstanceRecord) -> Talk:
    """A record's, or nothing of it."""
    return record.talk or NO_TALK
