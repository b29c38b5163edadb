"""Every command by name, with its one line of help: what `--help` shows without importing a single verb.

The root page and the pages of the nouns are written from this table alone, before click is imported, so that the first
thing people type costs little more than the interpreter.
"""

from __future__ import annotations

ABOUT = "Sagas on the log you have: one function, one machine, one log."

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("play", "sample saga, built-in log, keys to kill and restart the worker"),
    "dev": ("dev", "server and worker for one app, reload on save"),
    "worker": ("worker", "worker for production"),
    "relay": ("relay", "outbox relay of a store as its own process"),
    "check": ("check", "explore every machine of an app before it runs"),
    "diff": ("diff", "two versions of an app, state by state"),
    "graph": ("graph", "print or draw the machine of a saga"),
    "build": ("build", "sources and machines as a side file, for deployments without source"),
    "explain": ("explain", "the long form of an error or finding"),
    "doctor": ("doctor", "environment, log settings, topics, clock, versions"),
    "ls": ("instances", "list instances (short for instance list)"),
}
"""Verb -> (module under `contrapas.cli.verbs`, help)."""

NOUNS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "instance": (
        "running and ended sagas",
        {
            "start": ("acts", "start an instance from its first event"),
            "list": ("instances", "list instances"),
            "describe": ("describe", "everything about one instance, and why it does not move"),
            "trace": ("describe", "the steps an instance has taken"),
            "wait": ("acts", "wait until an instance has ended"),
            "signal": ("acts", "send an event to one instance"),
            "cancel": ("acts", "throw Cancelled at the current await, then unwind what is left"),
            "kill": ("acts", "run no line of the saga any more, and unwind"),
            "retry": ("acts", "apply the parked input or undo again"),
        },
    ),
    "entity": (
        "entities by their key",
        {
            "list": ("entities", "list entities"),
            "describe": ("entities", "everything about one entity"),
            "get": ("entities", "the fields of an entity"),
            "call": ("entities", "call a handler or query"),
            "clear": ("entities", "remove an idle entity's record"),
        },
    ),
    "dlq": (
        "what could not be handled: dead letters",
        {
            "list": ("dlq", "dead letters by source and cause"),
            "show": ("dlq", "dead letters one by one, with their bytes"),
            "redrive": ("dlq", "send them back to where they came from"),
            "drop": ("dlq", "let them go"),
        },
    ),
    "topic": (
        "the users' topics beside the lanes",
        {
            "create": ("create", "what a log or a topic needs: show it, or make it with --apply"),
            "list": ("topics", "list topics with records and keys"),
            "describe": ("topic", "partitions, settings, who reads and writes it"),
            "read": ("topics", "read records from a position"),
            "produce": ("produce", "append records from JSON lines or CSV"),
        },
    ),
    "log": (
        "the lanes of a namespace",
        {
            "describe": ("logs", "partitions, owners, epochs, history floor"),
            "verify": ("logs", "read every record and compare its checksum"),
        },
    ),
    "store": (
        "outbox and inbox tables of a participant",
        {
            "sql": ("store", "print the tables as SQL for the team to run"),
            "status": ("store", "what waits, what is remembered, who relays"),
            "prune": ("store", "make days ahead, drop acknowledged ones, forget old deliveries"),
        },
    ),
    "schema": (
        "Avro schemas of an app's messages",
        {
            "list": ("schemas", "list schemas with subject and fingerprint"),
            "show": ("schemas", "one schema"),
            "check": ("schemas", "judge them against every version in the registry"),
            "publish": ("schemas", "register them: show it, or do it with --apply"),
        },
    ),
}
"""Noun -> (help, verb -> (module, help))."""

_OPTIONS = (("--version", "print the version"), ("-h, --help", "show this page"))


def page(args: list[str]) -> str | None:
    """The help page that `args` ask for, or None when click has to decide."""
    asks = not args or args[-1] in ("-h", "--help")
    rest = [a for a in args if a not in ("-h", "--help")]
    if not asks or len(rest) > 1:
        return None
    if not rest:
        return root_page()
    return noun_page(rest[0]) if rest[0] in NOUNS else None


def root_page() -> str:
    """`contrapas --help`."""
    verbs = [(name, text) for name, (_, text) in VERBS.items()]
    nouns = [(name, f"{text}: {', '.join(inner)}") for name, (text, inner) in NOUNS.items()]
    return _page(
        "contrapas COMMAND [ARGS]...",
        ABOUT,
        [("Commands", verbs), ("Nouns", nouns), ("Options", list(_OPTIONS))],
    )


def noun_page(noun: str) -> str:
    """`contrapas NOUN --help`."""
    text, inner = NOUNS[noun]
    verbs = [(name, line) for name, (_, line) in inner.items()]
    return _page(
        f"contrapas {noun} VERB [ARGS]...",
        f"{text[0].upper()}{text[1:]}.",
        [("Verbs", verbs), ("Options", [_OPTIONS[1]])],
    )


def _page(usage: str, about: str, blocks: list[tuple[str, list[tuple[str, str]]]]) -> str:
    width = max(len(name) for _, rows in blocks for name, _ in rows)
    lines = [f"Usage: {usage}", "", f"  {about}"]
    for title, rows in blocks:
        lines += ["", f"{title}:", *(f"  {name.ljust(width)}  {text}" for name, text in rows)]
    return "\n".join(lines) + "\n"
