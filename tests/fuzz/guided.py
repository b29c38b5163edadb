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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
INSTALL = "pip install atheris==3.0.0"
LONGEST = 8_192


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one decoder in this process, which ends with it."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["contrapas.core", "contrapas.codec"]):
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


def main() -> int:
    """The command line: each decoder in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="DECODER")
    parser.add_argument("--seconds", type=int, default=30, help="for each")
    parser.add_argument("--into", help=argparse.SUPPRESS)
    args = parser.parse_args()
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
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.guided", name, "--seconds", str(args.seconds), "--into", str(folder)],
            cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        reached = re.findall(r"cov: (\d+)", done.stderr)
        inputs = re.findall(r"corp: (\d+)/", done.stderr)
        print(
            f"{name:12} {runs.group(1) if runs else '?':>9} runs   branches {reached[0] if reached else '?'} -> "
            f"{reached[-1] if reached else '?'}   inputs kept {inputs[-1] if inputs else '?'}   "
            f"{'nothing found' if done.returncode == 0 else f'FOUND, in {folder}'}",
            flush=True,
        )
        if done.returncode:
            failed += 1
            print(done.stderr[-3000:])
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
