"""The address `kafka://host:9092,host2:9092?…` as client settings: which options may stand in it, which are ours, where secrets are."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from contrapas.errors import Refused
from contrapas_kafka.allowed import (
    ALLOWED,
    GROUP,
    MECHANISMS,
    OURS,
    PROTOCOLS,
    REFERENCES,
    SECRET,
    check_value,
    nearest,
)
from contrapas_kafka.references import dereference, is_reference, token_source

PORT: Final = 9092
DEV: Final = "contrapas.dev"
"""`?contrapas.dev=true` in an address: as `--dev`, one replica, no TLS are warned of instead of refused."""
FORM: Final = "write kafka://host:9092,host2:9092?option=value&…"

_client_log = logging.getLogger("contrapas.client")
if _client_log.level == logging.NOTSET:  # the client would tell every attempt to connect; `-v` lets it
    _client_log.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class GroupTimes:
    """How a member of a group behaves, in ms; protocol: `auto`, `classic` or `consumer`."""

    protocol: str = "auto"
    session_ms: int = 10_000
    heartbeat_ms: int = 3_000
    poll_ms: int = 60_000


class Cluster:
    """Where to connect to, and how. Never shows a secret: not in `repr`, not in `place`."""

    __slots__ = (
        "_callbacks",
        "_secrets",
        "_settings",
        "dev",
        "group",
        "hosts",
        "place",
        "protocol",
        "servers",
    )

    def __init__(self, url: str, *, dev: bool = False, environ: Mapping[str, str] | None = None) -> None:
        """Refused CP801 (an option that is unknown, ours, or has no such value; everything at once), CP802 (a secret that
        others can read), CP806 (times that contradict each other), CP501 (no address)."""
        self.hosts = _hosts(url)
        self.servers = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        options = _options(url)
        said = options.pop(DEV, "false")
        if said not in ("true", "false"):
            raise Refused("CP801", f"{DEV}={said[:40]!r} is none of true, false", fix=f"{DEV}=true")
        self.dev = dev or said == "true"
        _check(options)
        self.group = _times(options)
        self.protocol = _protocol(options)
        plain = {name: value for name, value in options.items() if name not in GROUP}
        self._settings, self._secrets = dereference(
            plain, os.environ if environ is None else environ, dev=self.dev
        )
        self._callbacks = token_source(self._settings)
        self._settings["security.protocol"] = self.protocol.upper()
        shown = "&".join(f"{name}={quote(value, safe='/:,@')}" for name, value in options.items())
        flag = f"{DEV}=true" if self.dev and not dev else ""
        tail = "&".join(part for part in (shown, flag) if part)
        self.place = f"kafka://{self.servers}" + (f"?{tail}" if tail else "")

    def __repr__(self) -> str:
        return f"Cluster({self.place!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a cluster's address holds secrets: pass the address on, it is read again there")

    # ---- what may be said

    def scrub(self, text: str) -> str:
        """A text of the client without a secret that it may quote."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:400]

    @property
    def user(self) -> str:
        """Who we are to the broker, as far as we know: its principal in an error."""
        name = self._settings.get("sasl.username", "")
        if name and name not in self._secrets:
            return f"User:{name}"
        return "User:ANONYMOUS" if self.protocol == "plaintext" else "our principal"

    def file(self, option: str) -> str:
        """The path that an option names; empty if it names none."""
        return str(self._settings.get(option, "")) if option.endswith(".location") else ""

    def authority(self) -> tuple[str, str]:
        """Whom a broker's certificate must be signed by: a file, or a text; both empty for those of the system."""
        return self._settings.get("ssl.ca.location", ""), self._settings.get("ssl.ca.pem", "")

    @property
    def certified(self) -> bool:
        """Whether we show a certificate of ours."""
        return any(name.startswith(("ssl.certificate.", "ssl.keystore.")) for name in self._settings)

    def unprotected(self) -> tuple[str, str]:
        """What is wrong with the way to the broker, and its remedy; empty if nothing is."""
        if self._settings.get("enable.ssl.certificate.verification", "true") == "false":
            return "the broker's certificate is not checked", "take enable.ssl.certificate.verification out"
        if self._settings.get("ssl.endpoint.identification.algorithm", "https") == "none":
            return "the broker's host name is not checked", "take ssl.endpoint.identification.algorithm out"
        if self.protocol in ("plaintext", "sasl_plaintext") and not all(
            is_loopback(host) for host, _ in self.hosts
        ):
            what = "passwords and records" if self.protocol == "sasl_plaintext" else "records"
            remedy = (
                "security.protocol=sasl_ssl" if self.protocol == "sasl_plaintext" else "security.protocol=ssl"
            )
            return (
                f"{what} travel readable to {self.hosts[0][0]}",
                f"add {remedy} to the address, or --dev for development",
            )
        return "", ""

    def check_protected(self) -> None:
        """Refused CP803 on a way that others can read or change, unless for development."""
        text, fix = self.unprotected()
        if text and not self.dev:
            raise Refused("CP803", text, fix=fix, place=self.place)

    # ---- settings of clients

    def settings(self) -> dict[str, Any]:
        """What every client needs; a new mapping each time. It holds secrets: never show it."""
        return {
            "bootstrap.servers": self.servers,
            "client.id": "contrapas",
            "socket.keepalive.enable": True,
            "socket.timeout.ms": 10_000,
            "socket.connection.setup.timeout.ms": 5_000,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "allow.auto.create.topics": False,
            "logger": _client_log,
            **self._callbacks,
            **self._settings,
        }

    def admin(self) -> dict[str, Any]:
        """Settings of an admin client."""
        found = self.settings()
        found.pop("compression.type", None)
        del found["allow.auto.create.topics"]
        return found

    def producer(self) -> dict[str, Any]:
        """Settings of both producers: what a partition stored is a prefix of what was handed over, or the client says so."""
        found = self.settings()
        del found["allow.auto.create.topics"]
        return {
            "compression.type": "zstd",
            **found,
            "acks": "all",
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "message.timeout.ms": 0,
            "linger.ms": 0,
            "message.max.bytes": 1_000_000,
            "partitioner": "murmur2",
        }

    def reader(self, group: str, *, committed: bool) -> dict[str, Any]:
        """Settings of a consumer that is told its positions and joins nothing. committed: leave out open and aborted
        transactions (`<ns>.in`, users' topics); the log lane is read as it stands."""
        found = self.settings()
        found.pop("compression.type", None)
        return {
            **found,
            "group.id": group,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
        }

    def member(self, group: str, *, classic: bool) -> dict[str, Any]:
        """Settings of a member of a group. classic: our session time holds; else the group's own, on the broker."""
        found = self.reader(group, committed=True)
        found["max.poll.interval.ms"] = self.group.poll_ms
        if not classic:
            return {**found, "group.protocol": "consumer"}
        return {
            **found,
            "group.protocol": "classic",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": self.group.session_ms,
            "heartbeat.interval.ms": self.group.heartbeat_ms,
        }


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name."""
    return host == "localhost" or host == "::1" or bool(re.fullmatch(r"127(\.\d+){3}", host))


# ---- reading the address


def _hosts(url: str) -> tuple[tuple[str, int], ...]:
    """Hosts and ports. The text of an error never quotes what stands before an @."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its words quote the address
        raise Refused("CP501", "the address cannot be read", fix=FORM) from None
    if "@" in parts.netloc:
        user = quote(unquote(parts.netloc.rpartition("@")[0].partition(":")[0]), safe="")
        rest = (
            f"kafka://{parts.netloc.rpartition('@')[2]}?sasl.username={user}&sasl.password=env:KAFKA_PASSWORD"
        )
        text = "a user and password stand in the address, where process lists and shell histories show them"
        raise Refused("CP802", text, fix=f"put the password into the environment: {rest}")
    if parts.scheme != "kafka" or not parts.netloc:
        raise Refused("CP501", "the address names no broker", fix=FORM)
    if parts.path.strip("/") or parts.fragment:
        raise Refused(
            "CP501",
            "an address of Kafka has neither path nor fragment",
            fix=FORM + "; --namespace NS chooses the log",
        )
    found: list[tuple[str, int]] = []
    for one in parts.netloc.split(","):
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?", one)
        if match is None or not 0 < int(match[3] or PORT) < 65_536:
            raise Refused("CP501", f"{one[:80]!r} is no host and port of a broker", fix=FORM)
        found.append((match[1] or match[2], int(match[3] or PORT)))
    return tuple(found)


