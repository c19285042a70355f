"""The name that umqtt.simple imports CPython's socket module by."""

from socket import *  # noqa: F403
