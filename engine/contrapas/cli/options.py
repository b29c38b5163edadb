"""Options that many verbs share, with the same names and the same meaning everywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from contrapas.cli import screen
from contrapas.runtime import settings as config

_SOURCE = ("log", "namespace")
F = TypeVar("F", bound=Callable[..., Any])


class Run:
    """What a verb gets: settings, and how to print."""

    def __init__(self, settings: config.Settings, look: screen.Look, verbose: bool) -> None:
        self.settings = settings
        self.look = look
        self.verbose = verbose


def verb(*, data: bool = False, log: bool = False, format: bool = False) -> Callable[[F], F]:
    """Give a command the shared options; the function's first parameter is a `Run`.

    data: it prints data (`-o`, `--time`). log: it reads or writes a log (`--log`, `--namespace`). format: `-f`.
    """

    def wrap(fn: F) -> F:
        @functools.wraps(fn)
        def inner(**given: Any) -> Any:
            flags: dict[str, Any] = {name: given.pop(name) for name in _SOURCE if name in given}
            verbose = given.pop("verbose")
            settings = config.load(flags)
            shown = screen.look(
                given.pop("output", None),
                given.pop("color"),
                given.pop("ascii_only"),
                given.pop("time_form", None),
                given.pop("format", None) if format else None,
                settings,
            )
            return fn(Run(settings, shown, verbose), **given)

        wrapped: Any = inner
        for option in reversed(_options(data, log, format)):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return wrap


def _options(data: bool, log: bool, format: bool) -> list[Callable[[Any], Any]]:
    chosen: list[Callable[[Any], Any]] = []
    if log:
        chosen += [
            click.option("--log", metavar="URL", help="The log: sqlite:///.contrapas/shop.db"),
            click.option(
                "--namespace", metavar="NS", help="The namespace, where the log alone does not say it."
            ),
        ]
    if data:
        chosen += [
            click.option("-o", "--output", type=click.Choice(screen.FORMS), help="Form of the output."),
            click.option(
                "--time", "time_form", type=click.Choice(("relative", "iso", "unix")), help="Form of times."
            ),
        ]
    if format:
        chosen.append(
            click.option(
                "-f",
                "--format",
                metavar="FMT",
                help="%t topic %p partition %o offset %k key %v value %d time %h headers \\n",
            )
        )
    return [
        *chosen,
        click.option(
            "--color", type=click.Choice(("auto", "always", "never")), help="Colour on the terminal."
        ),
        click.option("--ascii/--no-ascii", "ascii_only", default=None, help="ASCII characters only."),
        click.option("-v", "--verbose", is_flag=True, help="Tracebacks and library frames."),
    ]


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def command(name: str, help: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command with `-h`."""
    return click.command(name, help=help, context_settings=CONTEXT)
