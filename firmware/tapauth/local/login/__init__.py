"""Roles, PINs, passwords, tokens and the lockout of the local interface. All of this is without
I/O, but for one file, which kept.StateFile reads and replaces.
"""
