"""The style sheet of drawings: it travels inside of each, for light and dark pages; no variables, old renderers read it."""

from __future__ import annotations

_LIGHT = {
    "ink": "#1f2933", "soft": "#52606d", "line": "#627d98", "paper": "#ffffff", "box": "#f5f8fb", "border": "#486581",
    "bad": "#c2413b", "badbox": "#fdf1f0", "undo": "#7a5ea8", "undobox": "#f7f4fc", "good": "#2f7d4f",
    "goodbox": "#eff8f2", "scope": "#9fb3c8", "band": "#f5f8fb", "donebox": "#d7f0df", "nowbox": "#fff1bf",
    "now": "#b7791f", "grey": "#9aa5b1", "greybox": "#fbfcfd",
}  # fmt: skip
_DARK = {
    "ink": "#e4e7eb", "soft": "#a9b5c1", "line": "#829ab1", "paper": "#0d1117", "box": "#1b2530", "border": "#829ab1",
    "bad": "#f0837c", "badbox": "#2d1b1c", "undo": "#b8a1e3", "undobox": "#241e33", "good": "#6fcf97",
    "goodbox": "#14291d", "scope": "#52606d", "band": "#141c25", "donebox": "#1c4a2e", "nowbox": "#5a4510",
    "now": "#f6c453", "grey": "#616e7c", "greybox": "#10161d",
}  # fmt: skip
_FIXED = (
    "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    ".cause,.small{font-size:11px}.title{font-weight:bold}.head{font-weight:bold}"
    ".edge path{fill:none;stroke-width:1.4}.box{stroke-width:1.5}.inner{stroke-width:1}"
    ".undo .box{stroke-dasharray:4 3}.outcome .box{stroke-width:2}.link{stroke-dasharray:2 3}"
    ".scope rect{fill:none;stroke-dasharray:6 4}.outside .box{stroke-dasharray:5 4}"
    ".done .box,.covered .box,.failed .box{stroke-width:2}.now .box{stroke-width:3}"
    ".edge.done path,.edge.covered path{stroke-width:2.6}.missed .box{stroke-dasharray:3 3}"
    ".edge.missed path{stroke-dasharray:3 3}"
)
_RULES = (
    ("text,.dot", "fill", "ink"),
    (".cause,.small,.note", "fill", "soft"),
    (".paper", "fill", "paper"),
    (".band", "fill", "band"),
    (".edge path,.link,.bars", "stroke", "line"),
    (".edge .tip", "fill", "line"),
    (".box", "fill", "box"),
    (".box", "stroke", "border"),
    (".inner", "fill", "paper"),
    (".inner", "stroke", "line"),
    (".undo .box", "fill", "undobox"),
    (".undo .box,.link", "stroke", "undo"),
    (".undo text", "fill", "undo"),
    (".outcome .box", "fill", "goodbox"),
    (".outcome .box", "stroke", "good"),
    (".bad .box", "fill", "badbox"),
    (".bad .box,.failure path", "stroke", "bad"),
    (".failure .tip,.failure .cause", "fill", "bad"),
    (".bar", "fill", "ink"),
    (".pivot", "fill", "ink"),
    (".scope rect", "stroke", "scope"),
    (".outside .box", "fill", "paper"),
    (".done .box,.covered .box", "fill", "donebox"),
    (".done .box,.covered .box,.edge.done path,.edge.covered path", "stroke", "good"),
    (".edge.done .tip,.edge.covered .tip", "fill", "good"),
    (".edge.done .cause,.edge.covered .cause", "fill", "ink"),
    (".now .box", "fill", "nowbox"),
    (".now .box", "stroke", "now"),
    (".failed .box", "fill", "badbox"),
    (".failed .box,.missed .box,.edge.missed path", "stroke", "bad"),
    (".edge.missed .tip,.edge.missed .cause,.missed text", "fill", "bad"),
    (".undone .box", "fill", "undobox"),
    (".undone .box", "stroke", "undo"),
    (".next .box", "fill", "greybox"),
    (".next .box,.next .inner,.edge.next path,.link.next", "stroke", "grey"),
    (".next text,.next .dot,.edge.next .tip,.edge.next .cause,.edge.next .bar", "fill", "grey"),
)


def style() -> str:
    """One sheet; every rule stands below `.contrapas`, so that a page around the drawing keeps its own looks."""
    light, dark = _sheet(_LIGHT), _sheet(_DARK)
    return f"{_scoped(_FIXED)}{light}@media (prefers-color-scheme:dark){{{dark}}}"


def _sheet(colours: dict[str, str]) -> str:
    return "".join(_scoped(f"{where}{{{what}:{colours[name]}}}") for where, what, name in _RULES)


def _scoped(rules: str) -> str:
    found = ""
    for rule in rules.split("}")[:-1]:
        where, _, what = rule.partition("{")
        found += ",".join(f".contrapas {one}" for one in where.split(",")) + "{" + what + "}"
    return found
