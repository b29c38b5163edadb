"""A private Apache Kafka: one node or three on loopback, in a folder of its own, gone when the process that started it is gone.

    python deploy/kafka/server.py fetch                        the jars and the class archive, into the cache
    python deploy/kafka/server.py run [--nodes 3] [--port N]   brokers until Ctrl-C; prints their address
                                      [--set name=value]       a setting of the broker

Each node is broker and controller in one (KRaft), from the jars of `artefacts.lock`, and needs Java 17. It has two
listeners: its own, and one for a proxy, which advertises a port where nobody listens until a proxy does. Memory is
small; what a broker keeps for safety (order, checksums, acknowledgements) is as it comes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Self

if __package__ in (None, ""):  # run as a file, not as a module
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deploy.kafka.jvm import LOCK, Jvm, Missing, jvm
from deploy.kafka.ready import wait_ready
from deploy.watchdog import call_off, leave_on_signals, watch

__all__ = ["Missing", "Node", "Server"]

SETTINGS: Final = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "broker.session.timeout.ms": "3000",  # a killed node is back in seconds, a slow one is not given up
    "broker.heartbeat.interval.ms": "200",
    # memory: the defaults are for a machine of its own
    "log.cleaner.dedupe.buffer.size": "4194304",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
}
_INTERNAL: Final = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
_TRIES: Final = 4
_PORTS: Final = range(20_000, 32_000)
"""Below those that systems give to outgoing connections: a node that was killed finds its port free."""


class Node:
    """One broker and controller."""

    def __init__(self, number: int, folder: Path, port: int, more: Iterable[str] = ()) -> None:
        """more: names of further listeners."""
        self.id = number
        """Kafka's `node.id`."""
        self.folder = folder
        self.port = port
        """Where clients reach it."""
        self.behind = free_port()
        """Where a proxy reaches it."""
        self.front = free_port()
        """Where a proxy must listen: what the node tells clients that came through one."""
        self.more = {name: free_port() for name in more}
        """Ports of further listeners."""
        self.control = free_port()
        self.directory = _uuid()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0


