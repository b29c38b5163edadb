"""Help for tests of sagas and of connectors. Nothing that runs in production may import it."""
