"""CircuitPython's type names, as far as the PN532 library needs them."""

ReadableBuffer = bytes | bytearray | memoryview
