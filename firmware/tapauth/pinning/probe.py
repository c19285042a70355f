"""Tries the structures that pinner.py takes for granted on functions and texts made for that.

Loaded at the start, and forgotten. First it only reads: each structure must be where it is
expected. Then `specimens` is pinned as any module will be, and must work as before.
"""

from machine import mem32
from uctypes import bytearray_at

from tapauth.compat import forget, late


def fits(pins) -> bool:
    """Whether this MicroPython has the structures that are expected. `pins` is for this only."""
    specimens = _specimens()
    if not _reads(specimens) or not specimens.work():
        return False
    # Another copy of it, and only that one, is looked at while it is imported.
    specimens = pins.pinner().load(_specimens)
    for part in _parts(specimens):
        if mem32[part + 12] >> 28 != 1:
            return False
    return (
        mem32[id(specimens.TEXTS[0]) + 12] >> 28 == 1
        and mem32[id(specimens.TEXTS[1]) + 12] >> 28 == 1
        and not pins.failures
        and specimens.work()
    )


def _specimens():
    with late("specimens"):
        from tapauth.pinning import specimens

    forget(specimens)
    return specimens


def _parts(specimens) -> list:
    """The addresses of its functions: plain ones, methods, a closure and what is in it."""
    members = specimens.Methods.__dict__
    closure = specimens.closure()
    return [
        id(specimens.function),
        id(specimens.generator),
        id(members["plain"]),
        mem32[id(members["static"]) + 4],
        mem32[id(members["of_class"]) + 4],
        mem32[id(members["attribute"]) + 4],
        id(specimens.closure),
        mem32[id(closure) + 4],
        mem32[id(closure()) + 4],
    ]


def _reads(specimens) -> bool:
    functions = (id(type(specimens.function)), id(type(specimens.generator)))
    parts = _parts(specimens)
    for part in parts:
        if part & 3 or part >> 28 != 2 or mem32[part] not in functions:
            return False
        if mem32[part + 4] != id(specimens) or mem32[part + 12] >> 28 != 2:
            return False
    outer, closure, inner = parts[-3:]
    # The code of a function's own functions is found through its table, at each depth.
    nested = mem32[mem32[outer + 8]]
    deeper = mem32[mem32[nested + 8]]
    if mem32[nested + 4] != mem32[closure + 12] or mem32[deeper + 4] != mem32[inner + 12]:
        return False
    # The module's constants: TEXTS is one of the two.
    table = mem32[id(specimens) + 12]
    if id(specimens.TEXTS) not in (mem32[table], mem32[table + 4]):
        return False
    for number, text in enumerate(specimens.TEXTS):
        at = id(text)
        size = len(text)
        data = text if isinstance(text, bytes) else text.encode()
        if mem32[id(specimens.TEXTS) + 8 + 4 * number] != at or mem32[at + 8] != size:
            return False
        if bytearray_at(mem32[at + 12], size + 1) != data + b"\0":
            return False
    return True
