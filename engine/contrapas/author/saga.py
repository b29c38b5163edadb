"""`Saga`, the first argument of every saga, and `@saga`."""
