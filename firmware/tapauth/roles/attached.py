"""A real EVerest decides; the board is its card reader and a validator of tokens."""

from tapauth.everest.client import EverestClient
from tapauth.roles.base import App


class AttachedBoard(App):
    """Reader and cards at the other end of EVerest's APIs."""

    everest: EverestClient

    # For the local interface; EVSEs and authorizations are EVerest's here.

    def evses(self) -> list:
        """None of its own."""
        return []

    def withdraw(self, request) -> str:
        """EVerest does that."""
        return "Rejected"

    def in_force(self) -> dict:
        """Settings are EVerest's."""
        return {}

    def set_master_pass_group_id(self, group_id) -> bool:
        """EVerest does that."""
        return False

    def set_connection_timeout(self, seconds) -> bool:
        """EVerest does that."""
        return False

    def provide_token(self, token: dict) -> None:
        if self.everest.provide_token(token):
            self.log.info("auth", "{}: handed to EVerest", token)
        else:
            self.log.warning("auth", "{}: EVerest is out of reach", token)

    def status(self, token: dict, status: str, messages: list) -> None:
        """EVerest tells what became of a token."""
        self.fate(token, status)
