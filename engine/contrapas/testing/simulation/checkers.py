"""Checkers of results, as pure functions over what a run has recorded: each gives what is wrong, in words; empty: nothing.

`ledger` (money), `copies` (each input once, in order), `history` (versions read and written, unknown outcomes included),
`folded` (two folds agree), `census` (every input became something), `canary` (no secret got out).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

Result = Literal["ok", "fail", "unknown"]


class Transfer(NamedTuple):
    """One transfer as its participant has it: operation -> `done`, `undone` or `barred`."""

    name: str
    states: Mapping[str, str]


def ledger(
    balances: Mapping[str, int], total: int, transfers: Iterable[Transfer], operations: frozenset[str]
) -> list[str]:
    """The sum is what it was, and each transfer is done whole or not at all."""
    wrong: list[str] = []
    if sum(balances.values()) != total:
        wrong.append(f"the sum is {sum(balances.values())}, it was {total}")
    for one in transfers:
        done = frozenset(name for name, state in one.states.items() if state == "done")
        if done and done != operations:
            wrong.append(f"{one.name} is half done: {sorted(done)}")
    return wrong


class Copy(NamedTuple):
    """One message of an output topic."""

    id: str
    key: str
    value: bytes
    number: int
    """Which input of its key it is the copy of."""


def copies(inputs: Mapping[str, int], output: Sequence[Copy]) -> list[str]:
    """Of each of a key's inputs 0 … n - 1 one message by id, its repeats alike, first copies in order. inputs: key -> n."""
    wrong: list[str] = []
    first: dict[str, Copy] = {}
    newest: dict[str, int] = {}
    for copy in output:
        if copy.id in first:
            if first[copy.id] != copy:
                wrong.append(f"{copy.id} came with other bytes")
            continue
        first[copy.id] = copy
        if copy.number <= newest.get(copy.key, -1):
            wrong.append(f"{copy.id} is the copy {copy.number} of {copy.key}, after {newest[copy.key]}")
        newest[copy.key] = max(copy.number, newest.get(copy.key, -1))
    found: dict[tuple[str, int], int] = {}
    for copy in first.values():
        found[copy.key, copy.number] = found.get((copy.key, copy.number), 0) + 1
    for key, count in inputs.items():
        for number in range(count):
            if found.get((key, number), 0) != 1:
                wrong.append(f"input {number} of {key} was copied {found.get((key, number), 0)} times")
    return wrong


class Operation(NamedTuple):
    """One call of a client: it wrote or read a version of a key. `unknown`: nobody knows whether it happened."""

    process: str
    began: int
    ended: int
    """Monotonic; of an unknown one, when it was given up."""
    key: str
    kind: Literal["write", "read"]
    version: int
    result: Result


def history(operations: Sequence[Operation]) -> list[str]:
    """Lost, doubled, phantom and aborted versions, and reads that go back in time. An unknown write may have happened, or
    not, but not both."""
    wrong: list[str] = []
    writes: dict[tuple[str, int], list[Operation]] = {}
    for one in operations:
        if one.kind == "write":
            writes.setdefault((one.key, one.version), []).append(one)
    for (key, version), several in writes.items():
        if sum(w.result == "ok" for w in several) > 1:
            wrong.append(f"version {version} of {key} was acknowledged twice")
    reads = sorted((o for o in operations if o.kind == "read" and o.result == "ok"), key=lambda o: o.ended)
    for read in reads:
        by = writes.get((read.key, read.version), [])
        if read.version and not by:
            wrong.append(f"{read.process} read version {read.version} of {read.key}, which nobody wrote")
        elif by and all(w.result == "fail" for w in by):
            wrong.append(f"{read.process} read version {read.version} of {read.key}, which had failed")
        must = [w for w in operations if _before(w, read) and w.version > read.version]
        if must:
            wrong.append(
                f"{read.process} read version {read.version} of {read.key}, {must[0].version} was acknowledged"
            )
    for number, read in enumerate(reads):
        for earlier in reads[:number]:
            if earlier.key == read.key and earlier.ended < read.began and earlier.version > read.version:
                wrong.append(
                    f"{read.process} read version {read.version} of {read.key} after {earlier.version}"
                )
                break
    return wrong


def _before(write: Operation, read: Operation) -> bool:
    """An acknowledged write of the key that a read began after."""
    return (
        write.kind == "write" and write.result == "ok" and write.key == read.key and write.ended < read.began
    )


def folded(mine: Mapping[bytes, bytes | None], theirs: Mapping[bytes, bytes | None]) -> list[str]:
    """Two folds of one log come to the same bytes."""
    wrong: list[str] = []
    for key in sorted({*mine, *theirs}):
        if key not in theirs:
            wrong.append(f"{key.decode(errors='replace')} is missing")
        elif key not in mine:
            wrong.append(f"{key.decode(errors='replace')} should not be there")
        elif mine[key] != theirs[key]:
            wrong.append(f"{key.decode(errors='replace')} differs")
    return wrong


def census(inputs: int, became: Mapping[str, int]) -> list[str]:
    """Every input was applied, kept, put aside, dead-lettered, recorded as a no-op or known: no remainder."""
    wrong = [f"{name} is {count}" for name, count in became.items() if count < 0]
    total = sum(became.values())
    if total < inputs:
        wrong.append(f"{inputs - total} of {inputs} inputs became nothing")
    elif total > inputs:
        wrong.append(f"{inputs} inputs became {total}")
    return wrong


def canary(secrets: Iterable[str], places: Mapping[str, str | bytes]) -> list[str]:
    """No planted secret stands in logs, pages, metrics or output, as it is or as it is written in JSON and URLs."""
    wrong: list[str] = []
    for secret in secrets:
        forms = {secret, secret.encode("unicode_escape").decode(), secret.encode().hex()}
        for place, text in places.items():
            said = text if isinstance(text, str) else text.decode(errors="replace")
            if any(form in said for form in forms):
                wrong.append(f"a secret stands in {place}")
    return wrong
