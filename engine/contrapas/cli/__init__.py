"""The command line: it prints and asks, and holds no rule of the engine. Nothing imports it."""
