"""A module that comes late, in a heap with any room for it from none to enough. On MicroPython.

    micropython -X heapsize=512k host_tests/on_micropython/late_memory.py tapauth.cards.rewrite ...

Each import must work, or end with MemoryError, counted and named, and leave the heap and the table
of modules as they were. Prints a line for each module.
"""

import gc
import sys

from store_memory import release, squeeze

from tapauth.compat import forget_all_but, late

_STEP = 640
_MOST = 100_000


def attempt(name, left):
    """Whether the module was loaded with `left` bytes of heap, after all is checked."""
    known = list(sys.modules)
    failures = late.failures
    loaded = False
    squeeze(left)
    try:
        with late(name):
            __import__(name)
        loaded = True
    except MemoryError:
        pass
    release()
    if loaded:
        assert late.failures == failures
        forget_all_but(known)
    else:
        assert late.failures == failures + 1 and late.missing is name, name
    assert len(sys.modules) == len(known), [one for one in sys.modules if one not in known]
    return loaded


def main(names):
    for name in names:
        __import__(name.rpartition(".")[0])
    for name in names:
        with late(name):
            known = list(sys.modules)
            __import__(name)  # so that its names are there, as after names.meet()
            forget_all_but(known)
        left = told = 0
        while not attempt(name, left):
            told += 1
            left += _STEP
            assert left < _MOST, name
        before = gc.mem_alloc()
        for _ in range(5):
            attempt(name, left // 2)
        gc.collect()
        kept = gc.mem_alloc() - before
        assert kept < 2000, (name, "is kept, or a part of it", kept)
        print(name, told, "told, loaded with", left)


if __name__ == "__main__":
    main(sys.argv[1:])
