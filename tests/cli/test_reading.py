from collections.abc import Callable
from pathlib import Path

Cli = Callable[..., tuple[int, str, str]]


def test_instances_are_listed_with_what_they_wait_for(shop: Path, cli: Cli) -> None:
    code, out, _ = cli("ls")
    assert code == 0
    print(out)
