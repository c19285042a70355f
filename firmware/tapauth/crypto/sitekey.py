"""The site's key, in two copies on flash: one of them may be damaged or gone.

/site.key holds its 32 bytes, /site.key2 the same and behind them SHA-256("tapauth site key" and
the key). The second is written first, and counts when it is right by itself, so that a power cut
between the two leaves one key and not two. A board from before there were two has the first only.

The boot part reads them in the same way (tapauth_boot.py); where it cannot tell which copy is
damaged, the manifest tells whether the first one is right. tools/board/board_port.py sends this
module's source to a board whose firmware may be older.
"""

import os
from hashlib import sha256

KEY = "/site.key"
COPY = "/site.key2"


def key_check(key: bytes) -> bytes:
    """What stands behind the key in its second copy."""
    return sha256(b"tapauth site key" + key).digest()


def key_copies(key: bytes) -> tuple:
    """(path, content) of both copies, in the order in which they are to be written."""
    return (COPY, key + key_check(key)), (KEY, key)


def key_file(path: str, open=open) -> bytes:
    """What is in a copy, as far as it matters; b"" when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(65)
    except OSError:
        return b""


def site_key(open=open, proven: bool = False) -> bytes:
    """The site's key. Raises ValueError when there is none that can be relied on.

    `proven`: something that was signed with the key was checked, so the first copy is right where
    nothing of the second is.
    """
    own, copy = key_file(KEY, open), key_file(COPY, open)
    key, check = copy[:32], copy[32:]
    if len(copy) != 64:
        key = own  # as on a board that has no second one
    elif key_check(key) != check and key != own:
        key = own if proven or key_check(own) == check else b""
    if len(key) != 32:
        raise ValueError("the site key is damaged" if own or copy else "there is no site key")
    return key


def mend_key(key: bytes) -> bool:
    """Make both copies whole. Returns whether one was not. Raises OSError."""
    mended = False
    for path, data in key_copies(key):
        if key_file(path) != data:
            with open(path + ".new", "wb") as file:
                file.write(data)
            os.rename(path + ".new", path)
            mended = True
    return mended


def mended_key(proven: bool, log) -> bytes:
    """The site's key, as site_key(); both copies are made whole, and `log` hears of it. Raises
    ValueError.
    """
    key = site_key(open, proven)
    try:
        if mend_key(key):
            log.warning("cards", "a copy of the site key was damaged or missing: mended")
    except OSError as error:
        log.warning("cards", "a copy of the site key cannot be mended ({})", error)
    return key
