"""Values to JSON text and back: the closed registry of types, exceptions, loop cursors, and the strict JSON door."""
