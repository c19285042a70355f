"""A headless Chromium, driven over its DevTools protocol: what a test of the page needs of it."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT_S = 15
SLOW_TIME = """(() => {
  const timeout = setTimeout, interval = setInterval, now = Date.now, began = now();
  window.setTimeout = (call, ms, ...rest) => timeout(call, (ms || 0) * SLOWNESS, ...rest);
  window.setInterval = (call, ms, ...rest) => interval(call, (ms || 0) * SLOWNESS, ...rest);
  Date.now = () => began + (now() - began) / SLOWNESS;
})()"""


def find() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page. A context manager. `errors` are what the page's scripts complained about. Time
    passes `slowness` times slower for the page, and so do the waits here: for an emulated board.
    """

    def __init__(
        self, width: int = 390, height: int = 844, dark: bool = False, slowness: float = 1
    ):
        self._size = width, height
        self._slowness = slowness
        self._dark = dark
        self.errors: list[str] = []
        self._number = 0

    def __enter__(self) -> "Browser":
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        path = find()
        assert path
        self._process = subprocess.Popen(
            [
                path,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-proxy-server",
                "--remote-debugging-port=0",
                f"--user-data-dir={self._folder.name}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        told = Path(self._folder.name) / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not told.exists() or "\n" not in told.read_text():
            assert time.monotonic() < deadline and self._process.poll() is None, "no Chromium"
            time.sleep(0.1)
        port = told.read_text().split("\n")[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json") as reply:
            target = next(one for one in json.load(reply) if one["type"] == "page")
        self._socket = connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None)
        self.command("Runtime.enable")
        self.command("Page.enable")
        self.command("Log.enable")
        if self._slowness != 1:
            source = SLOW_TIME.replace("SLOWNESS", str(self._slowness))
            self.command("Page.addScriptToEvaluateOnNewDocument", source=source)
        width, height = self._size
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        if self._dark:
            dark = {"name": "prefers-color-scheme", "value": "dark"}
            self.command("Emulation.setEmulatedMedia", features=[dark])
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait(10)
        self._folder.cleanup()

    def command(self, method: str, **params) -> dict:
        """Carry out a command of the DevTools protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(2 * WAIT_S * self._slowness))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", details).get("description", details))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])

    def open(self, address: str) -> None:
        self.command("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def reload(self) -> None:
        """Load the page again."""
        self.run("window.before = true")
        self.command("Page.reload")
        self.wait("!window.before && document.readyState === 'complete'")

    def run(self, script: str):
        """The value of a JavaScript expression."""
        result = self.command(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = WAIT_S) -> None:
        """Wait until a JavaScript expression holds."""
        deadline = time.monotonic() + seconds * self._slowness
        while not self.run(condition):
            assert time.monotonic() < deadline, (condition, self.text()[-500:], self.errors)
            time.sleep(0.05)

    def text(self) -> str:
        """What a reader sees of the page."""
        return self.run("document.body?.innerText") or ""

    def sees(self, text: str, seconds: float = WAIT_S) -> None:
        """Wait until the page shows a text."""
        self.wait(f"document.body?.innerText.includes({json.dumps(text)})", seconds)

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        self.command("Input.insertText", text=text)

    def key(self, name: str) -> None:
        """Press and release a key: Enter, Tab or Space."""
        codes = {"Enter": (13, "\r"), "Tab": (9, ""), "Space": (32, " ")}
        code, text = codes[name]
        common = {
            "key": " " if name == "Space" else name,
            "code": name,
            "windowsVirtualKeyCode": code,
        }
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    def focus(self, selector: str) -> None:
        """Focus an element."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")

    def press(self, label: str, inside: str = "body") -> None:
        """Click the visible button with this label."""
        self.run(
            f"[...document.querySelectorAll({json.dumps(inside + ' button')})]"
            f".find(one => one.textContent === {json.dumps(label)}"
            " && one.offsetParent && !one.disabled).click()"
        )

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Save what the page looks like as PNG."""
        taken = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))
