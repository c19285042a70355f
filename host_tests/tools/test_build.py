"""What the build writes into the firmware: the same for the same commit, whenever it is built."""

import re
import subprocess
import tomllib

import tapauth
from tools import build
from tools.firmware import compile_modules
from tools.paths import IMAGE, ROOT, micropython


def test_the_day_of_the_commit_is_in_the_firmware():
    build.build()
    source = build.BUILT.search((build.FIRMWARE / build.FIRST).read_text())
    day = build.built()
    assert len(day) == len("2026-11-24T00:00:00Z") and day.endswith("T00:00:00Z")
    assert day >= source[1]
    assert day.encode() in (IMAGE / "tapauth" / "__init__.mpy").read_bytes()
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        at = int(done.stdout)
        command = ["date", "-u", "-d", f"@{at}", "+%FT00:00:00Z"]
        committed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert day == max(source[1], committed.strip())


def test_without_git_the_day_is_that_of_the_source(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    build.built.cache_clear()
    try:
        source = build.BUILT.search((build.FIRMWARE / build.FIRST).read_text())
        assert build.built() == source[1]
    finally:
        build.built.cache_clear()


def test_an_image_of_another_day_is_brought_up_to_date():
    build.build()
    target = IMAGE / "tapauth" / "__init__.mpy"
    right = target.read_bytes()
    target.write_bytes(right.replace(build.built().encode(), b"2020-01-01T00:00:00Z"))
    assert build.build() == 1
    assert target.read_bytes() == right


def test_the_version_is_said_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    module, _, name = project["tool"]["setuptools"]["dynamic"]["version"]["attr"].rpartition(".")
    source = (ROOT / module.replace(".", "/") / "__init__.py").read_text()
    assert f'{name} = "{tapauth.__version__}"\n' in source


def test_without_lines_the_firmware_is_smaller_and_does_the_same(tmp_path):
    with_lines, without = (
        compile_modules("desktop", tmp_path / str(lines), lines) for lines in (True, False)
    )
    assert set(with_lines) == set(without)
    assert sum(map(len, without.values())) < 0.95 * sum(map(len, with_lines.values()))
    shown = []
    for options in ((), ("-O3",)):
        text = "\n\ndef late():\n    return 1 // 0\n"
        build.compile_text(text, tmp_path / "low.mpy", "room.low", *options)
        done = subprocess.run(
            [micropython(), "-c", "import low; low.late()"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        shown += re.findall(r'File "room.low", line (\d+), in late', done.stdout)
    assert shown == ["4", "1"]
