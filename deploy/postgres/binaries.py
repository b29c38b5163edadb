"""PostgreSQL's programs for this machine: pinned archives from Maven Central, checked, unpacked once into a cache."""

from __future__ import annotations

import fcntl
import glob
import io
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from deploy.maven import Missing, cache, fetched

__all__ = ["NEWEST", "OLDEST", "Missing", "programs"]

NEWEST: Final = 18
"""The newest major version there is."""
OLDEST: Final = 13
"""The oldest major version that contrapas works with (13 brought `xid8`)."""
GROUP: Final = "io/zonky/test/postgres"

# platform -> major version -> (version, SHA-256 of the jar). Where 13 was never published, the oldest is 14.
PINNED: Final = {
    "linux-amd64": {
        13: ("13.23.0", "0713b8a6dbe13440718ea789eefca6ae562b004bc0541d9c21d20300529c1db2"),
        18: ("18.6.0", "008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1"),
    },
    "linux-arm64v8": {
        13: ("14.23.0", "a55b93f67051a602be033b298461709f88789dccee925236f2fb5a4eaf9dd526"),
        18: ("18.4.0", "a9ec284923b9a7d2db41509bfb88c3d0eeb9f4aa5e2b29ea0aac5e8dbaf4c335"),
    },
    "darwin-amd64": {
        13: ("13.18.0", "7f06df75482a81a74fc82d85c6fcd7101f2375a0e748ee1081e2ee913f049a47"),
        18: ("18.6.0", "690941008aac9ee360820fde9bb7870a4f3dcac5e9e2f9e45e42333a436ad0f9"),
    },
    "darwin-arm64v8": {
        13: ("14.23.0", "b3afa06270a5db96748ded366b9af590b29035ce16677e88c8ab65d0c455f613"),
        18: ("18.4.0", "ab698c4486a795d2aa8a158b3a41e1201a77e7ff72a6255094cd5900080853c2"),
    },
}


def programs(major: int = NEWEST) -> Path:
    """The folder with `initdb` and `postgres` of a major version: from the cache, else fetched, else (only for the
    newest) what is installed. Missing when there is none."""
    try:
        return _pinned(major)
    except Missing as why:
        installed = _installed()
        if major == NEWEST and installed is not None:
            print(f"{why}; the tests use the installed {installed}", file=sys.stderr)
            return installed
        raise


def _pinned(major: int) -> Path:
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}
    name = f"{sys.platform}-{machine.get(platform.machine().lower(), platform.machine())}"
    if name not in PINNED:
        raise Missing(f"there are no published programs of PostgreSQL for {name}")
    version, digest = PINNED[name][major]
    home = cache() / f"postgres-{version}"
    if (home / "bin" / "postgres").exists():
        return home / "bin"
    with open(cache() / "postgres.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _unpack(_fetched(name, version, digest), home)
    return home / "bin"


def _fetched(name: str, version: str, digest: str) -> bytes:
    """The archive inside the jar. Missing when it does not come, or is not the one that was pinned."""
    item = f"embedded-postgres-binaries-{name}"
    data = fetched(f"{GROUP}/{item}/{version}/{item}-{version}.jar", digest)
    with zipfile.ZipFile(io.BytesIO(data)) as jar:
        archive = next(n for n in jar.namelist() if n.endswith(".txz"))
        return jar.read(archive)


def _unpack(archive: bytes, home: Path) -> None:
    """Unpack beside the place and move there, so that a half unpacked folder is never taken for a whole one."""
    work = Path(tempfile.mkdtemp(dir=home.parent, prefix=".new-"))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as tar:
            tar.extractall(work, filter="data")
        work.chmod(0o755)
        work.rename(home)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _installed() -> Path | None:
    """The newest server that the system has."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[-2]))
    if found:
        return Path(found[-1])
    program = shutil.which("initdb")
    return Path(os.path.realpath(program)).parent if program else None
