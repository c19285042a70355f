"""What is taken from an HTTP request, as far as it needs no network."""

from tapauth.local import interface
from tapauth.local.http import is_own
from tapauth.local.interface import LocalInterface


class Named:
    """An App, as far as its local interface asks for names."""

    def __init__(self, names, hostname):
        self.settings = {
            "server": {"names": names},
            "network": {"hostname": hostname},
            "mqtt": {"tls": {"enabled": False}},
        }
        self.clock = self.log = None


def test_a_board_is_found_under_its_addresses_and_its_own_names_only():
    app = Named("Depot-7.example gate", "Charger7")
    door, interface.Door = interface.Door, lambda *arguments, **named: None
    try:
        LocalInterface(app, None, None, None)
    finally:
        interface.Door = door
    names = app.settings["server"]["names"]
    for host in (
        "charger7",
        "charger7.local",
        "charger7.local.:8080",
        "depot-7.example:80",
        "gate",
        "localhost",
        "192.0.2.1",
        "192.0.2.1:8080",
        "[2001:db8::1]",
        "[::ffff:192.0.2.1]:80",
    ):
        assert is_own(host, names), host
    for host in (
        "",
        ":80",
        ".",
        "charger",
        "charger7.example",
        "charger7.local.example",
        "192.0.2.1.example",
        "1.2.3.4.5",
        "gate depot-7.example",
        "[::1]80",
        "[::1",
        "[gate]",
        "[gate]:80",
        "gate:80:80",
        "gate:http",
    ):
        assert not is_own(host, names), host
    assert not is_own("gate", "") and not is_own("", "")
