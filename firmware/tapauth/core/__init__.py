"""The sans-I/O core: events and the time in, effects out. See docs/architecture.md."""
