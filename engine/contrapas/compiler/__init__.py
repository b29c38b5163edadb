"""From an `async def` to a machine: source → scopes → accept → lower → simplify → analyses → labels → types → emit.

`compile_saga` gives a machine or every reason why there is none; it never raises on a valid function.
"""

from __future__ import annotations

from contrapas.compiler.pipeline import Compiled, compile_all, compile_saga

__all__ = ["Compiled", "compile_all", "compile_saga"]
