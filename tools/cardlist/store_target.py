"""Where a store lies: on a flash image of a stopped charger, or on a board at a serial port.

Both run the same few lines of the store's own code (`SCRIPT`): here for an image, by mpremote
for a board. A board's firmware stops for that, when no car charges, and is restarted afterwards.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from tapauth.cards.codec import StoreError
from tapauth.cards.store import Store, finish
from tapauth.crypto import sitekey
from tools.board.board_port import BoardError, wait_for_no_transaction
from tools.desk.flash_image import FlashImage

FOLDER = "/store"
UPLOAD = "/upload.new"

# The first lines find the firmware of a board with slots, whose modules are in packs. It may be
# older than what reads the site key here, which is sent along.
SCRIPT = """
{sitekey}
import gc, json
gc.threshold(8192)  # as boot.py does: what stays then lies close together
try:
    import sys, tapauth_slot, vfs
    slot = tapauth_slot.read_record()
    if slot:
        try:
            vfs.mount(tapauth_slot.Packs("/" + slot[0]), tapauth_slot.MOUNT)
        except OSError:
            pass  # it still is, without a soft reset
        sys.path[:0] = [tapauth_slot.MOUNT, tapauth_slot.MOUNT + "/lib"]
except ImportError:
    pass
from tapauth.cards import files
from tapauth.cards.store import Store, finish
try:
    store = Store(files, {folder!r}, site_key(), capacity={capacity})
    def take(path):
        load = store.load()
        file = open(path, "rb")
        try:
            piece = file.read(1024)
            while piece:
                finish(load.write(piece))
                piece = file.read(1024)
            finish(load.commit())
        finally:
            file.close()
            load.abort()
            files.remove(path)
    def change(path, version, base):
        with open(path) as file:
            infos = json.loads(file.readline())
            changes = []
            for line in file:
                token, info = json.loads(line)
                changes.append((token, infos[info]))
        files.remove(path)
        same = base is None or base == store.version
        status = finish(store.update(version, changes)) if same else "VersionMismatch"
        return status, store.version
    print("\\nANSWER", json.dumps([{expression}, store.damage]))
except Exception as error:
    print("\\nREFUSED", type(error).__name__, error)
"""


class Refused(SystemExit):
    """The store or the way to it said no; the text says why."""


class ImageTarget:
    """The store on a littlefs image, such as build/desktop/flash.img.

    `lock` (flash_image.lock_image) keeps others off the image as long as this lives; None where
    somebody else sees to that. Raises SystemExit when there is no such image.
    """

    def __init__(self, path: Path, capacity: int, lock: TextIO | None = None):
        self._lock = lock
        self._image = FlashImage(path)
        self._files = self._image.files
        self._capacity = capacity

    def key(self) -> bytes:
        """The site key. Raises Refused if there is none that can be relied on."""
        try:
            return sitekey.site_key(self._files.open)
        except ValueError as error:
            raise Refused(f"{error}: give it one with set-key") from None

    def is_new(self) -> bool:
        """Whether there is no site key yet, not even a damaged one."""
        copies = (sitekey.KEY, sitekey.COPY)
        return not any(sitekey.key_file(path, self._files.open) for path in copies)

    def set_key(self, key: bytes) -> None:
        """Put the site key there."""
        for path, data in sitekey.key_copies(key):
            with self._files.open(path, "wb") as file:
                file.write(data)
        self._image.save()

    def ask(self, expression: str):
        """The value of an expression over `store` and `finish`. Raises Refused."""
        store = Store(self._files, FOLDER, self.key(), capacity=self._capacity)
        try:
            answer = eval(expression, {"store": store, "finish": finish})
            return _checked(answer, store.damage)
        except (StoreError, OSError, ValueError) as error:
            raise Refused(f"refused: {error}") from error
        finally:
            store.close()
            self._image.save()

    def update(self, version: int, changes: list, base: int | None) -> tuple[str, int]:
        """Store.update; the store's version comes with what it returns. Raises Refused."""
        steps = f"store.update({version}, {changes!r}, {base})"
        return self.ask(f"(finish({steps}), store.version)")

    def install(self, data: bytes) -> None:
        """Put a full list in place. Raises Refused."""
        store = Store(self._files, FOLDER, self.key(), capacity=self._capacity)
        load = store.load()
        try:
            finish(load.write(data))
            finish(load.commit())
        except (StoreError, OSError) as error:
            raise Refused(f"refused: {error}") from error
        finally:
            load.abort()
            store.close()
        self._image.save()


class BoardTarget:
    """The store of a board at a serial port, by mpremote. `now`: even while a car charges."""

    def __init__(self, port: str, capacity: int, resume: bool, now: bool = False):
        self._port = port
        self._now = now
        self._capacity = capacity
        # Without a soft reset first, the running firmware's memory is not given back.
        self._begin = ["resume"] if resume else []
        self._end = [] if resume else ["reset"]

    def _mpremote(self, *commands: str) -> str:
        try:
            wait_for_no_transaction(
                self._port, lambda text: print(text, file=sys.stderr), self._now
            )
        except BoardError as error:
            raise Refused(str(error)) from error
        call = [sys.executable, "-m", "mpremote", "connect", self._port, *self._begin, *commands]
        done = subprocess.run(call, capture_output=True, text=True, errors="replace")
        if "no module named 'tapauth" in done.stderr + done.stdout:
            raise Refused("this board has no firmware yet: make deploy")
        if done.returncode:
            raise Refused(f"mpremote: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def set_key(self, key: bytes) -> None:
        """Put the site key there."""
        with tempfile.TemporaryDirectory() as folder:
            commands: list[str] = []
            renames = ""
            for path, data in sitekey.key_copies(key):
                local = Path(folder) / path[1:]
                local.write_bytes(data)
                commands += ["cp", str(local), f":{path}.new", "+"]
                renames += f"os.rename({path + '.new'!r}, {path!r});"
            self._mpremote(*commands, "exec", "import os;" + renames, *self._end)

    def ask(self, expression: str, *before: str):
        """The value of an expression over `store` and `finish`. Raises Refused."""
        code = SCRIPT.format(
            sitekey=Path(sitekey.__file__).read_text(),
            folder=FOLDER,
            capacity=self._capacity,
            expression=expression,
        )
        output = self._mpremote(*before, "exec", code, *self._end)
        for line in output.splitlines():
            if line.startswith("ANSWER "):
                return _checked(*json.loads(line[7:]))
            if line.startswith("REFUSED "):
                raise Refused(f"refused: {line[8:]}")
        raise Refused(f"the board gave no answer:\n{output}")

    def update(self, version: int, changes: list, base: int | None) -> tuple[str, int]:
        """Store.update; the store's version comes with what it returns. Raises Refused.

        The changes go there as a file, in which what several cards are given is there once: a
        board has no memory to compile so long a line, nor to hold each card's own.
        """
        infos: list = []
        lines = []
        for token, info in changes:
            if info not in infos:
                infos.append(info)
            lines.append(json.dumps([token, infos.index(info)]))
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "changes"
            local.write_text("\n".join([json.dumps(infos), *lines]))
            call = f"change({UPLOAD!r}, {version}, {base})"
            status, held = self.ask(call, "cp", str(local), f":{UPLOAD}", "+")
            return status, held

    def install(self, data: bytes) -> None:
        """Put a full list in place. Raises Refused."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "cards"
            local.write_bytes(data)
            self.ask(f"take({UPLOAD!r})", "cp", str(local), f":{UPLOAD}", "+")


def _checked(answer, damage: str):
    if damage:
        print(f"the store is damaged ({damage}): install a full list", file=sys.stderr)
    return answer
