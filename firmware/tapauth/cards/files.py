"""The mounted file system as the store sees it: the one port of this package.

A test hands the store its own object with these names instead, for instance a `VfsLfs2`.
"""

from os import mkdir, remove, rename, urandom

open = open

__all__ = ["mkdir", "open", "remove", "rename", "urandom"]
