"""The name that umqtt.simple imports CPython's binascii module by."""

from binascii import *  # noqa: F403
