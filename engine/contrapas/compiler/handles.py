"""Types of handles: what awaiting one gives, and that none leaves the function that began it (CP115)."""

from __future__ import annotations

import ast
from typing import Any, get_args, get_origin

from contrapas.author.flight import Pending
from contrapas.author.op import Op
from contrapas.codec.handles import holds_handles
from contrapas.compiler.refusals import Refusals
from contrapas.compiler.type_rules import BOTTOM, UNKNOWN, members, merge
from contrapas.machine.ir import Site


def results_of(held: Any) -> Any:
    """What awaiting values of this type gives."""
    if held is BOTTOM or held is UNKNOWN:
        return held
    found = [get_args(m)[0] for m in members(held) if get_origin(m) is Pending and get_args(m)]
    return merge(found) if found else UNKNOWN


def check_handle(refusals: Refusals, at: ast.AST, site: Site) -> None:
    """CP101 for an awaited value that is known to be no handle."""
    held = site.target
    if held in (None, BOTTOM, UNKNOWN, Any):
        return
    found = members(held)
    if not any((get_origin(m) or m) is Pending for m in found):
        shown = ast.unparse(site.operand) if site.operand is not None else "it"
        what = (
            "an operation that is awaited where it is built" if found[0] is Op else "no operation in flight"
        )
        refusals.add(
            at, "CP101", f"`{shown}` holds {what}", "await the operation itself, or s.begin(…) it first"
        )


def check_travel(refusals: Refusals, at: ast.AST, what: str, tp: Any) -> bool:
    """CP115 where a handle would leave its function."""
    if tp is BOTTOM or tp is UNKNOWN or not holds_handles(tp) or what == "next":
        return True
    refusals.add(
        at,
        "CP115",
        f"{what}: a handle belongs to the function that began it",
        "await it here, and pass its result",
    )
    return False
