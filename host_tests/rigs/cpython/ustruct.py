"""The name that umqtt.simple imports CPython's struct module by."""

from struct import *  # noqa: F403
