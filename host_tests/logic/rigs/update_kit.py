"""The door of differential lists with a vault behind it, and a broker that keeps the replies."""

import json

from store_kit import token
from vault_kit import new_vault, run

from tapauth.cards import card_updates
from tapauth.everest.module import reply_topic

UID = token(1)["value"]


class Broker:
    """The link, and what was sent through it."""

    def __init__(self):
        self.replies = []

    def check_reply(self, topic, replies=""):
        return topic != "forbidden"

    def publish(self, topic, text):
        assert topic == "answers"
        self.replies.append(json.loads(text))


def new_door(name):
    """(door, vault, broker)"""
    vault, parts = new_vault("door_" + name)
    broker = Broker()
    return card_updates.CardUpdates("base", broker, vault, reply_topic, parts), vault, broker


def ask(door, vault, broker, payload, topic="base/cards/update"):
    """Send a request, let the vault work, and return the reply."""
    request = {"headers": {"replyTo": "answers"}}
    if payload is not None:
        request["payload"] = payload
    before = len(broker.replies)
    assert door.message(topic, json.dumps(request).encode())
    run(vault, lambda: len(broker.replies) > before)
    return broker.replies[-1]


def update(version, cards, **more):
    return dict(listVersion=version, cards=cards, **more)


def card(**more):
    return dict({"idToken": UID, "authorizationStatus": "Accepted"}, **more)
