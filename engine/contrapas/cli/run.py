"""The lazy click tree: a verb's module is imported when the verb runs, and every error ends here."""

from __future__ import annotations

import importlib
import sys
from typing import Any, cast

import click

from contrapas.cli import exits, fail, tree
from contrapas.errors import ContrapasError

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class LazyGroup(click.Group):
    """A group whose verbs are names in `tree` until one of them is asked for."""

    def __init__(self, name: str, verbs: dict[str, tuple[str, str]], page: str) -> None:
        super().__init__(name=name, context_settings=CONTEXT, no_args_is_help=True)
        self.verbs = verbs
        self.page = page

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one verb."""
        if cmd_name not in self.verbs:
            return None
        module = importlib.import_module(f"contrapas.cli.verbs.{self.verbs[cmd_name][0]}")
        return cast(click.Command, getattr(module, self.attribute(cmd_name)))

    def attribute(self, verb: str) -> str:
        """Name of the command object in its module."""
        return "instance_list" if verb == "ls" else f"{self.name}_{verb}"

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for one that is unknown."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise fail.unknown("command", args[0], self.list_commands(ctx), ctx.command_path)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The page of the table, not click's."""
        formatter.write(self.page)


class Root(LazyGroup):
    """`contrapas` itself: verbs and nouns."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs, then nouns."""
        return [*self.verbs, *tree.NOUNS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A noun is a group of its own."""
        if cmd_name in tree.NOUNS:
            return LazyGroup(cmd_name, tree.NOUNS[cmd_name][1], tree.noun_page(cmd_name))
        return super().get_command(ctx, cmd_name)

    def attribute(self, verb: str) -> str:
        """Verbs stand alone in their module."""
        return "instance_list" if verb == "ls" else verb


def root() -> click.Group:
    """The whole tree."""
    group = Root("contrapas", tree.VERBS, tree.root_page())
    group.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Print the version.",
        )
    )
    return group


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"contrapas {version('contrapas')}")
        ctx.exit()


def run(args: list[str]) -> int:
    """Run one command line; errors become words on stderr and an exit code."""
    verbose = "-v" in args or "--verbose" in args
    try:
        result = root().main(args=args, prog_name="contrapas", standalone_mode=False)
        return result if isinstance(result, int) else exits.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stdout.write(error.ctx.get_help() if error.ctx else "")
        return exits.DONE
    except click.UsageError as error:
        return fail.show(fail.from_click(error))
    except click.ClickException as error:
        return fail.show(exits.Usage("CP814", error.format_message()))
    except (KeyboardInterrupt, click.exceptions.Abort):
        return exits.INTERRUPTED
    except ContrapasError as error:
        return fail.show(error, verbose=verbose)
    except (BrokenPipeError, SystemExit):
        # click ends the program by itself when the reader has closed the output.
        raise BrokenPipeError from None
    except Exception as error:  # noqa: BLE001  the last line of defence: whatever comes here is our own bug
        return fail.bug(error, args, verbose=verbose)
