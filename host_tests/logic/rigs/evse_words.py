"""What a board says over a scripted broker, in words."""

import json

from scripted_broker import id_of, payload_of


def told(body) -> str:
    """What a published message says: a status, or a command and its result."""
    value = json.loads(payload_of(body))
    if "status" in value:
        return value["status"]
    if "result" in value:
        return value["result"]["authorization_status"] + " at EVSE"
    return value["command"]


async def drained(scene, stream) -> list:
    """Acknowledge all that comes; returns what it said."""
    came = []
    sent = [packet for packet in scene.greetings if packet[0] & 0xF6 == 0x32]
    scene.greetings = []
    while sent:
        for _, body in sent:
            came.append(told(body))
            stream.say(b"\x40\x02" + id_of(body).to_bytes(2, "big"))
        await scene.pass_ms()
        sent = [packet for packet in stream.take() if packet[0] & 0xF6 == 0x32]
    return came
