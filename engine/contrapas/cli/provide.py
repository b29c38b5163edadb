"""Topics that `dev` and `demo` need on a server that others share: listed first, made when somebody says so."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from contrapas.cli import screen, text
from contrapas.cli.lanes import is_far
from contrapas.errors import LogError
from contrapas.log import Plan
from contrapas.runtime.open import connector_of, shown

TOPIC_PARTITIONS = 8
MANY = 12


def provide(
    look: screen.Look,
    url: str,
    about: Mapping[str, Any],
    say: Callable[[str], None],
    *,
    unasked: bool = False,
) -> None:
    """Make what the app lacks on a server where nothing is made by itself. about: what the child said of the app.
    unasked: without a terminal too. LogError CP505 with the command that makes it, when nobody says so."""
    if not is_far(url):
        return
    connector = connector_of(url)
    if not getattr(connector, "ASKS", False):
        return
    namespace = str(about["namespace"])
    topics = dict.fromkeys((str(name) for name in about["topics"]), TOPIC_PARTITIONS)
    made: Plan = asyncio.run(connector.plan(url, namespace, about.get("partitions"), topics, dev=True))
    words = [line for line in made.words() if not line.startswith(" ")]
    if not words:
        return
    for line in words[:MANY]:
        say(f"  {'make' if unasked else 'needs'}   {text.escape(line)}")
    if len(words) > MANY:
        say(f"          and {len(words) - MANY} more")
    if not unasked and not _said_so():
        names = " ".join(topics)
        command = f"contrapas topic create --log '{shown(url)}' --namespace {namespace} {names} --dev --apply"
        raise LogError("CP505", f"{text.plural(len(words), 'thing')} missing on {shown(url)}", fix=command)
    asyncio.run(connector.apply(made))


def _said_so() -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return click.confirm("make them?", default=False, err=True)
