"""EVerest's discovery: which API modules are here."""

import json

from tapauth.everest.module import BadMessage, load, reply_topic


class Discovery:
    """Answers `everest_api/discover` and `everest_api/query-modules/{api type}` for `modules`.

    Each module answers on its own, as in EVerest, where each is a process.
    """

    def __init__(self, settings: dict, link, log, modules: list):
        self.refused = 0
        self._start = settings["topic_prefix"] + "everest_api/"
        self._link = link
        self._log = log
        self._modules = modules

    @property
    def subscriptions(self) -> tuple:
        """The topic filters of the requests."""
        return (self._start + "discover", self._start + "query-modules/+")

    def link_up(self) -> None:
        """Tell that the modules can be asked."""
        self._link.publish(self._start + "ready_beacon", "{}")

    def tick(self, now: int) -> None:
        """Nothing is ever due."""

    def message(self, topic: str, payload: bytes) -> bool:
        """Take a message. False when it is no request for discovery."""
        if not topic.startswith(self._start):
            return False
        name, _, kind = topic[len(self._start) :].partition("/")
        if not (name == "discover" and not kind) and name != "query-modules":
            return False
        try:
            reply_to = reply_topic(load(payload), self._link)
            if not reply_to:
                raise BadMessage("no replyTo to answer to")
        except BadMessage as error:
            self.refused += 1
            self._log.warning("discovery", "{} refused: {}", name, str(error))
            return True
        for module in self._modules:
            if name == "discover" or module.kind == kind:
                self._link.publish(reply_to, json.dumps({"apis": [module.parameters()]}))
        return True
