"""TapAuth: authorization firmware for EV-charger controller boards."""

__version__ = "0.1.0"
BUILT = "2026-11-24T00:00:00Z"
"""No clock of this firmware was ever before this; the build puts the day of the commit here."""
