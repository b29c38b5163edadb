"""Kafka behind TLS, passwords, certificates and rights: sagas run there, and whoever may not come in reads why, and no secret."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from contrapas.cli.exits import exit_of
from contrapas.cli.main import main
from contrapas.errors import ContrapasError
from contrapas.runtime.client import Client
from contrapas.runtime.definition import Definition
from contrapas.runtime.worker import Worker
from contrapas_kafka import connector
from deploy.kafka.server import Missing
from tests.installed import connector_listed, missing
from tests.kafka_secured import Secured
from tests.runtime.restarted import order
from tests.runtime.shop import build, orchestrated

USERS_TOPICS = ("orders", "payments", "shipping", "stock")
WORKER = (
    *(("topic", "shop", right) for right in ("READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS")),
    *(("topic", name, right) for name in USERS_TOPICS for right in ("READ", "WRITE", "DESCRIBE")),
    ("group", "shop", "READ"),
    ("group", "shop", "DESCRIBE"),
)
"""What a worker needs."""


def shop(namespace: str) -> Definition:
    return replace(orchestrated(), namespace=namespace)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    try:
        found = Secured(tmp_path_factory.mktemp("secured"))
    except Missing as why:
        missing(str(why))
    try:
        found.start()
        asyncio.run(_made(found, "shop", "shop-mute", "shop-alone"))
        for user in ("alice", "worker"):
            found.allow(user, *WORKER)
        unmute = [one for one in WORKER if one != ("topic", "shop", "WRITE")]
        found.allow(
            "reader", *unmute, ("topic", "shop-mute.in", "WRITE"), ("topic", "shop-mute.dlq", "WRITE")
        )
        found.allow("loner", *[one for one in WORKER if one[0] != "group"])
        yield found
    finally:
        found.close()


async def _made(found: Secured, *namespaces: str) -> None:
    """Topics, by the super user."""
    url = f"kafka://{found.server.address}"
    named = {m.topic: 1 for m in build(orchestrated()).types.messages.values() if m.topic}
    for namespace in namespaces:
        wanted = {f"{namespace}.dlq": 1} | (named if namespace == namespaces[0] else {})
        await connector.apply(await connector.plan(url, namespace, 2, wanted, dev=True))


@asynccontextmanager
async def working(url: str, namespace: str) -> AsyncGenerator[tuple[Worker, Client, asyncio.Task[None]]]:
    definition = shop(namespace)
    log = await connector.open(url, namespace, dev=True)
    worker = Worker(log, definition, build(definition))
    client = Client(log, worker.setting, worker=worker)
    task = asyncio.create_task(worker.run())
    try:
        yield worker, client, task
    finally:
        await client.close()
        await worker.stop(500)
        await asyncio.wait([task], timeout=20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.close()


@pytest.mark.parametrize("door", ["a password in a file", "a password in the environment", "a certificate"])
async def test_a_saga_runs_with_the_rights_of_a_worker_and_no_more(
    secured: Secured, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_ALICE", "s3cret-of-alice")
    url = secured.certified("worker") if "certificate" in door else secured.url()
    if "environment" in door:
        url = secured.url(password="env:OF_ALICE")
    async with working(url, "shop") as (worker, client, task):
        ready = asyncio.create_task(worker.ready.wait())
        await asyncio.wait((ready, task), timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), task.result()
        key = f"o-{len(door)}"
        await client.start("place_order", order(key), timeout_ms=20_000)
        assert (await client.wait(f"place_order/{key}", timeout_ms=20_000)).outcome == "OrderConfirmed"
        health = str(worker.health()) + repr(worker) + repr(client)
        assert not [one for one in secured.secrets() if one in health]


@dataclass(frozen=True, slots=True)
class No:
    """A way that does not lead in."""

    code: str
    exit: int
    words: str


NO = {
    "a wrong password": No("CP821", 10, "the broker lets nobody in as User:alice"),
    "a user nobody knows": No("CP821", 10, "the broker lets nobody in as User:mallory"),
    "a mechanism that is not offered": No("CP821", 10, "supported mechanisms: SCRAM-SHA-512"),
    "an authority that did not sign": No("CP803", 6, "unable to get local issuer certificate"),
    "a host that the certificate does not name": No("CP803", 6, "certificate is not valid for 'localhost'"),
    "a certificate of ours that has expired": No(
        "CP803", 6, "does not accept our certificate (certificate unknown)"
    ),
    "no certificate of ours": No("CP803", 6, "asks for a certificate of ours (bad certificate)"),
    "a stranger's certificate": No("CP803", 6, "does not accept our certificate (bad certificate)"),
    "no TLS to a port of TLS": No("CP803", 6, "expects TLS, and the address says none"),
    "TLS to a port without": No("CP501", 5, "no TLS is spoken there"),
    "a file that is not there": No("CP801", 2, "nowhere.pem: No such file or directory"),
    "a file that holds something else": No("CP801", 2, "it holds nothing of the kind"),
    "a secret that is not there": No("CP801", 2, "sasl.password=env:NOWHERE: there is no such variable"),
}


def way(secured: Secured, name: str) -> str:
    wrong = secured.password_file("alice", "wr0ng-and-secret")
    return {
        "a wrong password": lambda: secured.url(password=f"file:{wrong}"),
        "a user nobody knows": lambda: secured.url("mallory", password=f"file:{wrong}"),
        "a mechanism that is not offered": lambda: secured.url().replace("SCRAM-SHA-512", "PLAIN"),
        "an authority that did not sign": lambda: secured.url(ca="strangers"),
        "a host that the certificate does not name": lambda: secured.url(host="localhost"),
        "a certificate of ours that has expired": lambda: secured.certified("late"),
        "no certificate of ours": lambda: secured.certified(),
        "a stranger's certificate": lambda: secured.certified("stranger"),
        "no TLS to a port of TLS": lambda: f"kafka://{secured.server.at('SASL')}",
        "TLS to a port without": lambda: f"kafka://{secured.server.address}?security.protocol=ssl",
        "a file that is not there": lambda: secured.url(ca="nowhere"),
        "a file that holds something else": lambda: secured.url(ca="broker.key"),
        "a secret that is not there": lambda: secured.url(password="env:NOWHERE"),
    }[name]()


def clean(secured: Secured, said: str) -> None:
    """No secret stands there."""
    keys = [path.read_text() for path in secured.files.folder.glob("*.key.pem")]
    lines = [line for text in keys for line in text.splitlines()[1:-1]]
    found = [one for one in (*secured.secrets(), "wr0ng-and-secret", *lines) if one in said]
    assert not found, "a secret was shown"


@pytest.mark.parametrize("name", NO)
def test_b54_a_way_that_does_not_lead_in_is_refused_in_clear_words_and_time_and_without_its_secret(
    secured: Secured, name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    connector_listed("kafka")
    began = time.monotonic()
    assert main(["ls", "--log", way(secured, name), "--namespace", "shop"]) == NO[name].exit
    assert time.monotonic() - began < 5
    out, err = capfd.readouterr()
    assert NO[name].code in err and NO[name].words in err
    assert "fix" in err.lower() or "→" in err or "help" in err.lower(), err
    assert len(err.splitlines()) <= 9
    clean(secured, out + err + caplog.text)


def test_a_client_that_tells_everything_tells_no_secret(secured: Secured, tmp_path: Path) -> None:
    connector_listed("kafka")
    wrong = secured.password_file("alice", "wr0ng-and-secret")
    done = subprocess.run(
        [sys.executable, "-m", "contrapas", "doctor", "-v", "--log", secured.url(password=f"file:{wrong}"),
         "--namespace", "shop"],
        cwd=tmp_path, env=os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "the broker lets nobody in as User:alice" in done.stdout
    assert done.returncode == 4
    clean(secured, done.stdout + done.stderr)


async def ended(url: str, namespace: str) -> ContrapasError:
    """What ends a worker that may not do what it must."""
    with pytest.raises(ContrapasError) as why:
        async with working(url, namespace) as (_, __, task):
            await asyncio.wait_for(asyncio.shield(task), 30)
    return why.value


async def test_b65_who_may_not_write_the_log_lane_is_told_the_right_and_the_command(secured: Secured) -> None:
    why = await ended(secured.url("reader"), "shop-mute")
    assert (why.code, exit_of(why)) == ("CP822", 10)
    assert why.text == "User:reader may not Write topic shop-mute.log"
    assert "--add --allow-principal 'User:reader' --operation Write --topic 'shop-mute.log'" in why.fix
    found = await connector.examine(secured.url("reader"), "shop-mute", dev=True)
    assert [(one.code, one.text) for one in found if one.code == "CP822"] == [("CP822", why.text)]


async def test_b65_who_may_not_join_the_group_is_told_the_right_and_the_command(secured: Secured) -> None:
    why = await ended(secured.url("loner"), "shop-alone")
    assert (why.code, exit_of(why)) == ("CP822", 10)
    group = re.fullmatch(r"User:loner may not Read group (shop-alone\.(workers|service\.\w+))", why.text)
    assert group is not None, why.text
    assert f"--operation Read --group '{group[1]}'" in why.fix


def test_who_only_looks_needs_no_right_on_a_group(
    secured: Secured, capfd: pytest.CaptureFixture[str]
) -> None:
    connector_listed("kafka")
    for verb in ("ls", "topic list"):
        code = main([*verb.split(), "--log", secured.url("loner"), "--namespace", "shop-alone"])
        assert code == 0, capfd.readouterr().err
