"""The tools and the tests are all named where a stranger looks for them."""

import re

import pytest

from tools.paths import ROOT

TOOLS = ROOT / "tools"
TESTS = ROOT / "host_tests"


def _commands() -> list[str]:
    """What is run with `python -m`, below tools/, but the benchmarks' suites."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in sorted(TOOLS.rglob("*.py"))
        if 'if __name__ == "__main__":' in path.read_text()
        and (path.parent.name != "bench" or path.name == "__main__.py")
    ]


def test_each_tool_is_in_the_readme():
    text = (TOOLS / "README.md").read_text()
    assert len(_commands()) > 15
    rows = re.findall(r"(?m)^\| `([\w.]+)/?` \|", text)
    parts = {
        path.name
        for path in TOOLS.iterdir()
        if not path.name.startswith(("_", ".")) and path.name != "README.md"
    }
    commands = {one.partition(".")[2] + ".py" for one in _commands()}
    assert sorted(rows) == sorted([*_commands(), *(parts - commands)])


def test_each_folder_of_tests_is_in_the_readme():
    text = (TESTS / "README.md").read_text()
    for path in TESTS.rglob("*.py"):
        folder = path.parent.relative_to(TESTS)
        assert path.parent == TESTS or f"`{folder}/`" in text, folder


def test_each_variable_for_longer_runs_is_in_the_readme():
    text = (TESTS / "README.md").read_text()
    read = {
        name: default
        for path in TESTS.rglob("*.py")
        for name, default in re.findall(
            r'(?:environ\.get|getenv)\("(TAPAUTH_\w+)"(?:, |\) or )"(\d+)"', path.read_text()
        )
    }
    assert len(read) > 4
    assert dict(re.findall(r"(?m)^\| `(TAPAUTH_\w+)` \| (\d+) \|", text)) == read


@pytest.mark.parametrize("path", [TOOLS / "README.md", TESTS / "README.md"], ids=str)
def test_what_a_readme_names_is_there(path):
    for name in re.findall(r"(?:host_tests|tools)/[\w/]+\.(?:py|json)", path.read_text()):
        assert (ROOT / name).exists(), name
