"""Side files: sources and machines of an app for deployments that ship no `.py` files (G7).

`sagas.build.json` lies beside the modules. Where a loader has no source the compiler reads it from there, and compares
it with the loaded code as it does with any other (CP142). Generated Python is never stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from contrapas.errors import DataError

NAME: Final = "sagas.build.json"
FORMAT: Final = 1
LIMIT: Final = 64_000_000


def lines_of(fn: Any) -> tuple[str, ...]:
    """The source of a function's module from the side file beside it; empty when there is none, or none of it.

    DataError CP140 for a side file that cannot be read.
    """
    module = str(fn.__globals__.get("__name__", ""))
    code = fn.__code__
    for folder in _folders(fn):
        text = _text(fn, folder)
        if text is None:
            continue
        found = _parsed(text, os.path.join(folder, NAME)).get("sources", {})
        if found.__class__ is not dict:
            raise _damaged(os.path.join(folder, NAME), "its sources are no object")
        one = _source(found, module) or _source(
            found, os.path.splitext(os.path.basename(code.co_filename))[0]
        )
        if one:
            return tuple(one.splitlines(keepends=True))
    return ()


def _source(found: Mapping[str, Any], name: str) -> str:
    """The text of a module, under its name or under a longer one: what was built from another folder counts, for the
    loaded code is compared with it in any case."""
    for key in [name, *[k for k in found if k.endswith(f".{name}") or name.endswith(f".{k}")]]:
        one: Any = found.get(key)
        if one.__class__ is dict and one.get("text").__class__ is str:
            return str(one["text"])
    return ""


def _folders(fn: Any) -> list[str]:
    """Where it may lie: beside the module as it was loaded, above its packages, beside the file it was compiled from."""
    places = [str(fn.__globals__.get("__file__") or ""), fn.__code__.co_filename]
    depth = str(fn.__globals__.get("__name__", "")).count(".") + 1
    found: list[str] = []
    for place in places:
        folder = os.path.dirname(os.path.abspath(place)) if place and not place.startswith("<") else ""
        for _ in range(depth):
            if folder and folder not in found:
                found.append(folder)
            folder = os.path.dirname(folder)
    return found


def _text(fn: Any, folder: str) -> str | None:
    """From the file, or from the archive that the module was loaded from."""
    path = os.path.join(folder, NAME)
    try:
        if os.path.getsize(path) > LIMIT:
            raise _damaged(path, f"it has more than {LIMIT} bytes")
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        pass
    except UnicodeDecodeError as why:
        raise _damaged(path, str(why)) from None
    get = getattr(fn.__globals__.get("__loader__"), "get_data", None)
    try:
        return None if get is None else bytes(get(path)).decode()
    except (OSError, ValueError, KeyError):
        return None


def _parsed(text: str, path: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as why:
        raise _damaged(path, str(why)) from None
    if found.__class__ is not dict or found.get("format") != FORMAT:
        raise _damaged(path, f"it is no side file of format {FORMAT}")
    whole: dict[str, Any] = found
    return whole


def _damaged(path: str, why: str) -> DataError:
    return DataError(
        "CP140",
        f"{path} cannot be read: {why}"[:300],
        fix="build it again: contrapas build MODULE:APP",
        place=path,
    )


def dump(sources: Iterable[tuple[str, str, Mapping[str, int]]], machines: Iterable[Mapping[str, Any]]) -> str:
    """JSON text. sources: (module, its text, first line of each saga in it); machines: as `machine.data` writes them."""
    body = {
        "format": FORMAT,
        "sources": {
            module: {"text": text, "first": dict(sorted(first.items()))}
            for module, text, first in sorted(sources)
        },
        "machines": sorted(machines, key=lambda m: str(m.get("name"))),
    }
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"
