"""The client of a schema registry's HTTP API.

Plain `urllib` in a thread: one GET at run time, kept for good, needs no client library, and it serves every log, not Kafka
alone. No redirects are followed, since they would carry the credentials to somebody else.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any, Final, cast
from urllib.parse import quote

from contrapas.codec.framing import Ref
from contrapas.codec.schemas import SCHEMA_MAX, Text
from contrapas.errors import Refused, Unreachable
from contrapas.runtime.schema_desk import Address

TIMEOUT_S: Final = 5.0
REFERENCES_MAX: Final = 32
_MEDIA: Final = "application/vnd.schemaregistry.v1+json"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


class Answer:
    """What a registry said: status and body."""

    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.body = body


class Registry:
    """Questions to one registry. Every method blocks: call it in a thread."""

    def __init__(self, address: Address, *, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        self._timeout = timeout_s
        handlers: list[Any] = [_NoRedirect(), urllib.request.ProxyHandler({})]
        if any(url.startswith("https:") for url in address.urls):
            try:
                context = ssl.create_default_context(cafile=address.ca or None)
            except (OSError, ssl.SSLError) as why:
                raise Refused("CP803", f"registry_ca {address.ca!r}: {why}") from None
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, path: str, body: Any = None, *, method: str = "") -> Answer:
        """One question. Unreachable CP525 where no address gives an answer that settles it."""
        said = ""
        for url in self.address.urls:
            try:
                return self._asked(url, path, body, method or ("GET" if body is None else "POST"))
            except Unreachable as why:
                said = why.text
        raise Unreachable(
            "CP525", said, fix="is the address right, and the registry up? contrapas doctor says more"
        )

    def _asked(self, url: str, path: str, body: Any, method: str) -> Answer:
        headers = {"accept": f"{_MEDIA}, application/json", "content-type": _MEDIA}
        if word := self.address.authorization():
            headers["authorization"] = word
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data=data, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                status, raw = answer.status, answer.read(2 * SCHEMA_MAX + 1)
        except urllib.error.HTTPError as why:
            with why:
                status, raw = why.code, why.read(100_000)
        except (OSError, ValueError) as why:
            reason = getattr(why, "reason", why)
            raise Unreachable("CP525", f"the schema registry {url} does not answer: {reason}"[:300]) from None
        if status in (401, 403):
            raise Unreachable(
                "CP525", f"the schema registry {url} refuses the credentials ({status})", fix="registry_auth"
            )
        if status in (404, 409, 422) or 200 <= status < 300:
            try:
                return Answer(status, json.loads(raw) if raw else None)
            except ValueError:
                pass
        raise Unreachable("CP525", f"the schema registry {url} answers {status} to {path}"[:300])

    # ---- what is asked

    def schema(self, ref: Ref) -> Text | None:
        """The text of a schema with those it refers to; None: the registry does not know it. Unreachable CP525."""
        where = "ids" if ref.kind == "id" else "guids"
        answer = self.ask(f"/schemas/{where}/{quote(ref.value)}")
        if answer.status == 404:
            return None
        found = _object(answer)
        texts: list[str] = []
        self._references(found, texts, set())
        return Text(str(found.get("schema", "")), str(found.get("schemaType") or "AVRO"), tuple(texts))

    def _references(self, found: dict[str, Any], texts: list[str], seen: set[tuple[str, int]]) -> None:
        for one in cast("list[Any]", found.get("references") or []):
            place = (str(one.get("subject")), int(one.get("version") or 0))
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > REFERENCES_MAX:
                raise Unreachable("CP525", f"a schema refers to more than {REFERENCES_MAX} others")
            other = _object(self.ask(f"/subjects/{quote(place[0], safe='')}/versions/{place[1]}"))
            self._references(other, texts, seen)
            texts.append(str(other.get("schema", "")))

    def subjects(self) -> list[str]:
        """Every subject."""
        return [str(s) for s in cast("list[Any]", self.ask("/subjects").body or [])]

    def versions(self, subject: str) -> list[tuple[int, int, str]]:
        """(version, id, text) of a subject, oldest first; empty where there is none."""
        answer = self.ask(f"/subjects/{quote(subject, safe='')}/versions")
        if answer.status == 404:
            return []
        found: list[tuple[int, int, str]] = []
        for version in cast("list[int]", answer.body or []):
            one = _object(self.ask(f"/subjects/{quote(subject, safe='')}/versions/{version}"))
            found.append((int(one["version"]), int(one["id"]), str(one["schema"])))
        return found

    def lookup(self, subject: str, text: str) -> int | None:
        """The id of a schema that is registered under a subject; None where it is not."""
        answer = self.ask(f"/subjects/{quote(subject, safe='')}", {"schema": text})
        return None if answer.status == 404 else int(_object(answer)["id"])

    def register(self, subject: str, text: str) -> int:
        """Register a schema; the same one again gives the same id. Refused CP606: it is not compatible."""
        answer = self.ask(f"/subjects/{quote(subject, safe='')}/versions", {"schema": text})
        if answer.status in (409, 422):
            said = str(_object(answer).get("message", ""))[:400]
            raise Refused("CP606", f"the registry refuses {subject}: {said}", fix="contrapas schema check")
        return int(_object(answer)["id"])

    def mode(self, subject: str) -> str:
        """The compatibility that is asked of a subject: its own, else the registry's."""
        answer = self.ask(f"/config/{quote(subject, safe='')}?defaultToGlobal=true")
        if answer.status == 404:
            answer = self.ask("/config")
        found = _object(answer)
        return str(found.get("compatibilityLevel") or found.get("compatibility") or "BACKWARD")

    def set_mode(self, subject: str, mode: str) -> None:
        """Ask for a compatibility of a subject."""
        self.ask(f"/config/{quote(subject, safe='')}", {"compatibility": mode}, method="PUT")


def _object(answer: Answer) -> dict[str, Any]:
    body: object = answer.body
    if not isinstance(body, dict):
        raise Unreachable("CP525", f"the schema registry gives no object ({answer.status})")
    return cast("dict[str, Any]", body)
