"""Holds the memory that `taper train --dry-run` predicts against what the run takes, for every row of the table.

usage: estimates.py TAPER FIXTURES [ROW ...]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import ROWS, Row

# The peak is that of the heaviest batch, which the plan of a run of so many steps looks for among them.
STEPS, VALIDATION_ROWS, TOLERANCE = 8, 24, 0.15


def head(source: Path, target: Path, rows: int | None) -> Path:
    with source.open() as lines:
        target.write_text("".join(line for i, line in enumerate(lines) if rows is None or i < rows))
    return target


def measure(taper: str, fixtures: Path, row: Row, work: Path) -> tuple[int, int]:
    """Bytes predicted and taken."""
    data = fixtures / "data"
    train = head(data / f"{row.data.name}_train.jsonl", work / "train.jsonl", row.data.train_rows)
    valid = head(data / f"{row.data.name}_test.jsonl", work / "valid.jsonl", VALIDATION_ROWS)
    spec, settings = work / "spec.json", row.spec(42)
    settings["training"]["max_steps"] = STEPS
    spec.write_text(json.dumps(settings))
    command = [taper, "train", str(spec), "--model", str(fixtures / "models" / row.model), "--data", str(train),
               "--validation", str(valid), "--threads", "2"]  # fmt: skip
    plan = subprocess.run([*command, "--dry-run", "--json"], check=True, capture_output=True).stdout
    timed = ["/usr/bin/time", "--format", "%M", "--output", str(work / "peak"), *command, "--out", str(work / "out")]
    subprocess.run(timed, check=True, capture_output=True)
    return sum(json.loads(plan)["memory"].values()), int((work / "peak").read_text()) * 1024


def main() -> None:
    taper, fixtures, *names = sys.argv[1:]
    worst = 0.0
    print("| row | estimate | measured | ratio |\n| --- | ---: | ---: | ---: |")
    for name in names or ROWS:
        with tempfile.TemporaryDirectory() as work:
            estimate, measured = measure(taper, Path(fixtures), ROWS[name], Path(work))
        ratio = estimate / measured
        worst = max(worst, abs(ratio - 1))
        print(f"| {name} | {estimate >> 20} MiB | {measured >> 20} MiB | {ratio:.2f} |", flush=True)
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
