"""The board decides: it is EVerest's Auth module and its API modules."""

from tapauth.api.consumer import AuthConsumer
from tapauth.api.discovery import Discovery
from tapauth.api.provider import AuthTokenProvider
from tapauth.app import App
from tapauth.core.auth import Authorizer
from tapauth.core.settings import AuthSettings
from tapauth.station import Station


class Standalone(App):
    """Reader, cards, EVSEs and other people's validators around the authorization core."""

    def __init__(self, settings: dict, clock, log, trial=None, tail=None):
        super().__init__(settings, clock, log, trial, tail)
        everest = settings["everest"]
        remote = everest["remote_validator"]
        auth = AuthSettings(**settings["auth"])
        # What the operator set by command wins over the configuration.
        for key in ("connection_timeout", "master_pass_group_id"):
            setattr(auth, key, self.vault.setting(key, getattr(auth, key)))
        # The API's own timeout comes first; this one is for a request that was lost inside.
        auth.validator_timeout_ms = everest["remote_timeout_ms"] + 1000
        core = Authorizer(auth, settings["evses"], 2 if remote else 1)
        self.station = station = Station(core, clock, log)
        # EVSEs on MQTT may be authorized from before this start; the board's own lines are off.
        core.unreached = settings["evse_io"] == "mqtt"
        evses = self._open_evses(log, self._session_event)
        common = (everest, clock, self.link, self.errors, log, station)
        self.consumer = AuthConsumer(everest["auth_consumer_id"], *common, self.wallclock)
        modules = [self.consumer, AuthTokenProvider(everest["auth_token_provider_id"], *common)]
        validators = [self._validate]
        if remote:
            from tapauth.api.validator import AuthTokenValidator

            validator = AuthTokenValidator(
                everest["auth_token_validator_id"], *common, self.vault.learn
            )
            modules.append(validator)
            validators.append(validator.validate)
        self.apis = modules + [Discovery(everest, self.link, log, modules), evses]
        self._evses = evses
        station.connect(self._status, self._command, self.vault.keep, validators)

    def _open_evses(self, log, on_event):
        settings = self.settings
        self._lines = None
        if settings["evse_io"] == "mqtt":
            from tapauth.evse.mqtt import MqttEvses

            return MqttEvses(settings["base_topic"], log, self.link, on_event, self.station)
        from tapauth.evse.lines import LineEvses

        self._lines = LineEvses(self.evse_lines(), settings["lines"], self.clock, log, on_event)
        return self._lines

    def start(self) -> None:
        from tapauth import start

        super().start()
        if self._lines:
            self.supervisor.add("evse lines", self._lines.run, 1000)
        self.supervisor.add("auth timers", self.station.timers)
        start.serve_locally(self, self.station)

    def close(self) -> None:
        if self._lines:
            self._lines.off()

    def charging(self) -> list:
        return self.station.charging()

    def provide_token(self, token: dict) -> None:
        self.station.provide_token(token)

    def time_known(self, unix_seconds: int, now: int) -> None:
        self.station.set_clock(unix_seconds, now)

    def counters(self) -> dict:
        counters = super().counters()
        counters.update(self.station.counters())
        return counters

    def _validate(self, request_id: int, token: dict) -> None:
        result, settled = self.vault.validate(token)
        self.station.answer(request_id, result, settled)

    def _session_event(self, evse_id: int, event) -> str | None:
        refusal = self.station.session_event(evse_id, event)
        if self.local and not refusal:
            self.local.evses_changed()
        return refusal

    def _command(self, evse_id: int, command: dict) -> None:
        self._evses.command(evse_id, command)
        if self.local:
            self.local.evses_changed()

    def _status(self, token: dict, status: str, messages: list) -> None:
        self.fate(token, status)
        self.consumer.status(token, status, messages)
