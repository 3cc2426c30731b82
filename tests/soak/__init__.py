"""Long runs in which a real service is killed over and over again: `python -m tests.soak`, `make soak`."""
