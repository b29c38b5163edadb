"""What each command imports: the front of the house stays light."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from contrapas.cli import exits, main

HEAVY = (
    "pydantic",
    "fastavro",
    "avro",
    "asyncio",
    "starlette",
    "uvicorn",
    "jinja2",
    "httpx",
    "rich",
    "ssl",
    "email",
    "pathlib",
)
LOADED = """
import json, sys
from contrapas.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([m for m in sorted(sys.modules) if m.count(".") == 0 or m.startswith("contrapas")]), file=sys.stderr)
"""


def loaded(folder: Path, *args: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, *args], check=False, cwd=folder, capture_output=True, text=True
    )
    return set(json.loads(ran.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("instance", "--help"),
        ("--version",),
        ("explain", "CP703"),
        ("ls",),
        ("ls", "--where", "status=parked and age<1h", "-o", "json"),
        ("topic", "list"),
        ("topic", "read", "payments.events"),
        ("topic", "describe", "payments.events"),
        ("dlq", "list"),
        ("log", "describe"),
        ("log", "verify"),
        ("instance", "describe", "o-7"),
        ("instance", "trace", "o-9"),
    ],
)
def test_commands_that_only_look_import_nothing_heavy(shop: Path, args: tuple[str, ...]) -> None:
    found = loaded(shop, *args)
    allowed = {"pathlib", "email"} if args[0] in ("--version", "log", "instance") else set[str]()
    assert found & (set(HEAVY) - allowed) == set()
    for layer in ("runtime.worker", "compiler", "check", "codec", "app", "web"):
        assert f"contrapas.{layer}" not in found, layer


def test_help_imports_the_table_and_nothing_else(shop: Path) -> None:
    ours = {name for name in loaded(shop, "--help") if name.startswith("contrapas")}
    assert ours == {"contrapas", "contrapas.cli", "contrapas.cli.main", "contrapas.cli.tree"}
    assert main.INTERRUPTED == exits.INTERRUPTED
