"""The board decides: it is EVerest's Auth module and its API modules."""

from tapauth.compat import TYPE_CHECKING
from tapauth.everest.consumer import AuthConsumer
from tapauth.roles.base import App
from tapauth.station import Station

if TYPE_CHECKING:
    from tapauth.evse.lines import LineEvses
    from tapauth.evse.remote import MqttEvses


class Standalone(App):
    """Reader, cards, EVSEs and other people's validators around the authorization core."""

    station: Station
    consumer: AuthConsumer
    lines: "LineEvses | None" = None  # the board's own EVSEs; None when they are on MQTT
    evses: "LineEvses | MqttEvses"  # the EVSEs, wherever they are

    def add_tasks(self) -> None:
        if self.lines:
            self.supervisor.add("evse lines", self.lines.run, 1000)
        self.supervisor.add("auth timers", self.station.timers)

    def close(self) -> None:
        if self.lines:
            self.lines.off()

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

    def validate(self, request_id: int, token: dict) -> None:
        """Ask the cards on flash, the first validator."""
        result, settled = self.vault.validate(token)
        self.station.answer(request_id, result, settled)

    def session_event(self, evse_id: int, event) -> str | None:
        """An EVSE reports; returns why that is refused, or None."""
        refusal = self.station.session_event(evse_id, event)
        if self.local and not refusal:
            self.local.evses_changed()
        return refusal

    def command(self, evse_id: int, command: dict) -> None:
        """An EVSE is to hear a command."""
        self.evses.command(evse_id, command)
        if self.local:
            self.local.evses_changed()

    def status(self, token: dict, status: str, messages: list) -> None:
        """A token has come to a status."""
        self.fate(token, status)
        self.consumer.status(token, status, messages)
