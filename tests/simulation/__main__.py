"""`python -m tests.simulation`: the simulation over the loads of these tests."""

from __future__ import annotations

import sys

from contrapas.testing.simulation.command import main
from tests.simulation.loads import loads

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], loads, "tests.simulation"))