def _options(url: str) -> dict[str, str]:
    """Options by their name; Refused CP801 for one that stands there twice."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    names = [_name(name) for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Refused(
            "CP801", f"{', '.join(twice)[:200]}: stands twice in the address", fix="keep one of them"
        )
    return {_name(name): value for name, value in pairs}


def _name(written: str) -> str:
    return "sasl.mechanism" if written == "sasl.mechanisms" else written


def _check(options: Mapping[str, str]) -> None:
    """Refuse everything that is wrong at once; a secret comes first, its value is never quoted."""
    for name in options:
        if name in SECRET and not is_reference(options[name]):
            variable = re.sub(r"[^A-Z0-9]+", "_", f"KAFKA_{name.removeprefix('sasl.').upper()}")
            text = f"{name} stands in the address, where process lists and shell histories show it"
            raise Refused("CP802", text, fix=f"write {name}=env:{variable} or {name}=file:/path")
    wrong: list[tuple[str, str]] = []
    for name, value in options.items():
        if name in OURS:
            wrong.append((f"{name} is not for choice: {OURS[name]}", f"take {name} out of the address"))
        elif name not in ALLOWED and name not in GROUP and name not in SECRET:
            close = nearest(name)
            wrong.append(
                (
                    f"there is no option {name[:60]!r}",
                    f"did you mean {close}?" if close else "take it out of the address",
                )
            )
        elif is_reference(value) and name not in REFERENCES:
            wrong.append((f"{name} takes no reference", "write its value"))
        elif no := check_value(name, value):
            wrong.append((f"{name}: {no}", f"correct {name}"))
    wrong += _together(options)
    if wrong:
        raise Refused(
            "CP801", "\n".join(text for text, _ in wrong[:4]), fix="; ".join(fix for _, fix in wrong[:4])
        )


def _together(options: Mapping[str, str]) -> list[tuple[str, str]]:
    """Options that need others."""
    mechanism = options.get("sasl.mechanism", "").upper()
    found: list[tuple[str, str]] = []
    if mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        found += [
            (f"sasl.mechanism={mechanism} needs {name}", f"add {name}=env:NAME")
            for name in ("sasl.username", "sasl.password")
            if name not in options
        ]
    if (
        mechanism == "OAUTHBEARER"
        and not {"sasl.oauthbearer.token", "sasl.oauthbearer.token.endpoint.url"} & options.keys()
    ):
        fix = "add sasl.oauthbearer.token=file:/path, or sasl.oauthbearer.token.endpoint.url with client id and secret"
        found.append(("sasl.mechanism=OAUTHBEARER needs a token", fix))
    if not mechanism and any(name.startswith("sasl.") for name in options):
        found.append(("sasl options without sasl.mechanism", f"add sasl.mechanism={'|'.join(MECHANISMS)}"))
    if options.get("security.protocol", "").lower() in ("plaintext", "ssl") and mechanism:
        found.append(
            ("security.protocol has no SASL in it, and sasl.mechanism is given", "security.protocol=sasl_ssl")
        )
    if ("ssl.certificate.location" in options) != ("ssl.key.location" in options):
        found.append(
            (
                "a client certificate and its key belong together",
                "give ssl.certificate.location and ssl.key.location",
            )
        )
    if options.get("security.protocol", "").lower() in ("plaintext", "sasl_plaintext") and any(
        n.startswith("ssl.") for n in options
    ):
        found.append(("ssl options on a connection without TLS", "security.protocol=ssl or sasl_ssl"))
    return found


def _protocol(options: Mapping[str, str]) -> str:
    """As said, else the safest that the other options speak of."""
    said = options.get("security.protocol", "").lower()
    if said in PROTOCOLS:
        return said
    if "sasl.mechanism" in options:
        return "sasl_ssl"
    return "ssl" if any(name.startswith(("ssl.", "enable.ssl.")) for name in options) else "plaintext"


def _times(options: Mapping[str, str]) -> GroupTimes:
    """Refused CP806 for times that cannot be together."""
    session = int(options.get("session.timeout.ms", 10_000))
    heartbeat = int(options.get("heartbeat.interval.ms", max(1, min(3_000, session // 3))))
    poll = int(options.get("max.poll.interval.ms", max(60_000, session)))
    if session < 3 * heartbeat:
        text = f"session.timeout.ms={session} holds less than three heartbeats of {heartbeat} ms: a short pause would end it"
        raise Refused(
            "CP806", text, fix=f"session.timeout.ms={3 * heartbeat}, or heartbeat.interval.ms={session // 3}"
        )
    if poll < session:
        text = f"max.poll.interval.ms={poll} is below session.timeout.ms={session}"
        raise Refused("CP806", text, fix=f"max.poll.interval.ms={session} or more")
    return GroupTimes(options.get("group.protocol", "auto"), session, heartbeat, poll)