class Server:
    """One broker, or three: `start`, `stop`, `kill`, `pause`, `go_on`, and `start` again on the same data and ports."""

    def __init__(
        self,
        nodes: int = 1,
        *,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
    ) -> None:
        """port: of the first node, the next ones follow; 0: free ones. settings: of the brokers, over ours. listeners:
        further ones, name -> security protocol; what they need stands in settings (`listener.name.NAME.…`)."""
        self._jvm = jvm()
        self._settings = dict(settings or {})
        self._listeners = dict(listeners or {})
        self._port = port
        self._count = nodes
        self._formatted = False
        self.folder = Path(tempfile.mkdtemp(prefix="cp-kafka-"))
        self._watch = watch(_WATCH, self.folder)
        self.nodes: tuple[Node, ...] = ()
        self._choose()

    def _choose(self) -> None:
        self.cluster = _uuid()
        self.nodes = tuple(
            Node(
                n,
                self.folder / f"node-{n}",
                self._port + n - 1 if self._port else free_port(),
                self._listeners,
            )
            for n in range(1, self._count + 1)
        )

    @property
    def address(self) -> str:
        """`host:port` of every node, for `bootstrap.servers` and behind `kafka://`."""
        return ",".join(f"127.0.0.1:{n.port}" for n in self.nodes)

    @property
    def proxied(self) -> str:
        """The same through proxies: from each node's `front` to its `behind`."""
        return ",".join(f"127.0.0.1:{n.front}" for n in self.nodes)

    def at(self, listener: str, host: str = "127.0.0.1") -> str:
        """`host:port` of every node at a further listener."""
        return ",".join(f"{host}:{n.more[listener]}" for n in self.nodes)

    def start(self, *which: int, seconds: float = 120) -> Self:
        """Start the nodes that do not run (or these), and return when records are taken. Missing with what they said."""
        why = ""
        for attempt in range(_TRIES):
            if not self._formatted:
                self._format()
            for node in self.nodes:
                if not node.pid and (not which or node.id in which):
                    node.process = self._run("kafka.Kafka", node)
            why = wait_ready(self.address, sum(1 for n in self.nodes if n.pid), self._running, seconds)
            if not why:
                self._formatted = True
                return self
            if self._formatted or self._running() or attempt + 1 == _TRIES:
                break
            self._anew()  # a port was taken in between
        raise Missing(f"Kafka does not start: {why} {self.words()[-2000:]}")

    def _anew(self) -> None:
        self.kill()
        for node in self.nodes:
            shutil.rmtree(node.folder, ignore_errors=True)
        self._choose()

    def _running(self) -> bool:
        """True while no node that was started has ended."""
        return all(n.process is None or n.process.poll() is None for n in self.nodes)

    def _format(self) -> None:
        several = ",".join(f"{n.id}@127.0.0.1:{n.control}:{n.directory}" for n in self.nodes)
        how = ["--standalone"] if self._count == 1 else ["--initial-controllers", several]
        coming: list[subprocess.Popen[bytes]] = []
        for node in self.nodes:
            node.folder.mkdir(exist_ok=True)
            (node.folder / "server.properties").write_text(self._properties(node))
            coming.append(
                self._run("kafka.tools.StorageTool", node, "format", *how, "-t", self.cluster, "-c")
            )
        for process in coming:
            if process.wait(120):
                raise Missing(f"Kafka's storage cannot be formatted: {self.words()[-2000:]}")

    def _properties(self, node: Node) -> str:
        copies = min(3, self._count)
        more = "".join(f",{name}://127.0.0.1:{at}" for name, at in node.more.items())
        kinds = "".join(f",{name}:{kind}" for name, kind in self._listeners.items())
        whole = {
            **SETTINGS,
            **{f"{name}.replication.factor": str(copies) for name in _INTERNAL},
            **{f"{name}.min.isr": str(max(1, copies - 1)) for name in _INTERNAL[1:]},
            "default.replication.factor": str(copies),
            "min.insync.replicas": str(max(1, copies - 1)),
            **self._settings,
            "process.roles": "broker,controller",
            "node.id": str(node.id),
            "listeners": f"PLAINTEXT://127.0.0.1:{node.port},PROXIED://127.0.0.1:{node.behind},"
            f"CONTROLLER://127.0.0.1:{node.control}{more}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port},PROXIED://127.0.0.1:{node.front}"
            f"{more}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"
            f"{kinds}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": ",".join(f"127.0.0.1:{n.control}" for n in self.nodes),
            "log.dirs": str(node.folder / "data"),
        }
        whole.update({name: value for name, value in self._settings.items() if "listener" in name})
        return "".join(f"{name}={value}\n" for name, value in whole.items())

    def _run(self, program: str, node: Node, *words: str) -> subprocess.Popen[bytes]:
        """A Java process that has written its id down before it is one, for the watchdog."""
        with open(node.folder / "words", "ab") as said:
            return subprocess.Popen(
                [
                    "/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(node.folder / f"{program}.pid"),
                    *self._jvm.command(program), *words, str(node.folder / "server.properties"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=node.folder,
                start_new_session=True,  # Ctrl-C in a terminal is for us, not for it
            )  # fmt: skip

    def tool(self, program: str, *words: str, seconds: float = 60) -> str:
        """What one of Kafka's own programs prints: `org.apache.kafka.tools.consumer.ConsoleConsumer`, say.
        CalledProcessError when it fails."""
        return subprocess.run(
            [*self._jvm.command(program), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=True,
            cwd=self.folder,
        ).stdout

    def words(self) -> str:
        """What the nodes wrote to their logs."""
        found = ((n.folder / "words") for n in self.nodes)
        return "".join(path.read_text(errors="replace") for path in found if path.exists())

    def _of(self, which: tuple[int, ...]) -> list[Node]:
        return [n for n in self.nodes if n.pid and (not which or n.id in which)]

    def stop(self, *which: int, seconds: float = 10) -> None:
        """SIGTERM to all (or these); what has not ended by then, as the last of three without a quorum, is killed."""
        self._end(signal.SIGTERM, which, seconds)

    def kill(self, *which: int) -> None:
        """As a power cut, but for what the system still writes."""
        self._end(signal.SIGKILL, which, 20)

    def pause(self, *which: int) -> None:
        """Stop without ending: a silent peer."""
        for node in self._of(which):
            os.kill(node.pid, signal.SIGSTOP)

    def go_on(self, *which: int) -> None:
        """After `pause`."""
        for node in self._of(which):
            os.kill(node.pid, signal.SIGCONT)

    def _end(self, sign: signal.Signals, which: tuple[int, ...], seconds: float) -> None:
        ending = [n.process for n in self._of(which) if n.process is not None]
        for process in ending:
            process.send_signal(sign)
            process.send_signal(signal.SIGCONT)
        end = time.monotonic() + seconds
        for process in ending:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """Kill it and remove the folder."""
        self.kill()
        call_off(self._watch)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _uuid() -> str:
    """22 characters as Kafka spells 16 bytes; a first `-` would be taken for an option."""
    while (found := secrets.token_urlsafe(16)).startswith("-"):
        pass
    return found


def free_port() -> int:
    """A port on loopback where nobody listens, and that no outgoing connection will be given."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


# ---- what the watchdog runs

_WATCH: Final = """
import glob, os, shutil, signal, sys, time
folder = sys.argv[1]
if sys.stdin.buffer.read(1):
    sys.exit()
for _ in range(20):  # one that is just being started writes its id first
    for path in glob.glob(os.path.join(folder, "*", "*.pid")):
        try:
            os.kill(int(open(path).read()), signal.SIGKILL)
        except (OSError, ValueError):
            pass
    time.sleep(0.1)
shutil.rmtree(folder, ignore_errors=True)
"""


# ---- the command line


def _fetch(_: argparse.Namespace) -> int:
    found: Jvm = jvm()
    print(
        f"Kafka: {len(found.jars)} jars of {LOCK.name}, {found.archive or 'no class archive'}, {found.java}"
    )
    return 0


def _serve(options: argparse.Namespace) -> int:
    settings = dict(word.partition("=")[::2] for word in options.set)
    leave_on_signals()
    with Server(options.nodes, port=options.port, settings=settings) as server:
        server.start()
        print(f"kafka://{server.address}", flush=True)
        while all(n.pid for n in server.nodes):
            time.sleep(0.2)
    return 1


def main() -> int:
    """The command line above; 1 and a sentence when there is no broker to be had."""
    parser = argparse.ArgumentParser(description="A private Apache Kafka for tests and trials.")
    commands = parser.add_subparsers(required=True)
    fetch = commands.add_parser("fetch", help="the jars and the class archive, into the cache")
    fetch.set_defaults(call=_fetch)
    run = commands.add_parser("run", help="brokers until Ctrl-C; prints their address")
    run.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    run.add_argument("--port", type=int, default=0, help="of the first node; the next ones follow")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a broker's setting")
    run.set_defaults(call=_serve)
    options = parser.parse_args()
    call: Callable[[argparse.Namespace], int] = options.call
    try:
        return call(options)
    except Missing as why:
        print(why, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
