"""MicroPython's module of this name, as far as the PN532 library needs it."""


def const(value):
    return value
