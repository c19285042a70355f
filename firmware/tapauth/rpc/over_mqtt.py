"""The service on MQTT: frames in on `{base}/rpc`, replies on `{base}/rpc/reply/<source ID>`."""

from tapauth.rpc.addresses import quote
from tapauth.rpc.service import RpcPeer


class MqttRpc:
    """`link.publish(topic, text)` sends. Each frame needs its key: MQTT does not tell who sent."""

    def __init__(self, service, link, base: str):
        self._topic = base + "/rpc"
        self._service = service
        self._link = link

    @property
    def subscriptions(self) -> tuple:
        """The topic of the frames."""
        return (self._topic,)

    @property
    def refused(self) -> int:
        """Frames that were no frames."""
        return self._service.invalid

    def link_up(self) -> None:
        """Nothing to say: callers ask."""

    def tick(self, now: int) -> None:
        """Nothing is ever due."""

    def message(self, topic: str, payload: bytes) -> bool:
        """Take a message. False: its topic is not this one's."""
        if topic != self._topic:
            return False
        peer = RpcPeer()
        reply = self._service.handle(payload, peer)
        if reply and peer.reply_to:
            self._link.publish(f"{self._topic}/reply/{quote(peer.reply_to)}", reply)
        return True
