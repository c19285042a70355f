"""Addresses and hostnames: one form for each, and what is none."""

from rpc_rig import error_of

from tapauth.rpc import addresses


def test_an_address_is_an_id_and_a_component():
    for text, name, component in (
        ("//api.cesanta.com/cloud.dispatcher", "//api.cesanta.com/cloud", "dispatcher"),
        ("//api.cesanta.com/cloud.registry", "//api.cesanta.com/cloud", "registry"),
        ("//api.cesanta.com/device_123", "//api.cesanta.com/device_123", ""),
        ("//h/a.b/c.d", "//h/a.b/c", "d"),
        ("//h:8080/x", "//h:8080/x", ""),
        # The host has no case, the path has.
        ("//API.Cesanta.com/Cloud", "//api.cesanta.com/Cloud", ""),
        # Percent-decoding comes after the component is off: an escaped dot belongs to the ID.
        ("//h/a%2Eb", "//h/a.b", ""),
        ("//h/%64evice%5F1", "//h/device_1", ""),
        ("//h/%E2%82%ac", "//h/\u20ac", ""),
        ("//h/\u20ac.x", "//h/\u20ac", "x"),
        ("//h/a.%78", "//h/a", "x"),
        ("//h/50%25", "//h/50%", ""),
    ):
        assert addresses.parse(text) == (name, component), text


def test_a_host_alone_is_its_backend():
    assert addresses.parse("//api.cesanta.com") == ("//api.cesanta.com/cloud", "")


def test_what_is_no_address():
    for text in (
        None,
        7,
        "",
        "device_123",
        "/h/x",
        "http://h/x",
        "//",
        "///x",
        "//h/",
        "//h/x/",
        "//user@h/x",
        "//h/x?q",
        "//h/x#f",
        "//h/x.y.z",
        "//h/x.",
        "//h/.x",
        "//h/..",
        "//h/x%",
        "//h/x%4",
        "//h/x%4g",
        "//h/x%+4",
        "//h/x% 4",
        "//h/x y",
        "//h/x%20y",
        "//h/x\x00",
        "//h/x%00",
        "//h/x\x7f",
        # These would be the same ID as //h/x/y, or bytes that are no text.
        "//h/x%2Fy",
        "//h/x%2fy",
        "//h/%ff",
        "//h/%ed%a0%80",
        "//h\u20ac/x",
        "//h%41/x",
        "//h/" + "x" * 300,
        "//h/" + "\u20ac" * 42,
    ):
        assert isinstance(error_of(addresses.parse, text), ValueError), text


def test_quote_fits_one_segment_of_a_topic():
    assert addresses.quote("//h/a_b-c.~+#\u20ac") == "%2F%2Fh%2Fa_b-c.~%2B%23%E2%82%AC"
    assert addresses.unquote(addresses.quote("//h/50%")) == "//h/50%"


def test_hostnames_have_one_form():
    for text, host in (
        ("app.example.com", "app.example.com"),
        ("App.Example.COM.", "app.example.com"),
        ("localhost", "localhost"),
        ("app:8080", "app:8080"),
        ("app.:0443", "app:443"),
        ("10.0.0.7", "10.0.0.7"),
        ("x" * 63 + ".com", "x" * 63 + ".com"),
    ):
        assert addresses.parse_host(text) == host
    for text in (
        ".",
        "a..b",
        "-a.com",
        "a-.com",
        "a_b.com",
        "a b",
        "a/b",
        "http://a",
        "a:",
        "a:0",
        "a:65536",
        "a:1:2",
        "a:+1",
        "\u00e4.com",
        "x" * 64 + ".com",
        ".".join(["x" * 50] * 5),
    ):
        assert isinstance(error_of(addresses.parse_host, text), ValueError), text
