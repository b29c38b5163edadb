"""`Annotated[str, Sensitive]`: a field that is masked in every output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel

MASK: Final = "•••"
"""What stands in an output instead of the value."""


class Sensitive:
    """Marks a field whose value no screen, log line or error text may show: `Annotated[str, Sensitive]`."""


def sensitive_paths(cls: type[BaseModel]) -> tuple[str, ...]:
    """JSON pointers of the marked fields of a model, `*` for "every item"; empty when nothing is marked."""
    return tuple(_paths(cls, "", ()))


def masked(value: object, paths: tuple[str, ...]) -> object:
    """A JSON value with what the pointers name replaced by `MASK`; the rest is shared with the original."""
    for path in paths:
        value = _mask(value, path.split("/")[1:])
    return value


def _paths(cls: type[BaseModel], at: str, inside: tuple[type, ...]) -> list[str]:
    found: list[str] = []
    for name, field in cls.model_fields.items():
        path = f"{at}/{field.serialization_alias or field.alias or name}"
        if any(mark is Sensitive or isinstance(mark, Sensitive) for mark in field.metadata):
            found.append(path)
        else:
            found.extend(_inner(field.annotation, path, (*inside, cls)))
    return found


def _inner(annotation: Any, path: str, inside: tuple[type, ...]) -> list[str]:
    if model := _model(annotation):
        return [] if model in inside else _paths(model, path, inside)
    found: list[str] = []
    many = get_origin(annotation) in (list, tuple, set, frozenset, dict)
    marks = getattr(annotation, "__metadata__", ())
    if any(mark is Sensitive or isinstance(mark, Sensitive) for mark in marks):
        return [path]
    for part in get_args(annotation):
        found.extend(_inner(part, f"{path}/*" if many else path, inside))
    return list(dict.fromkeys(found))


def _model(annotation: Any) -> type[BaseModel] | None:
    from pydantic import BaseModel  # masking alone must not pay for it

    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _mask(value: object, path: list[str]) -> object:
    if not path:
        return MASK if value is not None else None
    head, rest = path[0], path[1:]
    match value:
        case dict():
            items = dict(cast("dict[str, object]", value))
            for key in list(items) if head == "*" else [head] if head in items else []:
                items[key] = _mask(items[key], rest)
            return items
        case list() if head == "*":
            return [_mask(item, rest) for item in cast("list[object]", value)]
        case _:
            return value
