"""Run by test_rpc_board.py under MicroPython: does Authenticate take as long for an unknown ID?

Prints medians: of Authenticate in microseconds, and of its core, 20 times the check of the
credentials, where a difference would be a larger part.
"""

import gc
import sys

from tapauth.compat import ticks_diff, ticks_us

sys.path.append("host_tests/logic/rigs")

from rpc_rig import DISPATCHER, Rig, json  # noqa: E402

DEVICES = 40
ROUNDS = 30

rig = Rig()
rig.log.level = 9
peer = rig.pinned()
for number in range(DEVICES):
    rig.add(f"//h/known_{number:02}", psk="psk")
times = {}
for kind in ("psk", "cert", "core_psk", "core_cert"):
    times["known_" + kind] = []
    times["unknown_" + kind] = []


def ask(name, secret):
    frame = {
        "v": 1,
        "src": DISPATCHER,
        "cmds": [{"cmd": "/v1/Auth.Authenticate", "id": 1, "args": {}}],
    }
    frame["cmds"][0]["args"] = {"id": name, "credentials": secret}
    text = json.dumps(frame)
    gc.collect()
    begin = ticks_us()
    reply = rig.service.handle(text, peer)
    spent = ticks_diff(ticks_us(), begin)
    assert '"resp":false' in reply, reply
    return spent


def verify(name, secret):
    check = rig.service.credentials.verify
    psk, cert = secret.get("psk"), secret.get("cert")
    gc.collect()
    begin = ticks_us()
    for _ in range(20):
        assert not check(name, psk, cert)
    return ticks_diff(ticks_us(), begin)


for _ in range(ROUNDS):
    rig.clock.advance(3_600_000)  # nobody waits any more
    for number in range(DEVICES):
        for word, start in (("known", "known"), ("unknown", "other")):
            # Names of one length, so that nothing but being known differs.
            name = f"//h/{start}_{number:02}"
            for kind, secret in (("psk", "wrong"), ("cert", "MIIBAAAA")):
                times[f"{word}_{kind}"].append(ask(name, {kind: secret}))
                rig.service.asked_for.passed(name)
                times[f"{word}_core_{kind}"].append(verify(name, {kind: secret}))
for word in times:
    ordered = sorted(times[word])
    print(word, ordered[len(ordered) // 2])
