"""Child processes of `dev` and `demo`: started, told to go, stopped in order, or killed as a power cut would."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from contrapas.errors import Refused

TERM_S = 8.0


class Child:
    """One process that runs a plan (`child.Plan` as a mapping)."""

    def __init__(self, plan: dict[str, Any]) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        keep = [writing, *([plan["serve"]] if plan.get("serve", -1) >= 0 else [])]
        whole = {**plan, "report": writing, "leash": True}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "contrapas.cli.child", json.dumps(whole)],
            stdin=subprocess.PIPE,
            pass_fds=keep,
            process_group=0,
        )
        os.close(writing)
        self.pipe = reading
        self.rest = b""
        self.events: dict[str, dict[str, Any]] = {}

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    def look(self, wait_s: float = 0.0) -> None:
        """Take in what it reported."""
        if self.pipe < 0:
            return
        ready, _, _ = select.select([self.pipe], [], [], wait_s)
        if not ready:
            return
        data = os.read(self.pipe, 65536)
        if not data:
            os.close(self.pipe)
            self.pipe = -1
            return
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            self.events[str(event["event"])] = event

    def wait(self, *names: str, timeout_s: float = 30.0) -> str:
        """The first of these events that it reports; empty when it ended or the time is over."""
        until = time.monotonic() + timeout_s
        while True:
            self.look(0.05)
            for name in names:
                if name in self.events:
                    return name
            if time.monotonic() > until or (self.pipe < 0 and not self.alive):
                return ""

    def failure(self) -> int:
        """End it, and give the exit code that it named, else its own; never 0."""
        self.look(0.1)
        said = self.events.get("failed", {}).get("exit")
        code = self.stop()
        return said if isinstance(said, int) and said else (code if code > 0 else 1)

    def load(self) -> Child:
        """Let it import and compile the user's module."""
        self._tell(b"load\n")
        return self

    def go(self) -> None:
        """Let it begin."""
        self._tell(b"go\n")

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.write(word)
            self.process.stdin.flush()

    def stop(self) -> int:
        """SIGTERM, and SIGKILL when it takes too long; its exit code."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(TERM_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self._close()

    def kill(self) -> int:
        """SIGKILL: nothing of it runs any more."""
        if self.alive:
            self.process.kill()
        return self._close()

    def _close(self) -> int:
        code = self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1
        return code


def listen(port: int | None, host: str = "127.0.0.1") -> socket.socket:
    """A listening socket: the port asked for (CP828 when it is taken), else 7070 or the next free one."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise Refused(
            "CP827",
            f"{host} is not this machine alone, and no authentication is configured",
            fix="--host 127.0.0.1",
        )
    tries = [port] if port is not None else [*range(7070, 7080), 0]
    for number in tries:
        listening = socket.socket(socket.AF_INET6 if host == "::1" else socket.AF_INET)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, number))
        except OSError as error:
            listening.close()
            if port is not None:
                raise Refused(
                    "CP828",
                    f"port {port} cannot be used: {error.strerror}",
                    fix=f"--port {port + 1}, or --port 0",
                ) from None
            continue
        listening.listen(128)
        listening.set_inheritable(True)
        return listening
    raise Refused("CP828", "no port from 7070 on is free", fix="--port 0")


class Files:
    """The user's files, and whether one of them was saved since the last look."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, int]] = {}

    def watch(self, paths: list[str]) -> None:
        """Watch these too."""
        for path in paths:
            self.known.setdefault(path, self._state(path))

    def changed(self) -> list[str]:
        """Those that changed."""
        found: list[str] = []
        for path, before in self.known.items():
            now = self._state(path)
            if now != before and now != (0, 0):
                self.known[path] = now
                found.append(path)
        return found

    def _state(self, path: str) -> tuple[int, int]:
        try:
            state = os.stat(path)
        except OSError:
            return (0, 0)
        return state.st_mtime_ns, state.st_size
