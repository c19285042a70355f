"""What is in a .mpy file, of a source whose functions are counted."""

from deploy_rig import compiled

from tools.compile.mpy import bytecode
from tools.paths import IMAGE

SOURCE = """
TEXTS = ("a text that is long enough", b"and bytes", (1, 2.5, None, 1 << 80))
class One:
    def method(self):
        return lambda: [x for x in TEXTS]
def outer():
    def inner():
        yield 1
    return inner
"""


def test_each_bytecode_is_found_once_and_in_its_order():
    code = compiled(SOURCE)
    found = list(bytecode(code))
    # The module, the class and its method with the lambda and the list in it, and two functions.
    assert len(found) == 7
    ends = [at + size for at, size in found]
    assert all(end < at for end, (at, _) in zip(ends, found[1:], strict=False))


def test_every_module_of_the_firmware_can_be_read_to_its_end():
    modules = sorted(IMAGE.rglob("*.mpy"))
    assert len(modules) > 60
    for path in modules:
        assert list(bytecode(path.read_bytes())), path
