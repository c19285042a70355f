"""The link as the rest of the firmware sees it, for tests: keeps what is handed to it."""

import json

from tapauth import log, topics


class RecordingLink:
    """`sent` has (topic, value) of everything published or enqueued, JSON decoded. `names` are the
    topic filters that count as subscribed; the board's own topics are below tapauth/b.
    """

    def __init__(self):
        self.connected = True
        self.fitting = 3072
        self.room = True
        self.full_heap = False
        self.sent = []
        self.ranks = []
        self.names = []
        self.replies_refused = 0
        self.messages_lost = 0
        self.outbox = ()

    def message_lost(self):
        self.messages_lost += 1

    def check_reply(self, topic, replies=""):
        if topics.takes_reply(topic, "tapauth/b/", self.names, replies):
            return True
        self.replies_refused += 1
        return False

    def publish(self, topic, payload, retain=False):
        if not self.connected or not self.room:
            return False
        self.sent.append((topic, json.loads(payload)))
        return True

    def make_room(self, size):
        return self.connected and self.room

    def enqueue(self, topic, payload, keep=0, wait_ms=None, instead=b""):
        if self.full_heap:
            return False
        self.sent.append((topic, json.loads(payload)))
        self.ranks.append((keep, wait_ms))
        return True

    def take(self):
        """What was sent since the last call."""
        sent = self.sent
        self.sent = []
        return sent


def quiet_log(clock):
    return log.Log(clock, b"", write=lambda line: None)


EVEREST = {
    "topic_prefix": "",
    "topic_version": "1",
    "auth_consumer_id": "auth_api",
    "auth_token_provider_id": "nfc_reader",
    "auth_token_validator_id": "local_list",
    "heartbeat_interval_ms": 1000,
    "communication_check_s": 5,
    "remote_timeout_ms": 2000,
    "accept_unknown_offline": False,
}
