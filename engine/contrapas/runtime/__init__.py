"""From a declared app to running partitions: it waits, calls and measures; what is decided is decided below it. It prints nothing."""
