"""A charger's core, station and MQTT EVSEs behind a link, for tests."""

import json

from auth_fixture import result, token
from recording_link import EVEREST, RecordingLink, quiet_log

from tapauth.core.authorizer import Authorizer
from tapauth.core.settings import AuthSettings
from tapauth.everest.consumer import AuthConsumer
from tapauth.evse.remote import MqttEvses
from tapauth.station import Station
from tapauth.wallclock import WallClock

from moved_clock import MovedClock

TIMEOUT_S = 60
PLUGGED = {"event": "SessionStarted", "session_started": {"reason": "EVConnected"}}


class Charger:
    """The core with two EVSEs behind `link`; its validator accepts all cards but "stranger"."""

    def __init__(self, link, clock, most=TIMEOUT_S):
        self.clock = clock
        log = quiet_log(clock)
        self.core = Authorizer(AuthSettings(connection_timeout=most), [1, 1])
        self.station = Station(self.core, clock, log)
        self.evses = MqttEvses("b", log, link, self.station.session_event, self.station)
        settings = dict(EVEREST)
        settings["communication_check_s"] = 0
        wallclock = WallClock(clock, lambda unix, now: None)
        common = (settings, clock, link, None, log, self.station)
        self.consumer = AuthConsumer("auth_api", *common, wallclock)
        self.station.connect(
            self.consumer.status, self.evses.command, lambda key, value: None, [self._validate]
        )

    def _validate(self, request_id, provided):
        status = "Invalid" if provided["id_token"]["value"] == "stranger" else "Accepted"
        self.station.answer(request_id, result(status))

    def event(self, evse_id, event):
        if isinstance(event, str):
            event = {"event": event}
        assert self.evses.message(f"b/evse/{evse_id}/session_event", json.dumps(event).encode())

    def tap(self, card, **members):
        self.station.provide_token(token(card, [1], **members))

    def wake(self):
        self.station.wake()


def rig():
    clock = MovedClock(1000)
    link = RecordingLink()
    return link, Charger(link, clock)


def said(link):
    return [value["command"] for _, value in link.take() if "command" in value]
