"""The auth service on real MicroPython: what timing tells."""

from conftest import run_micropython


def output(script: str, **how) -> list[str]:
    done = run_micropython("host_tests/on_micropython/" + script, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


def test_authenticate_takes_as_long_for_an_unknown_id():
    for _ in range(3):
        words = output("rpc_timing.py", heap="1m")
        times = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        # Another process on the machine may disturb one run; a true difference is in all.
        different = [
            kind
            for kind in ("psk", "cert", "core_psk", "core_cert")
            if abs(times["known_" + kind] - times["unknown_" + kind])
            > times["known_" + kind] // 10
        ]
        if not different:
            return
    raise AssertionError(times)
