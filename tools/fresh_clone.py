"""Do what a newcomer does: clone the last commit into an empty folder and run the two commands.

    python -m tools.fresh_clone [--no-test]

The demo runs against a broker of this script, and what came over MQTT is judged by a client of
this script, apart from the clone. Prints all that the commands print. Ends with 0, or 1 and why.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.charger import Observer
from tools.desk import scenario
from tools.desk.broker import EmbeddedBroker
from tools.paths import ROOT

EXPECTED = [status for _, _, statuses in scenario.STEPS for status in statuses]


def run(*command: str, where: Path) -> int:
    """Run a command as a newcomer's shell would: none of this checkout's environment."""
    print("$ " + " ".join(command), flush=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MICROPYTHON")
    }
    return subprocess.run(command, cwd=where, env=environment, stdin=subprocess.DEVNULL).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fresh_clone", description=__doc__)
    parser.add_argument("--no-test", action="store_true", help="leave out `make test`")
    arguments = parser.parse_args()
    statuses: list[tuple[str, str]] = []

    def look(topic: str, payload: bytes) -> None:
        if topic.endswith("/e2m/token_validation_status"):
            message = json.loads(payload)
            statuses.append((message["token"]["id_token"]["value"], message["status"]))

    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        observer = Observer("127.0.0.1", broker.port, look)
        clone = Path(folder) / "tapauth"
        if run("git", "clone", "--quiet", str(ROOT), str(clone), where=Path(folder)):
            return 1
        code = run("make", "run", "DEMO=1", f"BROKER=127.0.0.1:{broker.port}", where=clone)
        observer.close()
        if code:
            print(f"make run ended with {code}")
            return 1
        if statuses != EXPECTED:
            print(f"the independent client saw {statuses}, expected {EXPECTED}")
            return 1
        print(f"the independent client saw the same {len(statuses)} statuses")
        if not arguments.no_test and run("make", "test", where=clone):
            print("make test failed")
            return 1
    print("a fresh clone works")
    return 0


if __name__ == "__main__":
    sys.exit(main())
