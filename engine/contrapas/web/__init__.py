"""Doors over HTTP: start, signal, state. It holds no rule of the engine and may not import the command line."""
