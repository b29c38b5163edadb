"""`Talk` in the Avro bytes of an instance record, both ways; the last field of the schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from contrapas.core.envelope import Answered, Asked, Cause, Talk, Tell

if TYPE_CHECKING:
    from contrapas.core.envelope_read import Reader

T = TypeVar("T")
Text = Callable[[str], bytes]
Long = Callable[[int], bytes]


def write_talk(
    talk: Talk,
    parts: list[bytes],
    text: Text,
    long: Long,
    causes: Callable[[Sequence[Cause], list[bytes]], None],
) -> None:
    """Append its bytes. text, long, causes: how the record writes these."""

    def many(items: Sequence[T], one: Callable[[T], bytes]) -> None:
        if items:
            parts.append(long(len(items)))
            parts.extend([one(item) for item in items])
        parts.append(b"\x00")

    parts.append(text(talk.began))
    many(
        talk.asked,
        lambda a: b"".join([text(t) for t in (a.name, a.id, a.type, a.to, a.instance, a.run)]),
    )
    many(
        talk.answers,
        lambda a: (
            b"".join([text(t) for t in (a.name, a.id, a.type, a.body)])
            + (b"\x01" if a.good else b"\x00")
            + text(a.asked)
        ),
    )
    causes(talk.next_start, parts)
    many(talk.undone, text)
    many(talk.tells, lambda t: text(t.id) + long(t.at) + text(t.type) + text(t.key) + text(t.body))
    parts += (text(talk.view_type), text(talk.view), text(talk.note))


def read_talk(r: Reader, cause: Callable[[], Cause]) -> Talk:
    """The same from bytes."""
    return Talk(
        began=r.text(),
        asked=r.many(
            lambda: Asked(
                name=r.text(), id=r.text(), type=r.text(), to=r.text(), instance=r.text(), run=r.text()
            )
        ),
        answers=r.many(
            lambda: Answered(
                name=r.text(), id=r.text(), type=r.text(), body=r.text(), good=r.truth(), asked=r.text()
            )
        ),
        next_start=r.many(cause),
        undone=r.many(r.text),
        tells=r.many(lambda: Tell(id=r.text(), at=r.long(), type=r.text(), key=r.text(), body=r.text())),
        view_type=r.text(),
        view=r.text(),
        note=r.text(),
    )
