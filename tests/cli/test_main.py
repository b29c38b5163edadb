import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contrapas.cli import tree
from contrapas.cli.main import main
from contrapas.cli.run import root

HELP = Path(__file__).parent / "help.txt"


def whole_tree() -> str:
    """Every help page, one after the other."""
    import click

    pages = [tree.root_page()]
    group = root()
    context = click.Context(
        group, info_name="contrapas", help_option_names=["-h", "--help"], max_content_width=110
    )
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        pages.append(f"$ contrapas {name} --help\n{command.get_help(inner)}\n")
        if isinstance(command, click.Group):
            for verb in command.list_commands(inner):
                leaf = command.get_command(inner, verb)
                assert leaf is not None
                pages.append(
                    f"$ contrapas {name} {verb} --help\n{leaf.get_help(click.Context(leaf, info_name=verb, parent=inner))}\n"
                )
    return "\n".join(pages)


def test_the_whole_tree_of_help_is_the_committed_one(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    found = whole_tree()
    if request.config.getoption("--rewrite", default=False) or not HELP.exists():
        HELP.write_text(found)
    assert found == HELP.read_text()


def test_help_needs_no_click() -> None:
    code = "import sys; from contrapas.cli.main import main; main(['--help']); main(['topic', '-h']); assert 'click' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_mistyped_command_names_the_nearest_and_exits_2(cli: Callable[..., tuple[int, str, str]]) -> None:
    for args, near in (
        (["chekc"], "'check'"),
        (["instance", "lits"], "'list'"),
        (["explain", "--outptu", "json"], "'--output'"),
    ):
        code, out, err = cli(*args)
        assert (code, out) == (2, "")
        assert err.startswith("error CP814") and near in err
        assert len(err.splitlines()) <= 6


def test_replay_that_should_act_has_no_such_flag(cli: Callable[..., tuple[int, str, str]]) -> None:
    assert cli("instance", "retry", "o-1", "--force")[0] == 2


def test_an_unknown_code_is_not_found(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = cli("explain", "CP999")
    assert code == 3
    assert "error CP813" in err


def test_output_closed_by_the_reader_is_quiet() -> None:
    command = f"{sys.executable} -m contrapas explain -o jsonl | head -n 1"
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], check=False, capture_output=True, text=True
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    assert ran.stdout.count("\n") == 1


def test_an_interrupt_while_the_command_line_is_still_imported_ends_it_with_130(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def struck(args: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("contrapas.cli.run.run", struck)
    assert main(["explain"]) == 130


def test_a_wrong_configuration_exits_2_and_names_its_source(
    here: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    (here / "pyproject.toml").write_text("[tool.contrapas]\nlgo = 1\n")
    code, _, err = cli("explain", "CP101")
    assert code == 2
    assert "CP801" in err and "pyproject.toml:2" in err


def test_an_unexpected_error_is_ours_and_leaves_a_bundle(
    here: Path, cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("boom \x1b[31m")

    monkeypatch.setattr("contrapas.codes.table", broken)
    code, _, err = cli("explain")
    assert code == 1
    assert "CP901" in err and "boom \\x1b" in err and "Traceback" not in err
    bundle = next((here / ".contrapas").glob("bug-*.txt"))
    assert "Traceback" in bundle.read_text()
    assert bundle.stat().st_mode & 0o777 == 0o600
