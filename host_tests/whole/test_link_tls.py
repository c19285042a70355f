"""TLS between the link in real MicroPython and a server that is, or is not, the right one."""

import shutil
import subprocess
import time

import pytest
from brokers import BROKERS, Mosquitto
from certificates import DAY, NAME, Authority, server_side

from tools.rigs.hostile_proxy import HostileProxy, byte_by_byte
from tools.rigs.probes import Observer, Probe

MAIN = "mosquitto" if "mosquitto" in BROKERS else "embedded"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture
def broker():
    with BROKERS[MAIN]() as it:
        yield it


def tls(ca_file: str, client: tuple[str, str] = ("", ""), server_name: str = NAME) -> dict:
    """The "mqtt.tls" object of a configuration."""
    return {
        "enabled": True,
        "ca_file": ca_file,
        "cert_file": client[0],
        "key_file": client[1],
        "server_name": server_name,
    }


def accepted(broker, context, settings: dict) -> dict:
    """Runs a probe against a TLS server until events have come through. Returns its result."""
    with (
        HostileProxy(broker.port, tls=context) as proxy,
        Observer(broker.port) as observer,
        Probe(proxy.port, tls=settings) as probe,
    ):
        probe.wait_for(lambda: len(observer.order) > 5)
        observer.send(b"large enough for more than one read " * 40)
        time.sleep(0.2)
        result = observer.stop(probe)
    assert result["intact"] == 1
    assert result["restarts"] == 0
    return result


def refused(broker, context, settings: dict) -> str:
    """Runs a probe that must not connect. Returns what it says."""
    with (
        HostileProxy(broker.port, tls=context) as proxy,
        Observer(broker.port) as observer,
        Probe(proxy.port, tls=settings) as probe,
    ):
        probe.wait_for_line("W mqtt: no connection")
        time.sleep(0.8)  # a second attempt, at least
        assert probe.sessions == 0
        assert observer.events == observer.statuses == []
    return next(line for line in probe.lines if "W mqtt" in line)


@pytest.mark.parametrize("use_rsa", [False, True])
def test_the_right_server_is_accepted(broker, authority, use_rsa, tell):
    certificate = authority.issue("good", use_rsa=use_rsa)
    result = accepted(broker, server_side(certificate), tls(authority.pem))
    kind = "RSA 2048" if use_rsa else "P-256"
    stall, wall = result["busy_us"] / 1000, result["late_us"] / 1000
    tell(f"TLS with {kind}: longest stall {stall:.1f} ms (wall {wall:.1f} ms)")


def test_the_authority_may_be_der_and_the_server_an_address(broker, authority):
    certificate = authority.issue("address", host="127.0.0.1")
    accepted(broker, server_side(certificate), tls(authority.der, server_name=""))


def test_tls_works_byte_by_byte(broker, authority):
    context = server_side(authority.issue("good"))
    with (
        HostileProxy(broker.port, tls=context) as inner,
        HostileProxy(inner.port) as outer,
        Observer(broker.port) as observer,
    ):
        outer.raw = True
        outer.down = outer.up = byte_by_byte
        settings = tls(authority.pem)
        with Probe(outer.port, tls=settings, timeout_ms=3000, keepalive_s=10) as probe:
            probe.wait_for(lambda: len(observer.order) > 2)
            assert observer.stop(probe)["mqtt_sessions"] == 1


def test_a_server_of_another_authority_is_refused(broker, authority, stranger):
    certificate = stranger.issue("good")
    assert "not correctly signed" in refused(broker, server_side(certificate), tls(authority.pem))


def test_an_expired_certificate_is_refused(broker, authority):
    certificate = authority.issue("expired", start=-2 * DAY, end=-DAY)
    assert "expired" in refused(broker, server_side(certificate), tls(authority.pem))


def test_a_certificate_of_the_future_is_refused(broker, authority):
    certificate = authority.issue("future", start=DAY, end=2 * DAY)
    assert "future" in refused(broker, server_side(certificate), tls(authority.pem))


def test_a_wrong_host_name_is_refused(broker, authority):
    certificate = authority.issue("other", host="other.test")
    assert "does not match" in refused(broker, server_side(certificate), tls(authority.pem))


def test_a_certificate_for_another_address_is_refused(broker, authority):
    certificate = authority.issue("elsewhere", host="127.0.0.2")
    settings = tls(authority.pem, server_name="")
    assert "does not match" in refused(broker, server_side(certificate), settings)


def test_a_server_without_tls_is_refused(broker, authority):
    assert "TLS" in refused(broker, None, tls(authority.pem))


@pytest.mark.parametrize("kind", ["pem", "der"])
def test_a_client_certificate_opens_the_door(broker, authority, kind):
    context = server_side(authority.issue("good"), clients=authority.pem)
    client = authority.issue("board", host="board", kind=kind)
    accepted(broker, context, tls(authority.pem, client))


def test_no_or_a_strange_client_certificate_does_not(broker, authority, stranger):
    context = server_side(authority.issue("good"), clients=authority.pem)
    refused(broker, context, tls(authority.pem))
    refused(broker, context, tls(authority.pem, stranger.issue("board", host="board")))


def test_files_that_cannot_be_used_stop_the_link(broker, authority, tmp_path):
    context = server_side(authority.issue("good"))
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    for settings, key in (
        (tls("/no/such/file"), "mqtt.tls.ca_file"),
        (tls(str(nonsense)), "mqtt.tls.ca_file"),
        (tls(authority.pem, ("/no/such/file", str(nonsense))), "mqtt.tls.cert_file"),
        (tls(authority.pem, (authority.pem, str(nonsense))), "mqtt.tls.cert_file"),
    ):
        assert key + " cannot be used" in refused(broker, context, settings)


if "mosquitto" in BROKERS and shutil.which("mosquitto_passwd"):

    def test_user_and_password_are_checked_by_a_real_broker(tmp_path):
        passwords = tmp_path / "passwords"
        command = ["mosquitto_passwd", "-b", "-c", str(passwords), "t\u00e4p", "k\u00f6nig"]
        subprocess.run(command, check=True)
        access = f"user root\npassword_file {passwords}\nallow_anonymous false"
        with Mosquitto(access=access) as broker:
            with Probe(broker.port, user="t\u00e4p", password="k\u00f6nig") as probe:
                probe.wait_for_line("up 1")
            with Probe(broker.port, user="t\u00e4p", password="wrong") as probe:
                probe.wait_for_line("refused by the broker: not authorized")
