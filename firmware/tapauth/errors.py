"""The board's active errors, in EVerest's terms, on `{base}/errors`: a retained JSON array."""

import json

COMMUNICATION_FAULT = "generic/CommunicationFault"
VENDOR_ERROR = "generic/VendorError"
VENDOR_WARNING = "generic/VendorWarning"


class Errors:
    """Raises and clears errors. `link` is the way to the broker.

    An error is known by its type, its sub type and its origin (the part that raised it); raising
    an active one or clearing an inactive one changes nothing.
    """

    def __init__(self, topic: str, log, link):
        self._topic = topic
        self._log = log
        self._link = link
        self._active: list[dict] = []
        self.unsent = False
        """The last change is not published: the link had no room for it, or the heap."""
        self.on_change = None
        """Called with the list of active errors after each change, if set."""

    def _find(self, kind: str, sub_type: str, origin: str) -> dict | None:
        for error in self._active:
            if (error["type"], error["sub_type"], error["origin"]) == (kind, sub_type, origin):
                return error
        return None

    def set(self, active: bool, kind: str, sub_type: str, origin: str, message: str = "") -> None:
        """Raise the error, or clear it when not `active`; then nobody needs the message."""
        error = self._find(kind, sub_type, origin)
        if active == bool(error):
            return
        if error:
            self._active.remove(error)
            self._log.info("errors", "cleared: {} {} ({})", kind, sub_type, origin)
        else:
            # CommunicationFault and VendorError keep something from working.
            severity = "Medium" if kind == VENDOR_WARNING else "High"
            self._active.append(
                {
                    "type": kind,
                    "sub_type": sub_type,
                    "message": message,
                    "severity": severity,
                    "origin": origin,
                }
            )
            self._log.warning("errors", "raised: {} {} ({}): {}", kind, sub_type, origin, message)
        self.publish()
        if self.on_change:
            try:
                self.on_change(self._active)
            except MemoryError:
                pass  # to go on matters more than to tell those who watch

    def publish(self) -> None:
        """Publish the active errors now, or leave them `unsent`."""
        self.unsent = True
        try:
            self.unsent = not self._link.publish(self._topic, json.dumps(self._active), True)
        except MemoryError:
            pass
