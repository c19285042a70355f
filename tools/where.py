"""Where in the sources a board's traceback leads.

    python -m tools.where BOARD < LOG

Modules that always run together are one on a board (tools/compile/program.py): a traceback names
that, and counts the lines of all of them. This copies its input, of this checkout's firmware, and
puts the source's module and line in their place.
"""

import sys

from tools.compile.program import source_line
from tools.firmware import board_texts, limits_of

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    limits_of(sys.argv[1])  # there is such a board
    own = board_texts(sys.argv[1])
    for text in sys.stdin:
        print(source_line(text, own), end="")
