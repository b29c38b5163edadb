"""Exit codes: the one table that says what the shell gets for which error."""

from __future__ import annotations

from contrapas.errors import CompileError, ContrapasError, Damaged, DataError, LogError, Refused, Unreachable

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
FINDINGS = 4
UNREACHABLE = 5
REFUSED = 6
UNKNOWN = 7
ENDED_BADLY = 8
DAMAGED = 9
FORBIDDEN = 10
INTERRUPTED = 130

_BY_CODE = {
    "CP501": UNREACHABLE,
    "CP506": DAMAGED,
    "CP507": UNKNOWN,
    "CP519": REFUSED,
    "CP520": DAMAGED,
    "CP801": USAGE,
    "CP806": USAGE,
    "CP808": USAGE,
    "CP809": NOT_FOUND,
    "CP813": NOT_FOUND,
    "CP814": USAGE,
    "CP818": USAGE,
    "CP821": FORBIDDEN,
    "CP822": FORBIDDEN,
    "CP823": FORBIDDEN,
    "CP844": FAILED,
}


class Usage(ContrapasError):
    """The command line itself is wrong: exit 2, whatever the code."""


def exit_of(error: ContrapasError) -> int:
    """The exit code of an error; `check` turns definition errors into 4 by itself."""
    if isinstance(error, Usage):
        return USAGE
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if isinstance(error, Unreachable):
        return UNREACHABLE if error.again else REFUSED
    if isinstance(error, Damaged):
        return DAMAGED
    if isinstance(error, CompileError | DataError | Refused):
        return REFUSED
    if isinstance(error, LogError):
        return UNREACHABLE
    return REFUSED if error.code.startswith(("CP5", "CP8")) else FAILED
