"""A Kafka that lets nobody in unproved: TLS with a password (SCRAM) at one door, with a certificate at the other, and rights for each.

The certificates are made by `openssl`, for an hour, and stand in the test's folder. Who comes through the plain door is the
super user: the tests' own tools, and the broker itself.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from confluent_kafka import admin
from confluent_kafka.admin import AdminClient

from deploy.kafka.server import Server
from tests.installed import missing
from tests.kafka import SETTINGS

library: Any = admin

PASSWORDS: Final = {"alice": "s3cret-of-alice", "reader": "s3cret-of-reader", "loner": "s3cret-of-loner"}
"""Users of the door with passwords."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, the broker's certificate for 127.0.0.1 alone, those of clients, an authority nobody knows."""

    folder: Path

    def path(self, name: str) -> str:
        """Of `ca`, `strangers`, `NAME.key`, `NAME` (a certificate)."""
        return str(self.folder / f"{name}.pem")


def openssl(folder: Path, *words: str) -> None:
    """One command of it. Skips, or fails in CI, where there is none."""
    program = shutil.which("openssl") or missing(
        "openssl is not installed: the certificates of the tests are made with it"
    )
    done = subprocess.run(
        [program, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def certificates(folder: Path) -> Certificates:
    """Everything anew; the private keys are elliptic, so that it takes a moment only."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ca", "strangers"):
        _authority(folder, name)
    _signed(folder, "broker", "ca", more="subjectAltName=IP:127.0.0.1")
    _signed(folder, "worker", "ca")
    _signed(folder, "late", "ca", when=("20200101000000Z", "20200102000000Z"))
    _signed(folder, "stranger", "strangers")
    whole = (folder / "broker.key.pem").read_text() + (folder / "broker.pem").read_text()
    (folder / "broker.both.pem").write_text(whole)
    return Certificates(folder)


def _key(folder: Path, name: str) -> None:
    openssl(
        folder,
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        f"{name}.key.pem",
    )


def _authority(folder: Path, name: str) -> None:
    _key(folder, name)
    openssl(
        folder, "req", "-x509", "-new", "-key", f"{name}.key.pem", "-subj", f"/CN=authority {name}", "-days", "1",
        "-out", f"{name}.pem",
    )  # fmt: skip
    (folder / f"{name}.db").mkdir()
    (folder / f"{name}.db" / "index").touch()
    (folder / f"{name}.cnf").write_text(
        f"[ca]\ndefault_ca=one\n[one]\ndatabase={name}.db/index\nnew_certs_dir={name}.db\nrand_serial=yes\n"
        f"certificate={name}.pem\nprivate_key={name}.key.pem\ndefault_md=sha256\npolicy=any\nunique_subject=no\n"
        "[any]\ncommonName=supplied\n"
    )


def _signed(folder: Path, name: str, by: str, *, more: str = "", when: tuple[str, str] | None = None) -> None:
    _key(folder, name)
    openssl(folder, "req", "-new", "-key", f"{name}.key.pem", "-subj", f"/CN={name}", "-out", f"{name}.csr")
    (folder / f"{name}.ext").write_text(f"basicConstraints=CA:FALSE\n{more}\n")
    times = ["-days", "1"] if when is None else ["-startdate", when[0], "-enddate", when[1]]
    openssl(
        folder, "ca", "-batch", "-notext", "-config", f"{by}.cnf", "-in", f"{name}.csr", "-out", f"{name}.pem",
        "-extfile", f"{name}.ext", *times,
    )  # fmt: skip


class Secured:
    """The broker, its doors, who may do what there."""

    def __init__(self, folder: Path) -> None:
        """Missing where no broker can be had."""
        self.files = certificates(folder)
        self.server = Server(
            settings={**SETTINGS, **self._settings()}, listeners={"SASL": "SASL_SSL", "MTLS": "SSL"}
        )
        self._folder = folder

    def _settings(self) -> Mapping[str, str]:
        found: dict[str, str] = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.mtls.ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/",
        }
        for door in ("sasl", "mtls"):
            for store, file in (("keystore", "broker.both"), ("truststore", "ca")):
                found[f"listener.name.{door}.ssl.{store}.type"] = "PEM"
                found[f"listener.name.{door}.ssl.{store}.location"] = self.files.path(file)
        return found

    def start(self) -> None:
        """Start it; the users exist from then on."""
        self.server.start()
        self.admin: Any = AdminClient({"bootstrap.servers": self.server.address, "log_level": 0})
        kind = library.ScramCredentialInfo(library.ScramMechanism.SCRAM_SHA_512, 4096)
        users = [library.UserScramCredentialUpsertion(n, kind, p.encode()) for n, p in PASSWORDS.items()]
        for done in self.admin.alter_user_scram_credentials(users).values():
            done.result(20)

    def allow(self, user: str, *rights: tuple[str, str, str]) -> None:
        """Give rights: (`topic` or `group`, beginning of the name, operation)."""
        bindings = [
            library.AclBinding(
                library.ResourceType[kind.upper()],
                name,
                library.ResourcePatternType.PREFIXED,
                f"User:{user}",
                "*",
                library.AclOperation[operation],
                library.AclPermissionType.ALLOW,
            )
            for kind, name, operation in rights
        ]
        for done in self.admin.create_acls(bindings).values():
            done.result(20)

    # ---- addresses

    def password_file(self, user: str, password: str = "") -> str:
        """A file that only we can read."""
        path = self._folder / f"password-{user}-{len(password)}"
        path.write_text((password or PASSWORDS[user]) + "\n")
        path.chmod(0o600)
        return str(path)

    def url(
        self, user: str = "alice", *, password: str = "", host: str = "127.0.0.1", ca: str = "ca", **more: str
    ) -> str:
        """Through the door with passwords. password: the reference, by default to a file."""
        options = {
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password or f"file:{self.password_file(user)}",
            "ssl.ca.location": self.files.path(ca),
            **more,
        }
        return f"kafka://{self.server.at('SASL', host)}?{urlencode(options, safe='/:')}"

    def certified(self, name: str = "", *, ca: str = "ca") -> str:
        """Through the door with certificates. name: whose, or nobody's."""
        options = {"security.protocol": "ssl", "ssl.ca.location": self.files.path(ca)}
        if name:
            options["ssl.certificate.location"] = self.files.path(name)
            options["ssl.key.location"] = self.files.path(f"{name}.key")
        return f"kafka://{self.server.at('MTLS')}?{urlencode(options, safe='/:')}"

    def secrets(self) -> Iterable[str]:
        """What must stand nowhere."""
        return PASSWORDS.values()

    def close(self) -> None:
        """End it."""
        self.server.close()
