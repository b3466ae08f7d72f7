"""Makes the tables of codes in `docs/faults.md` of those in `batchwrite/codes.py`.

    python docs/fault_tables.py

Run it after a change there; a test fails where it has not been run.
"""

import re
import sys
from pathlib import Path

from batchwrite import codes

PAGE = Path(__file__).with_name("faults.md")
TABLE = re.compile(r"(?<=<!-- codes: )(\w+)( -->\n).*?(?=<!-- end of codes -->)", re.DOTALL)


def table(name: str) -> str:
    """The table of some codes as Markdown: code, kind, and what it is."""
    rows = [f"| `{code}` | {means.kind} | {means.meaning} |" for code, means in getattr(codes, name).items()]
    return "\n".join(["| code | kind | what it is |", "|---|---|---|", *rows, "", ""])


def main() -> None:
    """Make them anew, in the page or in the file that is named."""
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    text = page.read_text(encoding="utf-8")
    page.write_text(TABLE.sub(lambda found: found[1] + found[2] + table(found[1]), text), encoding="utf-8")


if __name__ == "__main__":
    main()
