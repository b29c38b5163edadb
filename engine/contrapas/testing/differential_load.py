"""From the text of a program to its sagas."""

from __future__ import annotations

import linecache
from typing import Any

from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.testing import differential_prelude, forms


def loaded(text: str, name: str) -> dict[str, SagaDef[..., Any]]:
    """The sagas of a program text, by name; their source can be found again under `name`."""
    from contrapas import errors
    from contrapas.author.timeout import Timeout

    namespace: dict[str, Any] = {"__name__": name, "saga": saga, "Saga": Saga, "Timeout": Timeout}
    namespace.update({n: v for n, v in vars(differential_prelude).items() if not n.startswith("__")})
    namespace.update(forms.WORDS)
    namespace.update({n: getattr(errors, n) for n in ("StepFailed", "Cancelled")})
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec", dont_inherit=True), namespace)  # noqa: S102  our own text, from a seed
    return {n: v for n, v in namespace.items() if isinstance(v, SagaDef) and n in text}
