"""What a saga says to others on its way: replies to the commands it takes, its view, a note, one-way messages.

None of these is awaited (`s.cancel` excepted): they are noted in the activation and take effect with the transition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from contrapas.author.asked import ask_of
from contrapas.author.duration import Duration, duration_ms
from contrapas.author.event import Command, Event, message_spec
from contrapas.author.link import Link, claimed
from contrapas.author.op import Op
from contrapas.author.telling import Telling

if TYPE_CHECKING:
    from contrapas.author.saga import Activation, SagaDef

Reply = TypeVar("Reply", bound=Event)
Reply_contra = TypeVar("Reply_contra", bound=Event, contravariant=True)


class Asking(Protocol[Reply_contra]):
    """A command, as `s.reply` is typed by it."""

    def __contrapas_answer__(self) -> Callable[[Reply_contra], None]: ...


class Talk:
    """The calls of `Saga` that speak to others."""

    __slots__ = ()
    _activation: Activation

    def reply(self, command: Asking[Reply], event: Reply, /) -> None:
        """Answer a command that this saga received; the reply goes out with this transition. The first reply counts.

        command: the value received, a copy of it, or what a local gave back. RuntimeError for one built by hand,
        TypeError for an event that is none of its replies.
        """
        name = ask_of(command)
        spec = message_spec(type(command)) if isinstance(command, Event) else None
        if spec is None or not spec.command:
            raise TypeError(f"{command!r:.80} is no command, nobody waits for a reply to it")
        if not name:
            raise RuntimeError(
                f"this {spec.name} was not received: reply to the value that s.wait gave, or to a copy of it"
            )
        if not isinstance(event, spec.replies):
            replies = ", ".join(r.__name__ for r in spec.replies)
            raise TypeError(f"{spec.name} is answered with {replies}, not with {type(event).__name__}")
        self._activation.effects.append(("reply", name, event))

    def show(self, model: BaseModel, /) -> None:
        """The instance's view from here on: what `GET /sagas/{saga}/{key}/view` and `app.view` give. The last one counts."""
        if not isinstance(model, BaseModel):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a view is a pydantic model, not {type(model).__name__}")
        self._activation.effects.append(("show", model))

    def note(self, text: str, /) -> None:
        """One line for people: "waiting for customs". The last one counts; at most 1,000 characters are kept."""
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a note is text, not {type(text).__name__}")
        self._activation.effects.append(("note", " ".join(text.split())[:1000]))

    def link(self, event: Event, /, *, within: Duration | None = None) -> Link:
        """A signed answer for one person: whoever has it can deliver this event to this run, and no other event.

        within: how long it holds, 7 days. DataError CP833: no secret is configured.
        """
        activation = self._activation
        return claimed(activation.instance, event, within, activation.linker)

    @overload
    def tell(self, command: Command[Any, Any] | Op[Any], /, *, after: None = None) -> None: ...
    @overload
    def tell(self, command: Command[Any, Any] | Op[Any], /, *, after: Duration) -> Telling: ...
    @overload
    def tell(
        self, command: Command[Any, Any] | Op[Any], /, *, after: Duration | None = None
    ) -> Telling | None: ...
    def tell(
        self, command: Command[Any, Any] | Op[Any], /, *, after: Duration | None = None
    ) -> Telling | None:
        """Send a command one way: nobody waits for an answer. It leaves with this transition, or `after` a while: a timer
        of the record, dropped when the saga ends. With `after` it gives a handle for `untell`."""
        if isinstance(command, Op):
            if command.door is None:
                raise TypeError("tell() sends a command, or calls an entity")
            command = command.value
        assert not isinstance(command, Op)
        if not message_spec(type(command)).command:  # pyright: ignore[reportUnknownArgumentType]
            raise TypeError(f"tell() sends a command; for {type(command).__name__} there is s.emit")
        ms = None if after is None else duration_ms(after, what="after=", zero=True)
        handle = None if ms is None else Telling(self._activation.told())
        self._activation.effects.append(("tell", command, ms, handle))
        return handle

    def untell(self, handle: Telling, /) -> None:
        """Take a message back that was to leave later; one that has left stays sent.

        TypeError for what is no handle, RuntimeError for a handle of another instance.
        """
        if not isinstance(handle, Telling):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"untell() takes what tell(…, after=…) gave, not {type(handle).__name__}")
        if handle.text.rpartition("@")[0] != self._activation.instance:
            raise RuntimeError(f"{handle.text} was told by another instance: only that one takes it back")
        self._activation.effects.append(("untell", handle))

    def cancel(
        self, other: SagaDef[..., Any], key: str, /, *, reason: str = "", label: str = ""
    ) -> Op[str | None]:
        """Cancel another instance. Gives its status once it has ended, parked or refused; None if there is none."""
        return Op("cancel", other.name, (key, reason), label=label)
