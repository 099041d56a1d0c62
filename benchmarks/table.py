"""Write the table of the README from the result files: `python -m benchmarks.table`. Every new result does it too.

A row is a claim that names its peer: `peer` (who), `ours` and `theirs` (both figures with their units).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
HEAD = "| benchmark | what | peer | ours | peer's | ratio | limit | held |\n|---|---|---|---|---|---|---|---|\n"


def rewrite() -> None:
    """Write the table between its marks."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(before + BEGIN + "\n" + render(results) + "\n" + END + rest.partition(END)[2])


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table."""
    rows = (
        render_row(name, claim) for name, result in results.items() for claim in result["claims"] if "peer" in claim
    )
    return HEAD + "".join(rows)


def render_row(name: str, claim: Mapping[str, Any]) -> str:
    """Return a claim's row."""
    low, high = claim.get("at_least"), claim.get("at_most")
    limit = f"≥ {low:g}" if low is not None else f"≤ {high:g}" if high is not None else "–"
    told = [str(claim.get(member, "–")) for member in ("peer", "ours", "theirs")]
    unit = "×" if claim["unit"] in ("x", "ratio") else claim["unit"]
    measured = f"{claim['measured']:.3g} {unit}".strip()
    held = {True: "yes", False: "**no**", None: "–"}[claim["holds"]]
    return f"| `{name}` | {' | '.join([claim['claim'], *told, measured, limit, held])} |\n"


if __name__ == "__main__":
    rewrite()
