"""Every test of host_tests/logic runs twice: here on CPython, and on real MicroPython.

The MicroPython run of a file is one process with a board-sized heap, on the compiled files that
go onto a board; each of its tests is an item of its own, named `test_x[micropython]`.
"""

import ast
import os
import subprocess

import pytest

from tools.build import build
from tools.paths import IMAGE, ROOT, micropython

HEAP = "192k"
"""Heap of the 64-bit Unix port, like 96 KB on a 32-bit board."""

LOGIC = ROOT / "host_tests" / "logic"


def pytest_collection(session):
    """Compile the firmware before anything runs, so that no test meets yesterday's files."""
    build()


def pytest_collect_file(file_path, parent):
    if file_path.parent == LOGIC and file_path.match("test_*.py"):
        return MicroPythonFile.from_parent(parent, path=file_path)
    return None


def run_micropython(*arguments: str, heap: str = HEAP, timeout: float = 300):
    """Run MicroPython from the project's root with the compiled firmware on its path."""
    scripts = ROOT / "host_tests" / "on_micropython"
    path = [str(IMAGE), str(IMAGE / "lib"), ".frozen", str(scripts)]
    return subprocess.run(
        [micropython(), "-X", f"heapsize={heap}", *arguments],
        cwd=ROOT,
        env={**os.environ, "MICROPYPATH": ":".join(path)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def tell(request):
    """`tell(text)` says what a test measured; it is shown when all tests have run."""
    return lambda text: request.node.user_properties.append(("measured", text))


def pytest_terminal_summary(terminalreporter):
    lines = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            place = report.nodeid.rpartition("/")[2].partition("::")[0]
            for name, text in report.user_properties:
                if name == "measured" and report.when == "call":
                    lines.append(f"{place}: {text}")
    if lines:
        terminalreporter.section("measured")
        for line in sorted(lines):
            terminalreporter.line(line)


class MicroPythonFile(pytest.File):
    """One file of logic tests, to be run on MicroPython."""

    _results: dict[str, str] | None = None
    _output = ""

    def collect(self):
        tree = ast.parse(self.path.read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield MicroPythonItem.from_parent(
                    self, name=node.name + "[micropython]", test=node.name, line=node.lineno
                )

    def results(self) -> tuple[dict[str, str], str]:
        """Test name to "" (passed) or its traceback, and the whole output of the run."""
        if self._results is None:
            runner = "host_tests/on_micropython/logic_runner.py"
            done = run_micropython(runner, self.path.stem)
            self._output = done.stdout + done.stderr
            self._results = {}
            failed: list[str] | None = None
            for line in done.stdout.splitlines():
                if failed is not None:
                    if line == "END":
                        self._results[failed[0]] = "\n".join(failed[1:])
                        failed = None
                    else:
                        failed.append(line)
                elif line.startswith("PASS "):
                    self._results[line[5:]] = ""
                elif line.startswith("FAIL "):
                    failed = [line[5:]]
        return self._results, self._output


class MicroPythonItem(pytest.Item):
    def __init__(self, *, test: str, line: int, **kwargs):
        super().__init__(**kwargs)
        self.test = test
        self.line = line

    def runtest(self):
        results, output = self.parent.results()
        if self.test not in results:
            raise MicroPythonFailure(f"the run on MicroPython did not reach this test:\n{output}")
        if results[self.test]:
            raise MicroPythonFailure(results[self.test])

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, MicroPythonFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, self.line - 1, self.name


class MicroPythonFailure(Exception):
    """A test failed on MicroPython; the text is what it printed."""
