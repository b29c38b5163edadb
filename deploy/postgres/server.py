"""A private PostgreSQL: started in a folder of its own, on a Unix socket, gone when the process that started it is gone.

    python deploy/postgres/server.py fetch     the programs, into the cache
    python deploy/postgres/server.py run       a server until Ctrl-C; prints its address

PostgreSQL refuses to run as root; where we are root it runs as `nobody`. What protects data (`fsync`, `full_page_writes`,
`synchronous_commit`) stays on: only memory is small.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

if __package__ in (None, ""):  # run as a file, not as a module
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deploy.postgres.binaries import NEWEST, OLDEST, Missing, programs
from deploy.watchdog import call_off, leave_on_signals, watch

__all__ = ["NEWEST", "OLDEST", "Missing", "Server"]

SETTINGS: Final = {
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # in the folder, so that nothing stays in /dev/shm after a kill
    "max_wal_size": "256MB",
    "max_connections": "120",
    "wal_level": "logical",
    "max_prepared_transactions": "8",
    "timezone": "UTC",
    "logging_collector": "off",
}
_TRIES: Final = 5


class Server:
    """One server: `start`, `stop`, `kill`, `pause`, `go_on`, and `start` again on the same data."""

    def __init__(
        self, major: int = NEWEST, *, tcp: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        """tcp: also on a loopback port that the kernel chose, with a password."""
        self.major = major
        self.tcp = tcp
        self.port = 5432
        self.password = secrets.token_hex(8)
        self._settings = {**SETTINGS, **(settings or {})}
        self._bin = programs(major)
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="cp-pg-"))
        self._watch = watch(_WATCH, self.folder)
        try:
            self._init()
        except BaseException:
            self.close()
            raise

    def _init(self) -> None:
        user = _user()
        if user is not None:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        word = self.folder / "password"
        word.write_text(self.password)
        word.chmod(0o644)  # in a folder that only the server's user and root may enter
        self._run("initdb", "-D", self._data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync",
                  "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={word}")  # fmt: skip

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def pid(self) -> int:
        """The postmaster's process id; 0 when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def url(self, database: str = "postgres") -> str:
        """Its address on the Unix socket; everybody who may enter the folder may connect."""
        port = "" if self.port == 5432 else f"&port={self.port}"
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.folder))}{port}"

    def tcp_url(self, database: str = "postgres", *, port: int = 0) -> str:
        """Its address over TCP; `port` of a proxy before it instead of its own."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{port or self.port}/{quote(database)}"

    def start(self) -> Self:
        """Start it, and return when it takes connections."""
        for attempt in range(_TRIES if self.tcp else 1):
            if self.tcp:
                self.port = self.port if self.port != 5432 and attempt == 0 else _free_port()
            with open(self.folder / "log", "ab") as log:
                self._process = self._popen(
                    [str(self._bin / "postgres"), "-D", self._data, *self._options()], stdout=log, stderr=log
                )
            if self._ready():
                return self
        raise Missing(f"PostgreSQL {self.major} does not start: {self.words()[-2000:]}")

    def _options(self) -> list[str]:
        listen = "127.0.0.1" if self.tcp else ""
        whole = {
            **self._settings,
            "listen_addresses": listen,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        return [part for name, value in whole.items() for part in ("-c", f"{name}={value}")]

    def _ready(self) -> bool:
        """True when `postmaster.pid` says so; False when it ended before."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self.pid:
            with contextlib.suppress(OSError):
                lines = (self.folder / "data" / "postmaster.pid").read_text().split("\n")
                if len(lines) > 7 and lines[7].strip() == "ready" and lines[0] == str(self.pid):
                    return True
            time.sleep(0.02)
        return False

    def words(self) -> str:
        """What it has written to its log."""
        try:
            return (self.folder / "log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        """End sessions and stop; the data stay."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a power cut: nothing is written any more by it or by its sessions' processes."""
        pid = self.pid
        children = _children(pid)
        self._end(signal.SIGKILL)
        for child in children:  # they would end by themselves, but a little later
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        end = time.monotonic() + 10
        while any(map(_alive, children)) and time.monotonic() < end:
            time.sleep(0.01)

    def pause(self) -> None:
        """Stop it and its sessions' processes without ending them: a silent peer. First the one that makes the others, until
        it stands: a session that it had just begun would go on."""
        os.kill(self.pid, signal.SIGSTOP)
        until = time.monotonic() + 5
        while _state(self.pid) != "T" and time.monotonic() < until:
            time.sleep(0.001)
        for pid in _children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        for pid in (*_children(self.pid), self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _end(self, with_signal: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(with_signal)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop it and remove the folder."""
        if self._process is not None:
            self._end(signal.SIGQUIT)
        call_off(self._watch)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, program: str, *words: str) -> None:
        process = self._popen(
            [str(self._bin / program), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = process.communicate(timeout=120)
        if process.returncode:
            raise Missing(
                f"{program} of PostgreSQL {self.major} failed: {said.decode(errors='replace')[-2000:]}"
            )

    def _popen(self, words: list[str], *, stdout: Any, stderr: Any) -> subprocess.Popen[bytes]:
        user = _user()
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=self.folder,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,  # Ctrl-C in a terminal is for us, not for it
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )


def _user() -> pwd.struct_passwd | None:
    """Who the server runs as; None: as we are."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _children(pid: int) -> list[int]:
    """Process ids below one; [] where the system does not tell."""
    if not pid:
        return []
    try:
        said = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return _children_by_proc(pid)
    pairs = [line.split() for line in said.stdout.splitlines()]
    return [int(p[0]) for p in pairs if len(p) == 2 and p[1] == str(pid)]


def _children_by_proc(pid: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if entry.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(entry.parent.name))
    return found


def _state(pid: int) -> str:
    """The letter that `ps` shows; `T`, as if it stood, where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "T"


def _alive(pid: int) -> bool:
    """A process that ended, and that nobody has asked about yet, does not count."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return True


# ---- what the watchdog runs

_WATCH: Final = """
import os, shutil, signal, sys, time
folder = sys.argv[1]
said = sys.stdin.buffer.read(1)
if said:
    sys.exit()
def pid():
    try:
        return int(open(os.path.join(folder, "data", "postmaster.pid")).readline())
    except (OSError, ValueError):
        return 0
for sign in (signal.SIGQUIT, signal.SIGKILL):
    one = pid()
    for _ in range(100):
        try:
            if one:
                os.kill(one, sign)
                os.kill(one, signal.SIGCONT)
        except ProcessLookupError:
            break
        if not one:
            break
        time.sleep(0.1)
time.sleep(0.2)
shutil.rmtree(folder, ignore_errors=True)
"""


# ---- the command line


def _fetch(_: argparse.Namespace) -> int:
    for major in (OLDEST, NEWEST):
        print(f"PostgreSQL {major}: {programs(major)}")
    return 0


def _serve(options: argparse.Namespace) -> int:
    with Server(options.version, tcp=options.tcp) as server:
        server.start()
        print(server.tcp_url() if options.tcp else server.url(), flush=True)
        leave_on_signals()
        while server.pid:
            time.sleep(0.2)
    return 1


def main() -> int:
    """The command line above; 1 and a sentence when there is no server to be had."""
    parser = argparse.ArgumentParser(description="A private PostgreSQL for tests and trials.")
    commands = parser.add_subparsers(required=True)
    fetch = commands.add_parser("fetch", help="the programs, into the cache")
    fetch.set_defaults(call=_fetch)
    run = commands.add_parser("run", help="a server until Ctrl-C; prints its address")
    run.add_argument("--version", type=int, choices=(OLDEST, NEWEST), default=NEWEST)
    run.add_argument("--tcp", action="store_true", help="also on a loopback port")
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
