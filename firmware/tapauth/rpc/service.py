"""The service: takes a frame, answers it. No I/O of its own, any number of transports.

A frame carries commands, and all of it is for one source. It goes through four gates, and each
has its own way to refuse:

    the frame       size, JSON, version, source, destination   no answer: Invalid is counted, and a
                                                               connection may be closed
    the source      another ID than its connection's (401), not authenticated (401), waiting after
                    failures (429), about to reboot (418)      each command gets that status
    the command     too many (413), id used twice (400), deadline (504), name (404), permission
                    (403), arguments (400)                     this command gets that status
    its handler     what the command itself refuses (400, 429, 507), tables or rules that cannot
                    answer (500), a fault (500)                the same

The order is fixed, so that nobody learns more than they may: one who is not authenticated cannot
tell a command that exists from one that does not, nor a right argument from a wrong one.

Commands are done one after another, and a refused one stops none behind it. Only an element that
is no command ends the frame: what was done before it stays done and is answered. A command without
an id is done and not answered. A command whose answer has no room in the reply is done all the
same: it may be the one that matters, such as the deletion of a device.

A connection is an RpcPeer. The first right key makes the ID of that frame the connection's: later
frames need no key, and another ID ends the connection. The peer holds the digests that were right
then, so that it is a stranger again as soon as the credentials of its ID are others or gone; no
list of connections is needed for that. Over MQTT each frame has a peer of its own, and a key.

An ID that fails to authenticate must wait. Two counts are kept: of the IDs that send frames, and
of those about which the backend asks. So somebody who guesses at a device's key cannot keep the
backend from asking about that device; and the backend itself never waits, because anyone may send
frames in its name.
"""

from tapauth.compat import const, forget, late
from tapauth.rpc import addresses, frames
from tapauth.rpc.app_tokens import CAPACITY
from tapauth.rpc.arguments import BACKEND, OWNER, check
from tapauth.rpc.frames import Invalid
from tapauth.rpc.records import LOST, TableDamaged
from tapauth.rpc.rules import RuleError
from tapauth.rpc.throttle import Throttle
from tapauth.wallclock import EARLIEST

MAX_FRAME = const(4096)
"""Most bytes of a frame that is taken."""
MAX_REPLY = const(3600)
"""Most bytes of a reply: with its topic it still fits what the MQTT link sends at once."""
_MAX_COMMANDS = const(25)


class CommandRefused(Exception):
    """A command gets an error status. Arguments: the status, and a text that quotes nothing."""


def _definitions():
    """The module of the commands' tables, forgotten at once."""
    with late("definitions"):
        from tapauth.rpc import definitions

    forget(definitions)
    return definitions


def _entry(version: int, number, status: int, value, room: int) -> str:
    """A response that is shorter than `room` bytes, if need be that it is too long; "" without
    room even for that.
    """
    text = ""
    try:
        text = frames.entry(version, number, status, value)
    except MemoryError:
        pass
    if text and len(text.encode()) < room:
        return text
    text = frames.entry(version, number, 413, "result too long")
    return text if len(text) < room else ""


class RpcPeer:
    """What a transport knows of who is at its other end: one for each connection.

    A transport without connections makes one for each frame. `version` is that of its frames and
    `name` the ID that it has shown a key of, 0 and "" until then; `proof` is what was kept of that
    ID's credentials at that time. After Service.handle, `reply_to` is the ID that the reply is
    for, and `close` the WebSocket status to close with, 0 for none.
    """

    def __init__(self):
        self.version = 0
        self.name = ""
        self.proof: bytes | None = None
        self.reply_to = ""
        self.close = 0


