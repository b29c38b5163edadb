"""What this project fetches for its tests and trials: pinned files from Maven Central, checked, kept in one cache.

`CONTRAPAS_CACHE` names another cache, `CONTRAPAS_MAVEN` another repository of the same form.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

__all__ = ["Missing", "cache", "fetched", "jars", "java"]

BASE: Final = "https://repo1.maven.org/maven2"


class Missing(Exception):
    """It cannot be had on this machine; the text says why."""


def cache() -> Path:
    """Where files are kept: `CONTRAPAS_CACHE`, else the user's cache. Root's lies where a server's user, who is
    another, can read it."""
    named = os.environ.get("CONTRAPAS_CACHE", "")
    if named:
        folder = Path(named)
    elif os.geteuid() == 0:
        folder = Path("/var/cache/contrapas")
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "contrapas"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetched(path: str, digest: str) -> bytes:
    """A file by its path in the repository. Missing when it does not come, or has another SHA-256 than this one."""
    url = f"{os.environ.get('CONTRAPAS_MAVEN', BASE).rstrip('/')}/{path}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data: bytes = answer.read()
    except OSError as why:
        raise Missing(f"{url} cannot be fetched: {why}") from why
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise Missing(f"{url} has the SHA-256 {found}, pinned is {digest}")
    return data


def jars(lock_file: Path) -> list[Path]:
    """The files of a lock file (`SHA-256  path`, a line each), from the cache or fetched. Missing as `fetched`."""
    wanted: list[tuple[str, str]] = []
    for line in lock_file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            digest, _, path = line.partition("  ")
            wanted.append((path, digest))
    home = cache() / "maven"
    home.mkdir(exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(8) as pool:
            coming = [pool.submit(_jar, home, path, digest) for path, digest in wanted]
            return [one.result() for one in coming]


def _jar(home: Path, path: str, digest: str) -> Path:
    kept = home / f"{digest[:16]}-{path.rpartition('/')[2]}"
    if kept.exists():
        return kept
    data = fetched(path, digest)
    handle, name = tempfile.mkstemp(dir=home)
    with open(handle, "wb") as file:
        file.write(data)
    os.chmod(name, 0o644)
    os.replace(name, kept)
    return kept


def java(minimum: int, whose: str) -> tuple[str, str]:
    """The `java` of `JAVA_HOME` or of the path, and its version. Missing when there is none as new as `minimum`;
    `whose` need it is, for the text."""
    home = os.environ.get("JAVA_HOME", "")
    program = os.path.join(home, "bin", "java") if home else shutil.which("java") or ""
    if not program or not os.path.exists(program):
        raise Missing(f"there is no java on this machine, {whose} needs {minimum}")
    said = subprocess.run(
        [program, "-version"], capture_output=True, text=True, timeout=60, check=False
    ).stderr
    version = said.partition('"')[2].partition('"')[0]
    number = version.split(".")[0]
    if not number.isdigit() or int(number) < minimum:
        raise Missing(f"java {number or '?'} is too old, {whose} needs {minimum}")
    return program, version
