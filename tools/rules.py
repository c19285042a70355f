"""Check a rule file of AuthorizeCommand, and explain which rule decides.

    python -m tools.rules check rules.json
    python -m tools.rules explain rules.json SRC DST CMD

Exit status: 0 the file is good, or the command is allowed; 1 the command is denied; 2 the file is
refused by the board too, or an address is none.
"""

import json
import sys
from pathlib import Path

from tapauth.rpc import addresses, rule_file, rules

ALLOWED, DENIED, BAD = 0, 1, 2
NAMES = ("src", "dst", "cmd")


def warnings(listed: list[dict], compiled: list[bytes]) -> list[str]:
    """What is allowed in a rule file and yet seldom meant."""
    found = []
    for at, rule in enumerate(listed):
        where = f"rule {at + 1}"
        for name in NAMES:
            for glob in rule.get(name, "**").replace(",", "|").split("|"):
                start = "//" if name != "cmd" else "/"
                if glob.startswith("*") and not glob.startswith("**"):
                    found.append(
                        f"{where}: {name} {glob!r} matches nothing that begins with {start}: "
                        "one * does not cross a slash, write **"
                    )
                elif glob[0] not in "/*?%" and name != "cmd":
                    found.append(f"{where}: {name} {glob!r} matches no ID: they begin with //")
        everything = {name: rule.get(name, "**") for name in NAMES}
        if set(everything.values()) == {"**"} and at + 1 < len(listed):
            found.append(f"{where}: matches everything, the rules behind it never decide")
            break
        if compiled[at] in compiled[:at]:
            found.append(f"{where}: is there twice")
    return found


def why_not(rule: dict, subjects: tuple[str, str, str]) -> str:
    """The first part of a rule that does not match, as text; "" when all do."""
    for name, subject in zip(NAMES, subjects, strict=True):
        if name in rule:
            program = rule_file.compile_glob(rule[name], name != "cmd")
            if not rules.Matcher().glob(program, 0, len(program), subject.encode()):
                return f"{name} {subject} is not {rule[name]}"
    return ""


def explain(listed: list[dict], compiled: list[bytes], src: str, dst: str, cmd: str) -> int:
    """Print which rule decides and why those before it do not. Returns the exit status."""
    subjects = (addresses.parse(src)[0], addresses.parse(dst)[0], addresses.unquote(cmd))
    allowed, at = rules.decide(compiled, *subjects)
    print(f"src {subjects[0]}\ndst {subjects[1]}\ncmd {subjects[2]}")
    for number, rule in enumerate(listed[:at] if at >= 0 else listed, 1):
        print(f"rule {number}: no, {why_not(rule, subjects)}")
    if at >= 0:
        print(f"rule {at + 1}: yes, {json.dumps(listed[at])}")
    else:
        print("no rule matches")
    print("allowed" if allowed else "denied")
    return ALLOWED if allowed else DENIED


def main(words: list[str]) -> int:
    """Run one command. Returns the exit status."""
    if not (words[:1] == ["check"] and len(words) == 2) and not (
        words[:1] == ["explain"] and len(words) == 5
    ):
        print((__doc__ or "").strip(), file=sys.stderr)
        return BAD
    try:
        text = Path(words[1]).read_bytes()
        compiled = rule_file.compile_rules(text)
        listed = json.loads(text)
        if words[0] == "explain":
            return explain(listed, compiled, *words[2:])
    except (OSError, ValueError, rules.RuleError) as error:
        print(f"{words[1]}: {error}" if words[0] == "check" else error, file=sys.stderr)
        return BAD
    for line in warnings(listed, compiled):
        print("warning:", line)
    print(f"{words[1]}: {len(compiled)} of at most {rule_file.MAX_RULES} rules, good")
    return ALLOWED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
