"""Who asks the schema registry for a worker, and where that is.

What cannot be asked now is asked again until there is an answer: deliveries wait, and health says for what.
"""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from contrapas.codec.framing import Ref
from contrapas.codec.schemas import Schemas
from contrapas.errors import Refused, Unreachable
from contrapas.runtime.clock import Clock, pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from contrapas.runtime.registry import Registry

DEADLINE_S: Final = 10.0
"""Of one question, whatever the socket does."""
UNKNOWN_MS: Final = 60_000
"""So long an id that the registry does not know is not asked for again."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a registry is, and how to speak to it: the credentials by reference, never by value."""

    url: str
    """`https://host:8081`; several, separated by commas: the next one is asked where one does not answer."""
    auth: str = ""
    """`env:NAME` or `file:PATH`: there stands `user:password`, or a bearer token."""
    ca: str = ""
    """File of the certificate authority; empty: those of the system."""

    def __post_init__(self) -> None:
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise Refused("CP801", f"registry {url[:100]!r} is no address", fix="https://host:8081")
            if parts.username or parts.password:
                raise Refused(
                    "CP802",
                    f"the address of the registry {parts.hostname} holds credentials",
                    fix='registry_auth = "env:NAME"',
                )
            if self.auth and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
                raise Refused(
                    "CP803",
                    f"credentials for the registry {parts.hostname} would be sent in the clear",
                    fix="use https://",
                )
        if self.auth and self.auth.partition(":")[0] not in ("env", "file"):
            raise Refused(
                "CP802",
                "the registry's credentials stand in the configuration",
                fix='registry_auth = "env:NAME"',
            )

    @property
    def urls(self) -> tuple[str, ...]:
        """One by one, without a slash at the end."""
        return tuple([url.strip().rstrip("/") for url in self.url.split(",") if url.strip()])

    def authorization(self) -> str:
        """The header's value, read anew at each use; empty: none. Refused CP802 where the reference leads nowhere."""
        if not self.auth:
            return ""
        kind, _, where = self.auth.partition(":")
        if kind == "env":
            found = os.environ.get(where)
        else:
            try:
                with open(where, encoding="utf-8") as file:
                    found = file.read(10_000)
            except (OSError, UnicodeDecodeError):
                found = None
        if not found or not found.strip():
            raise Refused(
                "CP802",
                f"the registry's credentials are not at {kind}:{where[:100]}",
                fix=f"set {where} to user:password or a token",
            )
        said = found.strip()
        if ":" in said and not said.lower().startswith(("basic ", "bearer ")):
            return f"Basic {base64.b64encode(said.encode()).decode()}"
        return said if said.lower().startswith(("basic ", "bearer ")) else f"Bearer {said}"


class SchemaDesk:
    """Who asks the registry for a worker: one question per schema at a time, again and again until it is answered."""

    def __init__(
        self, schemas: Schemas, address: Address | None, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self.schemas = schemas
        self.address = address
        self._registry: Registry | None = None
        self._clock = clock
        self._chance = chance
        self._asking: dict[Ref, asyncio.Task[None]] = {}
        self.troubles: dict[Ref, str] = {}
        """Schemas that deliveries wait for, and what the registry said last."""

    async def want(self, ref: Ref, gone: Callable[[], bool]) -> None:
        """Until the schema is known, or known not to be there, or `gone` says that nobody waits any more."""
        while not self.schemas.knows(ref) and not gone():
            if ref not in self._asking or self._asking[ref].done():
                self._asking[ref] = asyncio.get_running_loop().create_task(self._ask(ref))
            await pause(self._clock, 20)

    async def _ask(self, ref: Ref) -> None:
        if self._registry is None:
            from contrapas.runtime.registry import Registry

            assert self.address is not None
            self._registry = Registry(self.address)
        registry = self._registry
        wait = 200.0
        while True:
            try:
                text = await asyncio.wait_for(asyncio.to_thread(registry.schema, ref), DEADLINE_S)
                break
            except TimeoutError:
                said = f"the schema registry {registry.address.urls[0]} does not answer within {DEADLINE_S:.0f} s"
            except (Unreachable, Refused) as why:
                said = why.text
            except (ValueError, TypeError, KeyError, AttributeError) as why:
                said = f"the schema registry says what is not understood: {type(why).__name__}: {why}"[:300]
            self.troubles[ref] = said
            await pause(self._clock, wait * (0.5 + self._chance()))
            wait = min(2 * wait, 5_000.0)
        self.troubles.pop(ref, None)
        self.schemas.put(ref, text)
        self._asking.pop(ref, None)
        if text is None:
            self._clock.call_later(UNKNOWN_MS, self.schemas.forget_unknown)

    def close(self) -> None:
        """Ask no more."""
        for task in self._asking.values():
            task.cancel()

    def reasons(self) -> list[str]:
        """What health says: messages wait for a schema that cannot be had."""
        return [f"messages wait for {ref}: {said}" for ref, said in self.troubles.items()]
