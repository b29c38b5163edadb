"""The explorer of machines: what can happen before it does. It may not run a saga, read a log, or print."""
