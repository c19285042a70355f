"""Measurements of speed and memory: `make bench`. Each module prints rows, one JSON a line."""