class Service:
    """`settings` is the checked "rpc" object of the configuration (docs/rpc.md).

    `credentials`, `tokens` and `rules` are the classes of this package; `clock.now()` gives
    milliseconds, `unix_time()` seconds since 1970 by a clock that may never have been set.
    `watchers` are called after every change of credentials.
    `rebooting` set refuses every command with 418; `invalid` counts frames nobody answered;
    `problem` says what was lost on flash and what to do, or is "".
    Raises ValueError for an address in `settings` that is none.
    """

    def __init__(self, settings: dict, credentials, tokens, rules, clock, unix_time, log):
        self.rebooting = False
        self.invalid = 0
        self.problem = ""
        self.watchers: list = []
        self.rules = rules
        self._address = settings["address"]
        self._name, self._component = addresses.parse(self._address)
        self._backend = settings["backend_id"]
        self._tokens_backend_only = settings["tokens_backend_only"]
        self._tokens_as_psk = settings["tokens_as_psk"]
        self.credentials = credentials
        self.tokens = tokens
        self._clock = clock
        self._unix_time = unix_time
        self._log = log
        self._callers = Throttle()
        self.asked_for = Throttle()
        self._checks = _definitions().checks()
        self.handlers = {
            "/v1/Auth.GenerateToken": self._generate_token,
            "/v1/Auth.GetToken": self._get_token,
            "/v1/Auth.ListToken": self._list_token,
            "/v1/Auth.RevokeToken": self._revoke_token,
            "/v1/Auth.Authenticate": self._authenticate,
            "/v1/Auth.AuthorizeCommand": self._authorize_command,
            "/v1/Device.Add": self._add_device,
            "/v1/Device.Delete": self._delete_device,
            "/v1/Hello": lambda source, args, version: "HAI",
            "/v1/Services.List": self._list_services,
        }

    def handle(self, data, peer: RpcPeer) -> str | None:
        """Answer a frame (bytes or text). Returns the reply, or None when there is none."""
        peer.reply_to = ""
        try:
            if len(data) > MAX_FRAME:
                raise Invalid("too long", 1009)
            frame = frames.parse(data, peer.version)
            peer.version = frame.version
            return self._answer(frame, peer)
        except Invalid as error:
            self.invalid += 1
            peer.close = peer.close or error.close
            self._log.debug("rpc", "frame dropped: {}", str(error))
        except MemoryError as error:
            self._log.error("rpc", "frame dropped: {}", error)
        return None

    def _answer(self, frame, peer: RpcPeer) -> str | None:
        """The reply to a frame, or None. Raises Invalid for one that nobody answers."""
        source = self._source(frame, peer)
        if not self._is_mine(frame.dst):
            raise Invalid("for somebody else", 1008)
        if not frame.commands:
            return None  # a response: to answer one could go on for ever
        peer.reply_to = source
        refusal = self._refusal(frame, source, peer)
        entries: list[str] = []
        seen: set = set()
        # Each entry is measured as it is made: only the texts that fit are held.
        room = MAX_REPLY - len(frames.reply(frame, self._address, [""]).encode())
        for count, element in enumerate(frame.commands):
            try:
                number, name = frames.command(frame, element)
            except Invalid as error:
                # The rest is not looked at; what was done before stays done and answered.
                self.invalid += 1
                self._log.debug("rpc", "rest of frame dropped: {}", str(error))
                break
            if refusal:
                status, value = refusal.args
            elif count >= _MAX_COMMANDS:
                status, value = 413, "too many commands in a frame"
            elif number in seen:
                status, value = 400, "id used twice"
            else:
                if number is not None:
                    seen.add(number)  # before it is done: without memory for this, nothing is
                status, value = self._outcome(frame, source, name, element)
            if number is None:
                continue  # those without an id are all different commands, and not answered
            text = _entry(frame.version, number, status, value=value, room=room)
            if text:
                room -= len(text.encode()) + 1  # and a comma
                entries.append(text)
        return frames.reply(frame, self._address, entries) if entries else None

    def _source(self, frame, peer: RpcPeer) -> str:
        """The ID that a frame is from. Raises Invalid when it tells none that is one."""
        if frame.src is None:
            return peer.name  # "" before the connection has shown any
        source = None
        try:
            source, _ = addresses.parse(frame.src)
        except ValueError:
            pass
        if source is None:
            raise Invalid("bad source")
        return source

    def _is_mine(self, address) -> bool:
        """Whether a frame for this address, None for none, is for the service."""
        if address is None:
            return True
        try:
            name, component = addresses.parse(address)
        except ValueError:
            return False
        return name == self._name and component in (self._component, "")

    def _outcome(self, frame, source: str, name: str, element: dict) -> tuple:
        """(0, result) of a command that is done, or (error status, text)."""
        try:
            return 0, self._execute(frame, source, name, element)
        except CommandRefused as error:
            return error.args
        except (RuleError, TableDamaged) as error:
            # Their texts are for the operator and quote nothing.
            self._log.error("rpc", "{}", str(error))
            return 500, str(error)
        except ValueError as error:
            # Only checks of arguments raise it; not all of their texts are ours.
            self._log.debug("rpc", "bad argument: {}", error)
            return 400, "bad argument"
        except Exception as error:
            # A name that is no command's may be anything, and is not for the log.
            known = name if name in self.handlers else "?"
            self._log.error("rpc", "{} failed: {}", known, error)
            self._log.trace(error)
            return 500, "internal error"

    def trusts(self, peer: RpcPeer) -> bool:
        """Whether a connection has shown who it is, and its credentials are still the same.

        With new ones, or none any more, it has to prove itself again.
        """
        return peer.proof is not None and peer.proof == self.credentials.current(peer.name)

    def _credentials_changed(self) -> None:
        for watcher in self.watchers:
            watcher()

    def _refusal(self, frame, source: str, peer: RpcPeer) -> CommandRefused | None:
        """Why nothing of this frame is done, or None for an authenticated source."""
        if peer.name and source != peer.name:
            peer.close = 1008
            return CommandRefused(401, "connection of another ID")
        now = self._clock.now()
        if not self.trusts(peer):
            # Without a source there is nobody whose key it could be.
            if type(frame.key) is not str or not source:
                return CommandRefused(401, "not authenticated")
            # The backend has a key that nobody guesses, and must not be locked out by who tries.
            guarded = source != self._backend
            if guarded and self._callers.blocked(source, now):
                return CommandRefused(429, "too many failed authentications")
            try:
                right = self.credentials.verify(source, frame.key)
            except ValueError:  # text that UTF-8 cannot hold
                right = False
            if not right:
                if guarded:
                    self._callers.failed(source, now, self._is_known(source))
                return CommandRefused(401, "not authenticated")
            self._callers.passed(source)
            # Kept together: trusts() compares them at each frame and each change of credentials.
            peer.name = source
            peer.proof = self.credentials.current(source)
        if self.rebooting:
            return CommandRefused(418, "about to reboot")
        return None

    def _is_known(self, name: str) -> bool:
        return self.credentials.current(name) is not None

    def _execute(self, frame, source: str, name: str, element: dict):
        """The result of one command, None for none. Raises CommandRefused, ValueError, others."""
        # First: nobody waits any more for an answer that is too late.
        self._check_deadline(element)
        command = self._checks.get(name)
        if command is None:
            raise CommandRefused(404, "no such command")
        who, _, _ = command
        backend_only = self._tokens_backend_only if who == OWNER else who == BACKEND
        if backend_only and source != self._backend:
            raise CommandRefused(403, "not allowed")
        args = element.get("args", {})
        error = check(command, args)
        if error:
            raise CommandRefused(400, error)
        return self.handlers[name](source, args, frame.version)

    def _check_deadline(self, element: dict) -> None:
        for name in ("deadline", "timeout"):
            if name not in element:
                continue
            value = element[name]
            if type(value) not in (int, float):
                raise CommandRefused(400, name + " must be a number")
            now = self._unix_time() if name == "deadline" else 0
            # Without a clock nobody knows what has passed.
            if value <= now and (now >= EARLIEST or name == "timeout"):
                raise CommandRefused(504, name + " passed")

    # The commands: handler(source ID, checked args, frame version) returns the result.

    def _list_services(self, source, args, version):
        return _definitions().services()

    def _generate_token(self, source, args, version):
        host = addresses.parse_host(args["host"])
        token = self.tokens.generate(source, host)
        if (
            token is None
            and len(self.tokens.table) >= CAPACITY
            and self.credentials.table.state != LOST
        ):
            # Of owners that older firmware deleted, or a backend of before. They open nothing, and
            # go only now: a configuration on trial should not cost them.
            self.tokens.keep(self.credentials.current)
            token = self.tokens.generate(source, host)
        if token is None:
            raise CommandRefused(507, "no room for another token")
        return {"token": token}

    def _get_token(self, source, args, version):
        self.tokens.table.check()
        token = self.tokens.get(source, addresses.parse_host(args["host"]))
        return {"exist": False} if token is None else {"exist": True, "token": token}

    def _list_token(self, source, args, version):
        self.tokens.table.check()
        return [{"host": host} for host in self.tokens.hosts(source)]

    def _revoke_token(self, source, args, version):
        self.tokens.revoke(source, addresses.parse_host(args["host"]))

    def _authenticate(self, source, args, version):
        name, _ = addresses.parse(args["id"])
        given = args["credentials"]
        # An empty string counts as missing.
        psk = given.get("psk") or None
        cert = given.get("cert") or None
        if psk is None and cert is None:
            raise CommandRefused(400, "psk or cert is missing")
        self.credentials.table.check()
        now = self._clock.now()
        # Before it is looked at: one that waits is not told whether it was right.
        if self.asked_for.blocked(name, now):
            raise CommandRefused(429, "too many failed authentications")
        right = self.credentials.verify(name, psk, cert)
        if self._tokens_as_psk and psk and not cert and self._is_known(name):
            right = self.tokens.owns(name, psk) or right
        if right:
            self.asked_for.passed(name)
        else:
            self.asked_for.failed(name, now, self._is_known(name))
        return right if version == 1 else {"success": right, "id": name}

    def _authorize_command(self, source, args, version):
        src, _ = addresses.parse(args["src"])
        dst, _ = addresses.parse(args["dst"])
        return self.rules.allows(src, dst, addresses.unquote(args["cmd"]))

    def _add_device(self, source, args, version):
        name, _ = addresses.parse(args["deviceid"])
        psk = args.get("psk") or None
        cert = args.get("cert") or None
        if psk is None and cert is None:
            raise CommandRefused(400, "psk or cert is missing")
        if name == self._backend:
            raise CommandRefused(400, "the backend's key is in the configuration")
        value = self.credentials.digests(name, psk, cert)
        if value != self.credentials.current(name):
            # With other credentials it may be somebody else. The tokens go first, so that a
            # power cut never leaves the tokens of one who is gone.
            self.tokens.forget(name)
            if not self.credentials.put(name, value):
                raise CommandRefused(507, "no room for another device")
        self._credentials_changed()  # also when asked again: the first may have found no memory

    def _delete_device(self, source, args, version):
        name, _ = addresses.parse(args["deviceid"])
        # The backend stays, whose key is in the configuration, and its tokens with it.
        if name != self._backend:
            self.tokens.forget(name)
        self.credentials.remove(name)
        self._callers.passed(name)
        self.asked_for.passed(name)
        self._credentials_changed()
