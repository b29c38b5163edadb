"""Values written into an operation as constants: a length of time or a policy that makes no sense is refused here (CP850),
where its line is known, and not only when an instance meets it.
"""

from __future__ import annotations

import ast
from typing import Any

from contrapas.author.duration import duration_ms
from contrapas.author.retry import Retry
from contrapas.author.step import StepDef
from contrapas.compiler.refusals import Refusals
from contrapas.errors import DataError
from contrapas.machine.ir import Site


def length(refusals: Refusals, node: ast.expr, what: str, *, zero: bool = False) -> int | None:
    """ms of a constant length of time; None where it is computed, or refused."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    if value is None:
        return None
    try:
        return duration_ms(value, what=what, zero=zero)
    except DataError as why:
        refusals.add(node, why.code, why.text, why.fix)
        return None


def policy(refusals: Refusals, node: ast.Call) -> Retry | None:
    """The policy of a `Retry(…)` written with constants; None where a part is computed, or it is refused."""
    try:
        args = [ast.literal_eval(a) for a in node.args]
        kwargs: dict[str, Any] = {
            k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg is not None
        }
    except ValueError:
        return None
    try:
        return Retry(*args, **kwargs)
    except DataError as why:
        refusals.add(node, why.code, why.text, why.fix)
    except TypeError as why:
        refusals.add(node, "CP850", f"{ast.unparse(node)}: {why}", 'Retry(5, backoff="1s..1m")')
    return None


def fits(refusals: Refusals, node: ast.expr, site: Site, within_ms: int | None, retry: Retry | None) -> None:
    """Note `within=`, and refuse it, as it covers all attempts, where it is shorter than one of them."""
    site.limit = node
    each = retry.each_ms if retry is not None and retry.each_ms is not None else None
    target: Any = site.target
    if each is None and isinstance(site.target, StepDef):
        each = target.attempt_ms
    if within_ms is not None and each is not None and within_ms < each:
        refusals.add(
            node,
            "CP850",
            f"within= of {within_ms} ms is shorter than one attempt of {each} ms",
            "within= covers all attempts: make it longer, or the attempt shorter",
        )
