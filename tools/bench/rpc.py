"""Each command of the auth service: how many a second, and the heap that one takes.

Runs in MicroPython. 64 tokens, 64 devices and 64 rules are there; the files are in RAM, so that
the times are those of the code and not of this machine's disk. The heap is that of the 64-bit
port, where objects weigh about twice what they weigh on a board.
"""

import gc
import json
import sys

from tapauth.compat import forget, mem_alloc, ticks_diff, ticks_us
from tapauth.log import Log
from tapauth.rpc import setup
from tapauth.rpc.service import RpcPeer

sys.path.append("host_tests/logic/rigs")

from rpc_rig import RamFs, Random  # noqa: E402

from moved_clock import MovedClock  # noqa: E402

ROUNDS = 200
KEY = "the backend's own key"
SETTINGS = {
    "address": "//h/cloud.board",
    "backend_id": "",
    "backend_key": KEY,
    "tokens_backend_only": False,
    "tokens_as_psk": False,
}


def row(case, metric, value, unit):
    print(
        json.dumps({"suite": "rpc", "case": case, "metric": metric, "value": value, "unit": unit})
    )


def rules():
    listed = [
        {"src": f"//h/device_{number}*", "dst": "//h/*", "cmd": "/v1/Nuke.*", "allow": False}
        for number in range(63)
    ]
    listed.append({"src": "//h/user_*", "cmd": "/v1/**", "allow": True})
    return json.dumps(listed)


def frame(name, args, src="//h/cloud", key=KEY):
    command = {"cmd": "/v1/" + name, "id": 1, "args": args}
    return json.dumps({"v": 1, "src": src, "key": key, "cmds": [command]})


def ask(text):
    reply = service.handle(text, RpcPeer())
    assert '"status":0' in reply, reply
    return reply


clock = MovedClock()
fs = RamFs()
fs.files["/rules.json"] = rules().encode()
gc.collect()
before = mem_alloc()
service = setup.open_service(
    SETTINGS, fs, clock, lambda: 1_800_000_000, Random(), Log(clock, b"", 9)
)
forget(setup)
del setup
for number in range(64):
    ask(frame("Device.Add", {"deviceid": f"//h/device_{number}", "psk": f"psk of {number}"}))
for user in range(4):
    for number in range(16):
        args = {"host": f"app{number}.example.com"}
        ask(frame("Auth.GenerateToken", args, f"//h/device_{user}", f"psk of {user}"))
gc.collect()
in_files = sum([len(data) for data in fs.files.values()])
row("tables", "live heap", mem_alloc() - before - in_files, "bytes")

ME = ("//h/device_3", "psk of 3")
HOST = {"host": "app15.example.com"}
AUTHORIZE = {"src": "//h/user_joe", "dst": "//h/device_5", "cmd": "/v1/Nuke.Launch"}
right = {"id": "//h/device_63", "credentials": {"psk": "psk of 63"}}
unknown = {"id": "//h/nobody_63", "credentials": {"psk": "psk of 63"}}
CASES = (
    ("Hello", (frame("Hello", {}),)),
    ("Services.List", (frame("Services.List", {}),)),
    ("Auth.Authenticate", (frame("Auth.Authenticate", right),)),
    ("Auth.Authenticate unknown", (frame("Auth.Authenticate", unknown),)),
    ("Auth.AuthorizeCommand last rule", (frame("Auth.AuthorizeCommand", AUTHORIZE),)),
    ("Auth.GetToken", (frame("Auth.GetToken", HOST, *ME),)),
    ("Auth.ListToken", (frame("Auth.ListToken", {}, *ME),)),
    (
        "Auth.RevokeToken and GenerateToken",
        (frame("Auth.RevokeToken", HOST, *ME), frame("Auth.GenerateToken", HOST, *ME)),
    ),
)
for name, texts in CASES:
    for text in texts:
        ask(text)
    rounds = ROUNDS if len(texts) == 1 and "List" not in name else ROUNDS // 10
    gc.collect()
    gc.disable()
    start = mem_alloc()
    for text in texts:
        ask(text)
    used = (mem_alloc() - start) // len(texts)
    gc.enable()
    gc.collect()
    live = mem_alloc()
    begin = ticks_us()
    for _ in range(rounds):
        clock.advance(3_600_000)
        for text in texts:
            ask(text)
    spent = ticks_diff(ticks_us(), begin)
    gc.collect()
    kept = mem_alloc() - live
    row(name, "rate", rounds * len(texts) * 1_000_000 // spent, "commands/s")
    row(name, "heap of one command", used, "bytes")
    row(name, f"heap kept after {rounds}", kept, "bytes")
