"""Every exception that contrapas raises on purpose.

A message says what was expected, what came, where, and whose move it is. The code never changes its meaning
(`codes.py`). An expected condition (a duplicate, a timeout the author asked for) is a value, not an exception.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BugError",
    "Cancelled",
    "CompileError",
    "ContrapasError",
    "Damaged",
    "DataError",
    "Fenced",
    "Indeterminate",
    "LogError",
    "OpaqueError",
    "Refused",
    "Retriable",
    "StepFailed",
    "StoreError",
    "Unreachable",
]


class ContrapasError(Exception):
    """The root of the tree.

    code: `CPnnn`, a key of `codes.CODES`. text: one sentence, the user's thing first. fix: one imperative sentence or
    command, may be empty. place: `file:line:column`, `lane/partition@offset` or a JSON pointer, may be empty.
    """

    code: str
    text: str
    fix: str
    place: str

    def __init__(self, code: str, text: str, *, fix: str = "", place: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.fix = fix
        self.place = place

    def __str__(self) -> str:
        where = f"{self.place} " if self.place else ""
        return f"{where}{self.code} {self.text}"


class CompileError(ContrapasError):
    """Every refusal of the compiler at once; `refusals` holds them (`machine.Refusal`), in file order."""

    refusals: tuple[Any, ...]

    def __init__(self, refusals: tuple[Any, ...]) -> None:
        first = refusals[0]
        super().__init__(first.code, first.text, fix=first.fix, place=first.place)
        self.refusals = refusals


class DataError(ContrapasError):
    """Bytes or values that do not fit: `path` is a JSON pointer into the value, `expected` and `got` are words."""

    path: str
    expected: str
    got: str

    def __init__(
        self,
        code: str,
        text: str,
        *,
        path: str = "",
        expected: str = "",
        got: str = "",
        fix: str = "",
        place: str = "",
    ) -> None:
        super().__init__(code, text, fix=fix, place=place)
        self.path = path
        self.expected = expected
        self.got = got


class LogError(ContrapasError):
    """What the log seam may raise; only its three children are expected, anything else is a defect."""


class Fenced(LogError):
    """Another owner exists; nothing of this commit is ours."""

    def __init__(self, text: str, *, mine: int = 0, theirs: int = 0, place: str = "") -> None:
        super().__init__("CP522", text, place=place)
        self.mine = mine
        self.theirs = theirs


class Retriable(LogError):
    """Nothing was written; the same call may be repeated with back-off."""

    def __init__(self, text: str, *, code: str = "CP523", place: str = "") -> None:
        super().__init__(code, text, place=place)


class Indeterminate(LogError):
    """Unknown whether it was written, or counts: acquire anew, read the tail, decide from what is there."""

    def __init__(self, text: str, *, code: str = "CP507", place: str = "") -> None:
        super().__init__(code, text, place=place)


class StoreError(ContrapasError):
    """What a participant's store may raise."""


class Unreachable(ContrapasError):
    """A log, broker or server that does not answer; `again` says whether trying again can help."""

    again: bool
    event_id: str

    def __init__(self, code: str, text: str, *, again: bool = True, fix: str = "", place: str = "") -> None:
        super().__init__(code, text, fix=fix, place=place)
        self.again = again
        self.event_id = ""
        """Of a message that was sent and not answered: sending it again under this id is safe."""


class Refused(ContrapasError):
    """A precondition does not hold; nothing was changed."""


class Damaged(ContrapasError):
    """Our own bytes are not what was written: `place`, `expected` and `got` say where and how."""

    expected: str
    got: str

    def __init__(
        self, code: str, text: str, *, expected: str = "", got: str = "", fix: str = "", place: str = ""
    ) -> None:
        super().__init__(code, text, fix=fix, place=place)
        self.expected = expected
        self.got = got


class BugError(ContrapasError):
    """A bug in contrapas itself (CP9xx)."""


class StepFailed(Exception):
    """A step ended without its success reply. Users raise it in a local step to fail it definitely, and catch it.

    step: label of the operation. reason: the failure reply's `reason`, or its class name, or `timeout after 30s`.
    reply: the declared failure reply, or None. unknown: the outcome is not known (expired, attempts exhausted).
    """

    step: str
    reason: str
    reply: Any
    unknown: bool

    def __init__(self, reason: str = "", *, step: str = "", reply: Any = None, unknown: bool = False) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason
        self.reply = reply
        self.unknown = unknown

    def __str__(self) -> str:
        return f"{self.step}: {self.reason}" if self.step else self.reason


class Cancelled(BaseException):
    """Thrown at the current await when an instance is cancelled or its deadline passes; handlers may clean up."""

    reason: str

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
        self.reason = reason


class OpaqueError(Exception):
    """Stands for an exception whose type is not registered: `type_name`, `message`, `trace` are text."""

    type_name: str
    message: str
    trace: str

    def __init__(self, type_name: str = "", message: str = "", trace: str = "") -> None:
        super().__init__(type_name, message)
        self.type_name = type_name
        self.message = message
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"
