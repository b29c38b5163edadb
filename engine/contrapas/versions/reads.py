"""Whether today's codec of a type reads what another version's wrote (C3): widening only, judged on `codec.forms`.

An answer is the place and the reason of the first thing that does not fit; empty: everything the old type could write is
read. In doubt it says no: a value that is read wrongly would be worse than a finding too many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

Form = Any
Forms = Mapping[str, Any]
_KINDS: Final = {
    "None": ("null",),
    "bool": ("bool",),
    "int": ("int", "bool"),
    "str": ("string",),
    "float": ("float", "int", "bool", "string"),
}
_WIDER: Final = {"int": {"bool"}, "float": {"int", "bool"}}
"""Leaf -> leaves whose data it reads too."""
_JSON: Final = frozenset({"null", "bool", "int", "float", "string", "array", "object"})


def _object(form: Form) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(form, dict)


def misread(new: Form, old: Form, news: Forms, olds: Forms) -> str:
    """Why `new` does not read what `old` wrote, as `/path: reason`; empty when it does."""
    return _Reading(news, olds).look(new, old, "")


class _Reading:
    """One comparison; classes that are being compared are taken to fit, for they may mention themselves."""

    def __init__(self, news: Forms, olds: Forms) -> None:
        self.news = news
        self.olds = olds
        self.open: set[tuple[str, str]] = set()

    def look(self, new: Form, old: Form, at: str) -> str:
        if _object(new) and _object(old) and "ref" in new and "ref" in old:
            pair = (str(new["ref"]), str(old["ref"]))
            if pair in self.open:
                return ""
            self.open.add(pair)
        new, old = _named(new, self.news), _named(old, self.olds)
        if "?" in (new, old):
            return "" if new == old else f"{at}: one of the types is not known"
        if _object(old) and "union" in old:
            return self._from_union(new, old, at)
        if _object(new) and "union" in new:
            return self._into_union(new, old, at)
        if new == "Any":
            return self._into_any(old, at)
        if isinstance(new, str) or isinstance(old, str):
            fits = new == old or (isinstance(new, str) and old in _WIDER.get(new, ()))
            return "" if fits else f"{at}: {text(new)} does not read {text(old)}"
        first = next(iter(new), "")
        if first != next(iter(old), ""):
            return f"{at}: {text(new)} does not read {text(old)}"
        return self._alike(first, new, old, at)

    def _alike(self, kind: str, new: Mapping[str, Form], old: Mapping[str, Form], at: str) -> str:
        match kind:
            case "list":
                if new["list"] != old["list"] and {new["list"], old["list"]} - {"list", "tuple"}:
                    return f"{at}: a {new['list']} is not a {old['list']}"
                return self.look(new["item"], old["item"], f"{at}/*")
            case "tuple":
                if len(new["tuple"]) != len(old["tuple"]):
                    return f"{at}: {len(new['tuple'])} items, not {len(old['tuple'])}"
                return self._each(enumerate(new["tuple"]), _by_place(old["tuple"]), at)
            case "dict":
                if new["dict"] != old["dict"]:
                    return f"{at}: its keys are written otherwise"
                return self.look(new["key"], old["key"], at) or self.look(
                    new["value"], old["value"], f"{at}/*"
                )
            case "fields":
                return self._fields(new, old, at)
            case "enum":
                lost = [m for m in old["enum"] if m not in new["enum"]]
                return f"{at}: {lost[0]!r} is no member any more" if lost else ""
            case "cursor":
                return self._cursor(new, old, at)
            case "args":
                return self._arguments(new, old, at)
            case _:
                return "" if new == old else f"{at}: {text(new)} does not read {text(old)}"

    def _each(self, new: Any, old: Mapping[Any, Form], at: str) -> str:
        for name, form in new:
            if name in old and (why := self.look(form, old[name], f"{at}/{name}")):
                return why
        return ""

    def _fields(self, new: Mapping[str, Form], old: Mapping[str, Form], at: str) -> str:
        lacking = [n for n in new["required"] if n not in old["fields"]]
        if lacking:
            return f"{at}/{lacking[0]}: is new and required"
        maybe = [n for n in new["required"] if n not in old["required"] and old.get("partial")]
        if maybe:
            return f"{at}/{maybe[0]}: may be missing"
        return self._each(new["fields"].items(), old["fields"], at)

    def _cursor(self, new: Mapping[str, Form], old: Mapping[str, Form], at: str) -> str:
        if new["cursor"] != old["cursor"] or len(new["inner"]) != len(old["inner"]):
            return f"{at}: the loop goes over {new['cursor']}, not {old['cursor']}"
        if (new["of"] is None) != (old["of"] is None):
            return f"{at}: the loop goes over another kind of collection"
        if new["of"] is not None and (why := self.look(new["of"], old["of"], at)):
            return why
        return self.look(new["item"], old["item"], f"{at}/*") or self._each(
            enumerate(new["inner"]), _by_place(old["inner"]), at
        )

    def _arguments(self, new: Mapping[str, Form], old: Mapping[str, Form], at: str) -> str:
        if len(new["args"]) < len(old["args"]) and new["rest"] == "Any" != old["rest"]:
            return f"{at}: it takes fewer arguments"
        gone = [n for n in old["named"] if n not in new["named"]]
        if gone:
            return f"{at}/{gone[0]}: is no argument any more"
        added = [n for n in new["named"] if n not in old["named"] and n not in new.get("optional", ())]
        if added:
            return f"{at}/{added[0]}: is new and required"
        order = [n for n in new["named"] if n in old["named"]]
        if order != list(old["named"]) or list(new["named"])[: len(order)] != order:
            return f"{at}: its arguments are in another order"
        return self._each(enumerate(new["args"]), _by_place(old["args"]), at) or self._each(
            new["named"].items(), old["named"], at
        )

    def _from_union(self, new: Form, old: Mapping[str, Any], at: str) -> str:
        """Every member, in the form in which the old union wrote it."""
        if new == "Any":
            return self._into_any(old, at)
        if not (_object(new) and "union" in new):
            return f"{at}: {text(new)} does not read {text(old)}"
        for number, (member, tag) in enumerate(zip(old["union"], old["tags"], strict=True)):
            plain = [k for k in self.kinds(member, self.olds) if old["owner"].get(k) == number]
            tagged = [k for k in self.kinds(member, self.olds) if old["owner"].get(k) != number]
            for kind in plain:
                if why := self._owned(new, member, kind, at):
                    return why
            if tagged:
                if tag not in new["tags"]:
                    return f"{at}: {tag} is no member any more"
                if why := self.look(new["union"][new["tags"].index(tag)], member, at):
                    return why
        return ""

    def _into_union(self, new: Mapping[str, Any], old: Form, at: str) -> str:
        for kind in self.kinds(old, self.olds):
            if why := self._owned(new, old, kind, at):
                return why
        return ""

    def _owned(self, new: Mapping[str, Any], old: Form, kind: str, at: str) -> str:
        """Data of one JSON kind, without a name beside it: the union gives it to one member."""
        owner = new["owner"].get(kind)
        if owner is None:
            return f"{at}: {text(new)} cannot tell what a value written as {text(old)} is"
        return self.look(new["union"][owner], old, at)

    def _into_any(self, old: Form, at: str) -> str:
        if old in ("Any", "None", "bool", "int", "str"):
            return ""
        return f"{at}: Any does not read {text(old)} as what it was"

    def kinds(self, form: Form, forms: Forms) -> tuple[str, ...]:
        """What data of a form may be in JSON."""
        form = _named(form, forms)
        if isinstance(form, str):
            return _KINDS.get(form, tuple(sorted(_JSON)) if form == "Any" else ("string",))
        if "kinds" in form:
            return tuple(form["kinds"])
        if "list" in form or "tuple" in form:
            return ("array",)
        if "dict" in form:
            return ("object",) if form["dict"] else ("array",)
        if "union" in form:
            return tuple(dict.fromkeys(k for m in form["union"] for k in self.kinds(m, forms)))
        return ("object",)


def _named(form: Form, forms: Forms) -> Form:
    if _object(form) and "ref" in form:
        return forms.get(str(form["ref"]), "?")
    return form


def text(form: Form) -> str:
    """A form as people write the type."""
    if isinstance(form, str):
        return form
    match next(iter(form), ""):
        case "union":
            return " | ".join(text(m) for m in form["union"])
        case "list":
            return f"{form['list']}[{text(form['item'])}]"
        case "tuple":
            return f"tuple[{', '.join(text(m) for m in form['tuple'])}]"
        case "dict":
            return f"dict[{text(form['key'])}, {text(form['value'])}]"
        case "fields":
            return str(form["tag"])
        case "ref":
            return str(form["ref"]).removeprefix("class ")
        case "raised":
            return str(form["raised"])
        case "leaf":
            return str(form["leaf"])
        case "cursor":
            return f"a loop over {form['cursor']}"
        case "enum":
            return "an enum"
        case _:
            return "another type"


def _by_place(forms: list[Form]) -> dict[int, Form]:
    return dict(enumerate(forms))
