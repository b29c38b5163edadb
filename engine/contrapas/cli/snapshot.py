"""An app's machines as data, made in a process of its own: `diff` compiles what it is given, and imports none of it.

`python -m contrapas.cli.snapshot` reads a JSON object `{target, root, lock}` on stdin and writes one on stdout:
`{machines, lock, migrate, kept}`, or `{error}`. What the user's module prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

from contrapas.errors import ContrapasError, Refused
from contrapas.machine import Machine

TIMEOUT_S = 120
OUTPUT_MAX = 64_000_000


class Snapshot(NamedTuple):
    """One version of an app."""

    machines: tuple[Machine, ...]
    lock: str
    """Text of its lock file, as this build wants it."""
    migrations: dict[str, dict[str, str]]
    """Saga -> `migrate=` where it is a mapping."""
    functions: frozenset[str]
    """Sagas whose `migrate=` is a function: it decides when an instance is touched."""
    known: frozenset[str]
    """Commands, events and steps of the app."""
    kept: frozenset[tuple[str, str]]
    """(saga, fingerprint) of earlier versions that are kept beside."""


def take(target: str, root: str, lock: str = "") -> Snapshot:
    """Compile `target` with `root` as the current directory. lock: of the other version, for sagas that have none.

    Raises what the child said: Refused CP809, CP810, CompileError's first refusal with the count, DataError CP321.
    """
    from contrapas.machine.data import from_data

    asked = json.dumps({"target": target, "root": root, "lock": lock})
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "contrapas.cli.snapshot"],
            input=asked.encode(),
            capture_output=True,
            cwd=root,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired:
        raise Refused("CP810", f"{target} was not compiled within {TIMEOUT_S} s", fix="import less") from None
    try:
        said: dict[str, Any] = json.loads(ran.stdout) if len(ran.stdout) <= OUTPUT_MAX else {}
    except ValueError:
        said = {}
    if "error" in said:
        error = said["error"]
        raise Refused(
            str(error["code"]), str(error["text"]), fix=str(error["fix"]), place=str(error["place"])
        )
    if "machines" not in said:
        last = ran.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise Refused("CP810", f"{target} ended its process while it was imported: {last[0][:200]}")
    return Snapshot(
        machines=tuple(from_data(one) for one in said["machines"]),
        lock=str(said["lock"]),
        migrations={str(k): dict(v) for k, v in said["migrate"].items()},
        functions=frozenset(said["functions"]),
        known=frozenset(said["known"]),
        kept=frozenset((str(name), str(graph)) for name, graph in said["kept"]),
    )


def main() -> int:
    """The child."""
    asked = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    os.dup2(2, 1)  # nothing that the user's module prints is taken for our answer
    try:
        said = _compiled(str(asked["target"]), str(asked["root"]), str(asked["lock"]))
    except ContrapasError as why:
        said = {"error": _error(why)}
    with os.fdopen(out, "wb") as answer:
        answer.write(json.dumps(said).encode())
    return 0


def _error(why: ContrapasError) -> dict[str, str]:
    from contrapas.errors import CompileError

    text = why.text
    if isinstance(why, CompileError) and len(why.refusals) > 1:
        text = f"{text} (and {len(why.refusals) - 1} more: contrapas check)"
    return {"code": why.code, "text": text, "fix": why.fix, "place": why.place}


def _compiled(target: str, root: str, other: str) -> dict[str, Any]:
    from dataclasses import replace

    from contrapas.compiler import lock as lock_file
    from contrapas.draw.edges import program_of
    from contrapas.machine.data import to_data
    from contrapas.runtime import find
    from contrapas.runtime.build import compiled, lock_path

    sys.path[:0] = [root, os.path.join(root, "src")]
    definition = find.app(target).definition()
    inside = os.path.realpath(definition.file or root)
    if not inside.startswith(os.path.realpath(root) + os.sep) and not os.path.samefile(
        os.path.dirname(inside) or root, root
    ):
        raise Refused(
            "CP809",
            f"{target} was imported from {inside}, which is not the version asked for",
            fix="name the file: diff OLD, with app = path/to/file.py:app",
        )
    path = lock_path(definition)
    own = lock_file.load(path) if path is not None else None
    theirs = lock_file.parse(other) if other else None
    sagas = {**(theirs.sagas if theirs else {}), **(own.sagas if own else {})}
    built = compiled(definition, lock=lock_file.LockFile(sagas) if sagas else None)
    machines = built.world.machines
    pairs = [(program_of(m), m) for m in machines.values()]
    kept = [(program_of(m), m) for m in built.world.kept.values()]
    mapped: dict[str, Any] = {
        n: m.migrate for n, m in machines.items() if m.migrate and not callable(m.migrate)
    }
    return {
        "machines": [to_data(replace(m, edges=())) for m in machines.values()],
        "lock": lock_file.LockFile(sagas).updated(pairs, kept).dump(),
        "migrate": mapped,
        "known": [*built.world.types.messages, *built.world.types.steps],
        "functions": [n for n, m in machines.items() if callable(m.migrate)],
        "kept": [list(key) for key in built.world.kept],
    }


if __name__ == "__main__":
    sys.exit(main())
