"""Configuration: a flag, then `CONTRAPAS_*`, then `[tool.contrapas]` in `pyproject.toml`; each value knows its source.

Everything that is wrong is reported at once, with its source: a misspelt key that is silently ignored is a setting
somebody believes in. One setting may not differ between environment and file unless a flag decides: the namespace,
because it is the boundary between tenants.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from contrapas.errors import DataError, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from contrapas.core.decode import TopicMapping
    from contrapas.runtime.schema_desk import Address

KEYS: dict[str, str] = {
    "app": "text",
    "ascii": "yes or no",
    "checkpoints": "text",
    "color": "auto, always or never",
    "concurrency": "number",
    "drain": "duration",
    "heartbeat": "duration",
    "log": "text",
    "namespace": "text",
    "outage": "duration",
    "output": "text",
    "port": "number",
    "registry": "text",
    "registry_auth": "text",
    "registry_ca": "text",
    "session": "duration",
    "time": "relative, iso or unix",
}
"""Setting -> what its value is. Environment: `CONTRAPAS_` and the name in capitals."""

TOPIC_KEYS = ("type", "id", "time", "key", "stale", "unknown")
_CHOICES = {"stale": ("accept", "refuse"), "unknown": ("ignore", "dead")}
_INTERNAL = frozenset({"CONTRAPAS_FAILPOINTS", "CONTRAPAS_LINK_SECRET", "CONTRAPAS_LINK_URL"})


class Value(NamedTuple):
    """A setting and where it stands."""

    value: Any
    source: str


class Settings(NamedTuple):
    """What was configured; `topics` are the mappings of `[tool.contrapas.topics]`."""

    values: Mapping[str, Value]
    topics: Mapping[str, Mapping[str, str]]

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or the default."""
        found = self.values.get(name)
        return default if found is None else found.value


def topic_mappings(settings: Settings) -> tuple[TopicMapping, ...]:
    """What was configured about topics, as the decoder takes it."""
    from contrapas.core.decode import TopicMapping

    return tuple(TopicMapping(topic=topic, **mapping) for topic, mapping in settings.topics.items())


def registry_address(settings: Settings) -> Address | None:
    """Where the schema registry is, if one is configured. Refused CP801, CP802, CP803."""
    url = settings.get("registry")
    if not url:
        return None
    from contrapas.runtime.schema_desk import Address

    return Address(url=url, auth=settings.get("registry_auth", ""), ca=settings.get("registry_ca", ""))


