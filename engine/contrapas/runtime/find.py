"""`MODULE:APP` to the object: a dotted module or a file, imported once, under the name other modules use for it.

A file is imported under its dotted path from the longest entry of `sys.path` that holds it, the current directory
counted in: `sagas/order/saga.py` is `sagas.order.saga`, as `sagas/order/observed.py` imports it. Otherwise a class
would exist twice, and nothing that one half registered would be known to the other.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from contrapas.errors import CompileError, ContrapasError, Refused


def find(target: str, *, default: str = "app") -> Any:
    """The object that `MODULE:NAME` names; `:NAME` may be absent.

    Refused CP809: no such module, file or name. Refused CP810: the module fails while it is imported; place and text
    name the user's line. Errors of ours raised by the user's definitions keep their code and get the line as place.
    """
    module, name = load(target, default=default)
    found = getattr(module, name, None)
    if found is None:
        raise _missing(module, name, target)
    return found


def app(target: str) -> Any:
    """As `find`, for an `App`; Refused CP809 when the name is something else."""
    module, name = load(target, default="app")
    found = getattr(module, name, None)
    if found is None or not callable(getattr(found, "definition", None)):
        raise _missing(module, name, target)
    return found


def load(target: str, *, default: str = "app") -> tuple[ModuleType, str]:
    """The module of `MODULE:NAME`, imported, and the name."""
    path, name = split(target, default)
    here = os.getcwd()
    if not any(_same(entry or here, here) for entry in sys.path):
        sys.path.insert(0, here)
    if path.endswith(".py") or "/" in path or os.sep in path:
        return _by_file(Path(path), target), name
    return _import(path, target), name


def split(target: str, default: str = "app") -> tuple[str, str]:
    """`(module or file, name)`."""
    path, colon, name = target.rpartition(":")
    if not colon or "/" in name or name.endswith(".py") or (len(path) == 1 and os.sep == "\\"):
        path, name = target, default
    if not path or not name.isidentifier():
        raise Refused("CP809", f"'{target}' is no MODULE:APP", fix="shop:app or sagas/order/saga.py:app")
    return path, name


def dotted(file: Path) -> tuple[str, str]:
    """Dotted name of a file and the entry of `sys.path` it counts from; the file's folder where no entry holds it."""
    full = file.resolve()
    best: tuple[int, str, tuple[str, ...]] | None = None
    for entry in [*sys.path, os.getcwd()]:
        root = Path(entry or ".").resolve()
        try:
            parts = full.relative_to(root).with_suffix("").parts
        except ValueError:
            continue
        if all(part.isidentifier() for part in parts) and (best is None or len(root.parts) > best[0]):
            best = (len(root.parts), str(root), parts)
    if best is None:
        return full.stem, str(full.parent)
    parts = best[2][:-1] if best[2][-1] == "__init__" and len(best[2]) > 1 else best[2]
    return ".".join(parts), best[1]


def _by_file(file: Path, target: str) -> ModuleType:
    if not file.is_file():
        raise Refused("CP809", f"there is no file {file}", fix=_near_file(file))
    full = str(file.resolve())
    for module in list(sys.modules.values()):
        # A module object may be anything that somebody put there; `__main__` of the user's own script counts too.
        if isinstance(known := getattr(module, "__file__", None), str) and _same(known, full):
            return module
    name, root = dotted(file)
    if not name.replace(".", "").replace("_", "a").isidentifier():
        raise Refused(
            "CP809", f"{file} cannot be imported: '{name}' is no module name", fix="use letters, digits and _"
        )
    if not any(_same(entry or os.getcwd(), root) for entry in sys.path):
        sys.path.insert(0, root)
    module = _import(name, target)
    loaded = getattr(module, "__file__", None) or ""
    if not _same(loaded, full):
        raise Refused(
            "CP809",
            f"{file} is hidden by {loaded}, which is imported as '{name}' too",
            fix="rename one of the two",
        )
    return module


