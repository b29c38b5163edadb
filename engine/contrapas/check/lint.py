"""CP723 and CP724: side effects and blocking calls in the saga's own code, between awaits.

Such code may run again when its commit failed, so what it does elsewhere may happen twice. Reading a clock, rolling a
die and making ids are never a finding: what they gave is in the record.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import ModuleType
from typing import Any, cast

from contrapas.check.finding import Finding
from contrapas.check.tree import every
from contrapas.machine.ir import Program

_EFFECTS = (
    "requests", "httpx", "aiohttp", "urllib.request", "urllib3", "http.client", "socket", "ftplib", "smtplib",
    "sqlite3", "psycopg", "psycopg2", "asyncpg", "pymysql", "mysql", "sqlalchemy", "pymongo", "redis", "boto3",
    "botocore", "confluent_kafka", "kafka", "aiokafka", "nats", "pika", "paramiko", "grpc", "subprocess", "shutil",
    "os.system", "os.popen", "os.remove", "os.unlink", "os.rename", "os.replace", "os.mkdir", "os.makedirs",
    "os.rmdir", "os.removedirs", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "os.kill",
    "os.write", "posix.system", "posix.remove", "posix.unlink", "posix.rename", "posix.replace", "posix.mkdir",
    "posix.rmdir", "posix.write", "posix.kill",
)  # fmt: skip
"""Modules, and single functions, whose calls do something outside the process."""
_EFFECT_METHODS = frozenset({"write_text", "write_bytes", "unlink", "rmdir", "mkdir", "touch", "symlink_to"})
"""Of `pathlib.Path`; on a value of unknown type the first two alone are telling."""
_TELLING = frozenset({"write_text", "write_bytes"})
_BLOCKING = (
    "time.sleep",
    "builtins.input",
    "io.open",
    "builtins.open",
    "select",
    "queue.Queue.get",
    "threading.Event.wait",
)
_BLOCKING_METHODS = frozenset({"read_text", "read_bytes"})


def lint(program: Program, saga: str) -> Iterator[Finding]:
    """Findings in one saga's function, nested functions included."""
    ambient = {name: kind for name, kind in program.ambients}
    for node in every(program):
        if isinstance(node, ast.Call):
            code, what = _judge(program, ambient, node)
            if code:
                yield _finding(program, saga, node, code, what)


def _finding(program: Program, saga: str, node: ast.Call, code: str, what: str) -> Finding:
    effect = code == "CP723"
    return Finding(
        code=code,
        severity="warning",
        saga=saga,
        text=f"{what} is a side effect outside a step"
        if effect
        else f"{what} blocks the worker between two awaits",
        hint="this line may run again if its commit failed"
        if effect
        else "every other instance waits meanwhile",
        fix=f"move it into a @step and await that: await {_step_name(what)}(…)"
        if effect or what != "time.sleep"
        else "await s.sleep(…)",
        file=program.file,
        line=node.lineno,
        column=node.col_offset + 1,
    )


def _step_name(what: str) -> str:
    return what.rpartition(".")[2]


def _judge(program: Program, ambient: dict[str, Any], node: ast.Call) -> tuple[str, str]:
    """The code and what is called, or two empty strings."""
    names = _names(program, ambient, node.func)
    shown = _shown(node.func)
    if any(name in ("builtins.open", "io.open", "_io.open") for name in names):
        return ("CP723", "open(…) for writing") if _writes(node) else ("CP724", "open")
    if any(_within(name, _EFFECTS) for name in names):
        return "CP723", shown
    if any(_within(name, _BLOCKING) for name in names):
        return "CP724", shown
    if isinstance(node.func, ast.Attribute):
        method = node.func.attr
        on_path = any(name.startswith("pathlib.") for name in names)
        if method in _TELLING or (on_path and method in _EFFECT_METHODS):
            return "CP723", shown
        if method in _BLOCKING_METHODS and (on_path or not names):
            return "CP724", shown
    return "", ""


def _within(name: str, listed: tuple[str, ...]) -> bool:
    return any(name == entry or name.startswith(entry + ".") for entry in listed)


def _writes(node: ast.Call) -> bool:
    mode: ast.expr | None = node.args[1] if len(node.args) > 1 else None
    for keyword in node.keywords:
        mode = keyword.value if keyword.arg == "mode" else mode
    return (
        not isinstance(mode, ast.Constant)
        and mode is not None
        or (
            isinstance(mode, ast.Constant)
            and isinstance(mode.value, str)
            and bool(set(mode.value) & set("wax+"))
        )
    )


def _names(program: Program, ambient: dict[str, Any], func: ast.expr) -> set[str]:
    """Full names of what is called: by the way it was reached, and by where it was defined."""
    chain: list[str] = []
    node = func
    while isinstance(node, ast.Attribute):
        chain.append(node.attr)
        node = node.value
    if isinstance(node, ast.Call):
        return {
            f"{name}().{'.'.join(reversed(chain))}" if chain else name
            for name in _names(program, ambient, node.func)
        }
    if not isinstance(node, ast.Name):
        return set()
    if node.id in ambient:
        kind = ambient[node.id]
        return {
            ".".join([str(getattr(kind, "__module__", "")), getattr(kind, "__name__", ""), *reversed(chain)])
        }
    if node.id in program.locals or node.id not in program.namespace:
        return set()
    value: Any = program.namespace[node.id]
    found = {".".join([_full(value), *reversed(chain)])}
    for attribute in reversed(chain):
        value = getattr(value, attribute, None)
    if value is not None:
        found.add(_full(value))
    return found


def _full(value: Any) -> str:
    """Where something was defined; of a value: its class."""
    if isinstance(value, ModuleType):
        return value.__name__
    named: Any = value
    if not hasattr(named, "__qualname__"):
        named = cast(Any, type(value))
    return f"{getattr(named, '__module__', None) or ''}.{getattr(named, '__qualname__', '')}"


def _shown(func: ast.expr) -> str:
    text = ast.unparse(func)
    return text if len(text) <= 60 else text[:57] + "…"
