"""The command line: one module a command, each registered by one line in `app`."""
