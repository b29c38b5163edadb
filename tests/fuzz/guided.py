"""Decoders under a fuzzer that sees which branches an input reaches and goes on from those that reach new ones.

python -m tests.fuzz.guided                            # every decoder for half a minute
python -m tests.fuzz.guided record --seconds 3600      # one of them, at night

It is atheris (libFuzzer), which is no dependency of ours: its wheel has 35 MB, and CI draws from Hypothesis instead, whose
`target()` would have to be told what is near to something new. It begins with our seeds and with what once broke a decoder.
What it finds is left in the folder it names, and belongs into `corpus/<decoder>/`, as hex.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
INSTALL = "pip install atheris==3.0.0"
LONGEST = 8_192
DECODE = (
    "contrapas.core",
    "contrapas.codec",
    "contrapas.author.link",
    "contrapas.compiler.lock",
    "contrapas.runtime.graphs",
    "contrapas.log.sqlite_rows",
)
"""Where the decoders are, by the beginnings of module names."""


def _beside() -> list[str]:
    """Modules that decode nothing: instruments take longer to put in than a short run lasts."""
    engine = ROOT / "engine"
    names = [".".join(p.relative_to(engine).with_suffix("").parts) for p in engine.rglob("*.py")]
    return [name.removesuffix(".__init__") for name in names if not name.startswith(DECODE)]


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one decoder in this process, which ends with it."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["contrapas"], exclude=_beside()):
        known: Any = importlib.import_module("tests.fuzz.decoders")
    decoder = known.decoders()[name]

    def one(data: bytes) -> None:
        try:
            found = decoder.read(data)
        except Exception as why:
            if known.coded(why) in decoder.codes or (not decoder.codes and type(why) is ValueError):
                return
            raise
        if decoder.write is not None:
            written = decoder.write(found)
            if decoder.read(written) != found or decoder.write(decoder.read(written)) != written:
                raise AssertionError(f"{name}: what was written and read again is not equal")

    seeds = folder / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(decoder.seeds):
        (seeds / f"seed-{number}").write_bytes(seed)
    for path in (CORPUS / name).glob("*.hex"):
        (seeds / path.stem).write_bytes(bytes.fromhex(path.read_text().strip()))
    flags = (
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    )
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={folder}/", str(seeds)], one)
    atheris.Fuzz()


def weigh(name: str, folder: Path) -> tuple[int, float, float]:
    """Every input that was kept, held to its time and memory without the fuzzer's instruments: how many, the slowest in
    ms, the most bytes for each byte of input beyond what any may take."""
    from tests.fuzz.decoders import coded, decoders
    from tests.fuzz.fuzzing import BASE, DECODE_MS, TIMES, peak_of

    decoder = decoders()[name]
    slowest = most = 0.0
    paths = sorted((folder / "seeds").iterdir())
    for path in paths:
        data = path.read_bytes()

        def act(data: bytes = data) -> None:
            try:
                decoder.read(data)
            except Exception as why:
                if not coded(why) and type(why) is not ValueError:
                    raise

        spent: list[float] = []
        for _ in range(5):
            began = time.thread_time()
            act()
            spent.append((time.thread_time() - began) * 1000)
            if spent[-1] < DECODE_MS:
                break
        peak = peak_of(act)
        if min(spent) >= DECODE_MS or peak >= BASE + TIMES * len(data):
            raise AssertionError(f"{name}: {path} takes {min(spent):.1f} ms and {peak} bytes of memory")
        slowest, most = max(slowest, min(spent)), max(most, (peak - BASE) / max(1, len(data)))
    return len(paths), slowest, most


def main() -> int:
    """The command line: each decoder in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="DECODER")
    parser.add_argument("--seconds", type=int, default=30, help="for each")
    parser.add_argument("--into", help=argparse.SUPPRESS)
    parser.add_argument("--weigh", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.weigh:
        number, slowest, most = weigh(args.names[0], Path(args.weigh))
        print(f"{number} inputs, the slowest {slowest:.2f} ms, the most memory {most:.1f} times an input")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print(f"atheris is not installed: {INSTALL}")
        return 2
    if args.into:
        fuzz(args.names[0], Path(args.into), args.seconds)
        return 0
    from tests.fuzz.decoders import decoders

    failed = 0
    for name in args.names or list(decoders()):
        folder = Path(tempfile.mkdtemp(prefix=f"guided-{name}-"))
        done = _child(name, "--seconds", str(args.seconds), "--into", str(folder))
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        reached = re.findall(r"cov: (\d+)", done.stderr)
        weighed = _child(name, "--weigh", str(folder))
        bad = done.returncode or weighed.returncode
        print(
            f"{name:12} {runs.group(1) if runs else '?':>9} runs   branches {reached[0] if reached else '?'} -> "
            f"{reached[-1] if reached else '?'}   {weighed.stdout.strip()}   "
            f"{f'FOUND, in {folder}' if bad else 'nothing found'}",
            flush=True,
        )
        if bad:
            failed += 1
            print(done.stderr[-3000:] if done.returncode else weighed.stderr[-3000:])
    return int(failed > 0)


def _child(name: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", name, *more],
        cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
