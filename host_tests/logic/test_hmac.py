"""HMAC-SHA256 against the vectors of RFC 4231, and the comparison."""

from tapauth.crypto.hmac import Hmac, equal

VECTORS = (
    (
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
)


def test_the_vectors_of_rfc_4231():
    for key, data, digest in VECTORS:
        assert Hmac(key)(data).hex() == digest
        # In parts it is the same, and an Hmac can be used again.
        mac = Hmac(key)
        mac(b"something else")
        assert mac(data[:3], b"", data[3:]).hex() == digest


def test_equal_compares_every_byte():
    one = bytes(range(32))
    assert equal(one, bytes(range(32)))
    for at in range(32):
        other = bytearray(one)
        other[at] ^= 0x80
        assert not equal(one, bytes(other))
    assert not equal(one, one[:31])
    assert equal(b"", b"")