def _import(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise Refused(
                "CP809", f"there is no module '{error.name}'", fix=_near_module(name, target)
            ) from None
        raise _failed(name, error) from error
    except ContrapasError as error:
        if not error.place and not isinstance(error, CompileError):
            error.place = _user_place(error)
        raise
    except Exception as error:  # whatever the user's module does at import
        raise _failed(name, error) from error
    except SystemExit as error:
        raise Refused(
            "CP810", f"{name} ended the program while it was imported", fix="guard it with __name__"
        ) from error


def _failed(name: str, error: BaseException) -> Refused:
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{_short(error.filename)}:{error.lineno or 1}:{error.offset or 1}"
        return Refused("CP810", f"{error.msg}\n{(error.text or '').strip()}", place=place, fix=_typed(error))
    place = _user_place(error)
    line = _line_text(place)
    what = f"{type(error).__name__}: {error}"
    return Refused(
        "CP810",
        f"{name} cannot be imported: {what}" + (f"\n{line}" if line else ""),
        place=place,
        fix=_typed(error),
    )


def _typed(error: BaseException) -> str:
    """What to type to mend what Python says of the module."""
    said = str(error)
    if isinstance(error, SyntaxError):
        for words, fix in _SYNTAX.items():
            if words in said:
                return fix
    if isinstance(error, ModuleNotFoundError) and error.name:
        root = error.name.partition(".")[0]
        near = difflib.get_close_matches(root, ("contrapas", *sys.stdlib_module_names), 1, 0.8)
        return (
            f"did you mean {near[0]}?" if near else f"pip install the package that has it: pip install {root}"
        )
    if isinstance(error, ImportError) and error.name and error.name.partition(".")[0] == "contrapas":
        known: list[str] = getattr(sys.modules.get("contrapas"), "__all__", [])
        missing = said.partition("'")[2].partition("'")[0]
        near = difflib.get_close_matches(missing, known, 1, 0.6)
        return f"did you mean {near[0]}?" if near else "dir(contrapas) lists what there is"
    if isinstance(error, NameError) and getattr(error, "name", None):
        return f"import {error.name}, or define it above this line"
    return "correct this line"


_SYNTAX: Final = {
    "outside async function": "write async def instead of def",
    "in async generator": "take the yield out: return one value, or s.emit(…) for an event on the way",
    "outside function": "put it into the async def that it belongs to",
    "was never closed": "close it in this line",
}


def _user_place(error: BaseException) -> str:
    """`file:line` of the innermost frame that is the user's own."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        file = frame.filename
        if file.startswith(("<", own, sys.base_prefix + os.sep + "lib")) or "site-packages" in file:
            continue
        return f"{_short(file)}:{frame.lineno}"
    return ""


def _line_text(place: str) -> str:
    import linecache

    file, _, line = place.rpartition(":")
    return linecache.getline(file, int(line)).strip() if file and line.isdigit() else ""


def _short(file: str) -> str:
    inside = os.path.relpath(file)
    return file if inside.startswith("..") else inside


def _missing(module: ModuleType, name: str, target: str) -> Refused:
    apps = [
        n
        for n, value in vars(module).items()
        if callable(getattr(value, "definition", None)) and not isinstance(value, type)
    ]
    near = difflib.get_close_matches(name, [*apps, *(n for n in vars(module) if not n.startswith("_"))], n=1)
    best = apps[0] if len(apps) == 1 else (near[0] if near else "")
    path = split(target)[0]
    fix = f"{path}:{best}" if best else 'app = App("shop")'
    return Refused("CP809", f"{path} has no App named '{name}'", fix=fix)


def _near_file(file: Path) -> str:
    try:
        names = [p.name for p in file.parent.iterdir() if p.suffix == ".py"]
    except OSError:
        return "name a file that exists"
    near = difflib.get_close_matches(file.name, names, n=1)
    return str(file.parent / near[0]) if near else "name a file that exists"


def _near_module(name: str, target: str) -> str:
    names = [p.stem for p in Path(".").glob("*.py")]
    near = difflib.get_close_matches(name, names, n=1)
    tail = target.rpartition(":")[2] if ":" in target else "app"
    return (
        f"{near[0]}:{tail}"
        if near
        else "run it in the folder that holds the module, or name the file: shop.py:app"
    )


def _same(left: str, right: str) -> bool:
    return os.path.realpath(left) == os.path.realpath(right)
