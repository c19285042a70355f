"""What the documents name is there: files, links, sections, commands, configuration keys."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tapauth import config
from tapauth.local.commands_admin import COMMANDS
from tapauth.local.withdrawals import WITHDRAWING
from tapauth.rpc import definitions
from tools.bench.__main__ import SUITES
from tools.paths import ROOT

ROOMS_OWN = ("boards/README.md", "firmware/README.md", "host_tests/README.md", "tools/README.md")
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ROOMS_OWN),
    *sorted((ROOT / "boards").glob("*/README.md")),
]
PAST = ("CHANGELOG.md",)
"""They tell of what was: its links count, its paths and commands need not be there any more."""
PRESENT = [path for path in DOCUMENTS if path.name not in PAST]
MADE = ("build/", "site/", ".venv")
"""What is not in a checkout before something was run."""
SUFFIXES = (".py", ".md", ".json", ".html", ".txt", ".toml", ".csv")
ROOMS = ("firmware/", "boards/", "tools/", "host_tests/", "docs/", ".ci/")
SUBJECTS = ("firmware/tapauth", "host_tests", "firmware", "boards")
"""Where a path may begin, beside the checkout and the document's own folder."""
ON_A_BOARD = ("boot_pins.py", "rules.json", "config.json")
"""Names that look like files of ours."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
every_present = pytest.mark.parametrize("path", PRESENT, ids=name_of)


@cache
def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.M | re.S)


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.M)
    plain = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def quoted(path: Path) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", prose(path))


def in_one_line(path: Path) -> str:
    """A document with its blocks of code: a command may go on in the next line."""
    return " ".join(path.read_text().split())


def test_the_documents_are_there():
    assert len(DOCUMENTS) > 20 and all(path.exists() for path in DOCUMENTS)


@every_document
def test_each_link_leads_somewhere(path):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http:", "https:")):
            continue
        file, _, anchor = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        if not to.is_relative_to(ROOT) or not to.exists():
            wrong.append(target)
        elif anchor and to.suffix == ".md" and anchor not in anchors(to):
            wrong.append(f"{target}: no such section")
    assert not wrong


def is_path(text: str) -> bool:
    """Whether a quoted text is meant to be a file or a folder of this project."""
    if re.search(r"[^\w./-]", text) or text.startswith(("/", "-", ".../", *MADE)):
        return False
    return text.endswith(SUFFIXES) or text.startswith(ROOMS)


def is_there(text: str, path: Path) -> bool:
    places = [ROOT, path.parent, *(ROOT / folder for folder in SUBJECTS)]
    if any((place / text).exists() for place in places):
        return True
    # A name alone is enough where the text around it says the folder.
    return "/" not in text and (text in ON_A_BOARD or any(ROOT.glob(f"*/**/{text}")))


@every_present
def test_each_file_that_is_named_is_there(path):
    named = sorted({text for text in quoted(path) if is_path(text)})
    assert [text for text in named if not is_there(text, path)] == []


@every_present
def test_nothing_outside_of_the_project_is_cited(path):
    outside = [
        text for text in quoted(path) if re.match(r"/(home|work|mnt|root|usr|opt|tmp)\b", text)
    ]
    assert not outside


@every_present
def test_each_make_target_is_one(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    text = path.read_text()
    named = re.findall(r"`make ([a-z][a-z-]*)", text)
    # In a block of code it begins a line.
    named += re.findall(r"^(?: {4,}(?:\$ )?)?make ([a-z][a-z-]*)", text, re.M)
    assert set(named) <= targets


@every_present
def test_each_tool_is_one(path):
    for name in re.findall(r"-m (tools(?:\.\w+)+)", in_one_line(path)):
        place = ROOT / name.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), name


@every_present
def test_each_suite_of_the_benchmarks_is_one(path):
    for names in re.findall(r"-m tools\.bench ([\w ]+)`", in_one_line(path)):
        assert set(names.split()) <= set(SUITES), names


def keys(schema: dict, start: str = "") -> list[str]:
    found = []
    for name, rule in schema.items():
        if isinstance(rule, dict):
            found += keys(rule, start + name + ".")
        else:
            found.append(start + name)
    return found


def test_each_key_of_the_configuration_is_told():
    texts = [(ROOT / "docs" / name).read_text() for name in ("configuration.md", "rpc.md")]
    rows = [line.split("|")[1] for text in texts for line in text.splitlines() if line[:1] == "|"]
    told = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    known = keys(config._SCHEMA)
    assert [key for key in known if key not in told] == []
    sections = {key.rpartition(".")[0] for key in known}
    strange = [name for name in told if name not in known and name.rpartition(".")[0] in sections]
    assert [name for name in strange if "." in name] == []


@pytest.mark.parametrize(
    "name, commands",
    [("local-server.md", {**COMMANDS, **WITHDRAWING}), ("rpc.md", definitions.COMMANDS)],
)
def test_each_command_has_a_row(name, commands):
    rows = re.findall(r"^\| `([\w/.]+)` \|", (ROOT / "docs" / name).read_text(), re.M)
    names = [one if isinstance(one, str) else one.decode() for one in commands]
    assert len(names) > 5 and [one for one in names if one not in rows] == []


def test_each_document_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for path in DOCUMENTS:
        inside = name_of(path).removeprefix("docs/")
        if inside != "README.md" and not re.match(r"boards/.+/README.md", name_of(path)):
            assert f"({inside})" in index or f"(../{name_of(path)})" in index, name_of(path)


def test_each_rule_of_the_map_has_a_test():
    text = (ROOT / "docs" / "architecture.md").read_text().split("## Where is the rule for")[1]
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    for rule, where, test in rows[1:]:
        assert re.search(r"`[\w/]+\.(py|md|json)`", where), rule
        tests = re.findall(r"`([\w/]+\.py)`", test)
        assert tests or "itself" in test or "`make " in test, rule
        assert all(re.search(r"\btest_\w+\.py$", name) for name in tests), rule


def counters() -> set[str]:
    """The names of all that the firmware counts for its reports."""
    found = set()
    for path in sorted((ROOT / "firmware" / "tapauth").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            # They are made in functions of this name, or kept under one of these.
            here = isinstance(node, ast.FunctionDef) and node.name == "counters"
            if isinstance(node, ast.Assign):
                here = ast.unparse(node.targets[0]) in ("self.counters", "self.counts")
            for part in ast.walk(node) if here else ():
                if isinstance(part, ast.Dict):
                    found |= {key.value for key in part.keys if isinstance(key, ast.Constant)}
    return found


def test_each_counter_is_explained():
    told = set(quoted(ROOT / "docs" / "mqtt.md")) | set(quoted(ROOT / "docs" / "reader.md"))
    assert len(counters()) > 30
    assert sorted(counters() - told) == []
