"""Scripts that run in MicroPython, each started by a tool beside it."""