def load(
    flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Settings:
    """Merge the three sources; Refused CP801 lists every mistake with its source."""
    wrong: list[str] = []
    file, topics = _from_file(os.path.abspath(cwd or os.getcwd()), wrong)
    environ = _from_environment(os.environ if env is None else env, wrong)
    given = {name: Value(value, f"--{name}") for name, value in (flags or {}).items() if value is not None}
    if "namespace" in file and "namespace" in environ and "namespace" not in given:
        here, there = file["namespace"], environ["namespace"]
        if here.value != there.value:
            wrong.append(
                f"namespace: {there.source} says '{_shown(there.value)}', {here.source} says '{_shown(here.value)}': "
                "--namespace decides"
            )
    merged = {**file, **environ, **given}
    if wrong:
        if (times := _times(merged)) is not None:
            wrong.append(times.text)
        raise Refused(
            "CP801",
            "\n".join(["the configuration is not understood", *wrong]) if len(wrong) > 1 else wrong[0],
        )
    if (times := _times(merged)) is not None:
        raise times
    return Settings(merged, topics)


def _from_environment(env: Mapping[str, str], wrong: list[str]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for variable in sorted(env):
        if not variable.startswith("CONTRAPAS_") or variable in _INTERNAL:
            continue
        name = variable.removeprefix("CONTRAPAS_").lower()
        if name not in KEYS:
            wrong.append(f"environment: {_shown(variable)} is no setting{_near(name, 'CONTRAPAS_')}")
            continue
        _take(found, name, env[variable], f"environment {variable}", wrong)
    return found


def _from_file(cwd: str, wrong: list[str]) -> tuple[dict[str, Value], dict[str, dict[str, str]]]:
    found: dict[str, Value] = {}
    topics: dict[str, dict[str, str]] = {}
    folder = cwd
    while True:
        path = os.path.join(folder, "pyproject.toml")
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            above = os.path.dirname(folder)
            if above == folder:
                break
            folder = above
            continue
        except (OSError, UnicodeDecodeError) as error:
            wrong.append(f"{path}: {error}")
            break
        if "tool.contrapas" in text:
            _read(path, text, found, topics, wrong)
        break
    return found, topics


def _read(
    path: str, text: str, found: dict[str, Value], topics: dict[str, dict[str, str]], wrong: list[str]
) -> None:
    import tomllib

    try:
        table = tomllib.loads(text).get("tool", {}).get("contrapas", {})
    except tomllib.TOMLDecodeError as error:
        wrong.append(f"{path}: {error}")
        return
    for name, value in table.items():
        source = f"{os.path.basename(path)}:{_line(text, name)}"
        if name == "topics":
            _read_topics(value, source, topics, wrong)
        elif name not in KEYS:
            wrong.append(f"{source}: [tool.contrapas] has no key '{_shown(str(name))}'{_near(str(name), '')}")
        else:
            _take(found, name, value, source, wrong)


def _read_topics(value: Any, source: str, topics: dict[str, dict[str, str]], wrong: list[str]) -> None:
    for topic, mapping in _table(value, f"{source}: topics is a table of topics", wrong).items():
        where = f'{source}: topics."{_shown(topic)}"'
        taken: dict[str, str] = {}
        for key, text in _table(mapping, f"{where} is a table", wrong).items():
            if key not in TOPIC_KEYS:
                near = _nearest(key, TOPIC_KEYS)
                tail = f", the nearest is '{near}'" if near else ""
                wrong.append(f"{where} has no key '{_shown(key)}'{tail}")
            elif not isinstance(text, str) or (key in _CHOICES and text not in _CHOICES[key]):
                expected = " or ".join(_CHOICES.get(key, ("text",)))
                wrong.append(f"{where}.{key}: expected {expected}, got {_shown(repr(text))}")
            else:
                taken[key] = text
        topics[topic] = taken


def _table(value: Any, otherwise: str, wrong: list[str]) -> dict[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    wrong.append(otherwise)
    return {}


def _take(found: dict[str, Value], name: str, value: Any, source: str, wrong: list[str]) -> None:
    try:
        found[name] = Value(_typed(name, value), source)
    except (ValueError, DataError):
        wrong.append(f"{source}: {name}: expected {KEYS[name]}, got {_shown(repr(value))}")


def _typed(name: str, value: Any) -> Any:
    match KEYS[name]:
        case "text":
            if isinstance(value, str) and value:
                return value
        case "number":
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
            if isinstance(value, str) and value.isdigit():
                return int(value)
        case "duration":
            if isinstance(value, str):
                from contrapas.author.duration import duration_ms

                duration_ms(value)
                return value
        case "yes or no":
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in ("1", "0", "true", "false", "yes", "no"):
                return value.lower() in ("1", "true", "yes")
        case choices:
            if value in re.split(r", | or ", choices):
                return value
    raise ValueError(name)


def _times(values: Mapping[str, Value]) -> Refused | None:
    """CP806 for times that contradict each other."""
    session, beat = values.get("session"), values.get("heartbeat")
    if session is None and beat is None:
        return None
    from contrapas.author.duration import duration_ms

    session_ms = duration_ms(session.value) if session else 10_000
    beat_ms = duration_ms(beat.value) if beat else 3_000
    if session_ms < 3 * beat_ms:
        sources = ", ".join(one.source for one in (session, beat) if one)
        return Refused(
            "CP806",
            f"session {session_ms} ms is shorter than three heartbeats of {beat_ms} ms ({sources})",
            fix=f"session of at least {3 * beat_ms} ms, or heartbeat of at most {session_ms // 3} ms",
        )
    return None


def _near(name: str, prefix: str) -> str:
    near = _nearest(name, list(KEYS))
    if not near:
        return ""
    return f", the nearest is '{prefix}{near.upper() if prefix else near}'"


def _line(text: str, name: Any) -> int:
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            inside = line.startswith("[tool.contrapas")
            if inside and line.startswith(f"[tool.contrapas.{name}"):
                return number
        elif inside and line.split("=")[0].strip().strip("\"'") == name:
            return number
    return 1


def _nearest(word: str, known: Sequence[str]) -> str:
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else ""


def _shown(text: str) -> str:
    """Untrusted text, quoted as Python would where it cannot be printed, and cut."""
    short = text if len(text) <= 200 else text[:199] + "…"
    return short if short.isprintable() else ascii(short)[1:-1]
