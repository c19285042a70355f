"""TapAuth: authorization firmware for EV-charger controller boards."""

__version__ = "0.1.0"
