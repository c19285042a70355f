"""The shell around the authorization core."""

from conn_rig import Quiet

from tapauth.core.auth import Authorizer
from tapauth.core.settings import AuthSettings
from tapauth.station import Station

from moved_clock import MovedClock


def test_what_is_in_force_is_shown_as_it_was_set():
    settings = AuthSettings(connection_timeout=60, master_pass_group_id="Old")
    station = Station(Authorizer(settings, [1]), MovedClock(), Quiet())
    saved = []
    station.connect(None, None, lambda *setting: saved.append(setting), [])
    assert station.in_force() == {"connection_timeout": 60, "master_pass_group_id": "Old"}
    assert station.set_master_pass_group_id("New Group") and station.set_connection_timeout(45)
    assert not station.set_connection_timeout(5)
    assert not station.set_master_pass_group_id(None)
    assert station.in_force() == {"connection_timeout": 45, "master_pass_group_id": "New Group"}
    assert saved == [("master_pass_group_id", "New Group"), ("connection_timeout", 45)]
