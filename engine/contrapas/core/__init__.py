"""The pure heart: records, transition, fold, undo, correlation. No I/O, no clock, no chance, no event loop, no logging."""
