"""Runs rows of the table in pairs, keeps their results and prints all that are there as Markdown and JSON.

A pair is the default peer, the tuned peer and taper with one seed, one after the other; every second pair runs the other way round. What is
learned needs whole epochs but no quiet machine; --quality measures it apart.
"""

import argparse
import datetime
import json
import shlex
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from flops import needed_flops
from machine import describe, peaks
from report import markdown
from rows import FIRST_STEP, MINILM, REVIEWS, ROWS, Data, Row
from sides import Bench, Job, Side

HERE = Path(__file__).parent
FIRST_SEED = 42


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def part(fixtures: Path, data: Data, kind: str, rows: int | None, work: Path) -> Path:
    """A file of fixtures, or one with its first rows."""
    whole = fixtures / "data" / f"{data.name}_{kind}.jsonl"
    if rows is None:
        return whole
    some = work / whole.name
    with whole.open(encoding="utf-8") as lines:
        some.write_text("".join(islice(lines, rows)), encoding="utf-8")
    return some


def sides_of(row: Row, pair: int, *, quality: bool) -> list[Side]:
    tuned = row.tuned_peer and not quality
    sides = [side for side in Side if tuned or side is not Side.TUNED_PEER]
    return sides if pair % 2 == 0 else sides[::-1]


def check(pair: dict[str, Any]) -> None:
    """All sides must have done the same work."""
    runs = {side.value: pair[side.value] for side in Side if side.value in pair}
    same = {figure: {side: run[figure] for side, run in runs.items()} for figure in ("steps", "tokens", "trainable")}
    same["held-out tokens"] = {side: run["after"].get("tokens") for side, run in runs.items() if run["after"]}
    for figure, values in same.items():
        if len(set(values.values())) > 1:
            sys.exit(f"the sides have not done the same: {figure} {values}")


def run_row(row: Row, options: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="taper-bench-") as name:
        data, work = row.data, Path(name)
        parts = (("train", options.rows_of_data or data.train_rows), ("test", data.test_rows))
        files = [part(options.fixtures, data, *which, work) for which in parts]
        model = options.fixtures / "models" / row.model
        pairs = []
        for number in range(options.pairs):
            seed = FIRST_SEED + number
            pair: dict[str, Any] = {"seed": seed}
            for side in sides_of(row, number, quality=options.quality):
                figures = bench.run(side, Job(row.spec(seed), model, *files, evaluated=options.rows_of_data is None))
                say(f"  seed {seed}, {side.value}: {figures['seconds']:.1f} s, {figures['peak_bytes'] / 1e6:.0f} MB, {figures['after']}")
                pair[side.value] = figures
            check(pair)
            pairs.append(pair)
    some = {"only_rows": options.rows_of_data} if options.rows_of_data else {}
    return {**some, "pairs": pairs, "versions": pairs[0][Side.DEFAULT_PEER.value]["versions"], "needed_flops": flops_of(row, model, pairs[0])}


def flops_of(row: Row, model: Path, pair: dict[str, Any]) -> float:
    config = json.loads((model / "config.json").read_text())
    return needed_flops(config, row.tuning, pair[Side.DEFAULT_PEER.value]["workload"])


def run_first_step(options: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    pairs = []
    for number in range(options.pairs):
        seed = FIRST_SEED + number
        with tempfile.TemporaryDirectory(prefix="taper-bench-") as name:
            commands = first_step_commands(options.fixtures, bench, seed, Path(name))
            pair: dict[str, Any] = {"seed": seed}
            for side in list(commands)[:: 1 if number % 2 == 0 else -1]:
                output, _ = bench.measured([sys.executable, str(HERE / "first_step.py"), *commands[side]])
                pair[side] = json.loads(output)["seconds"]
        say(f"  {pair}")
        pairs.append(pair)
    return {"pairs": pairs, "versions": {}}


def first_step_commands(fixtures: Path, bench: Bench, seed: int, work: Path) -> dict[str, list[str]]:
    """What `first_step.py` measures: the peer, a running server, and taper as a process of its own. None evaluates before it trains."""
    spec, out = work / "spec.json", work / "out"
    spec.write_text(json.dumps(ROWS["minilm-lora"].spec(seed)))
    model, train = fixtures / "models" / MINILM, fixtures / "data" / f"{REVIEWS.name}_train.jsonl"
    settings = [str(spec), "--model", str(model), "--data", str(train), "--threads", str(bench.threads)]
    return {
        "peer": ["process", sys.executable, str(HERE / "peer.py"), *settings, "--no-evaluation"],
        "server": ["server", str(spec), str(bench.taper), str(bench.threads), str(model), str(train)],
        "process": ["process", str(bench.taper), "train", *settings, "--out", str(out)],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*ROWS, FIRST_STEP]
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which to run, of {', '.join(names)} [default: all]")
    parser.add_argument("--pairs", type=int, default=3, help="how often each row is run, each time with another seed [default: 3]")
    parser.add_argument("--only-rows", type=int, metavar="N", dest="rows_of_data", help="trains on the first N rows; the peer then measures no quality")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side [default: 2]")
    parser.add_argument("--under", type=shlex.split, default=[], metavar="CMD", help="runs each measured process under CMD, such as 'taskset -c 0,1'")
    parser.add_argument("--quality", action="store_true", help="only what is learned, by the default peer and taper: may run on a busy machine")
    parser.add_argument("--table", action="store_true", help="runs nothing, prints what has been measured")
    for name in ("--taper", "--fixtures", "--results"):
        parser.add_argument(name, type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.rows) - set(names)
    if unknown:
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    options.rows = options.rows or (list(ROWS) if options.quality else names)
    return options


def measure(options: argparse.Namespace) -> None:
    bench = Bench(options.taper, options.threads, options.under)
    machine = describe(options.threads) | ({} if options.quality else {"peak": peaks(options.under, options.threads)})
    for name in options.rows:
        say(f"{name}:")
        result = run_first_step(options, bench) if name == FIRST_STEP else run_row(ROWS[name], options, bench)
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        whole = {"row": name, "date": date, "machine": machine, **result}
        (kept(options) / f"{name}.json").write_text(json.dumps(whole, indent=1))


def kept(options: argparse.Namespace, *, quality: bool | None = None) -> Path:
    """Where results lie, those about speed apart from those about quality."""
    about_quality = options.quality if quality is None else quality
    folder = options.results / ("quality" if about_quality else "speed")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stored(folder: Path) -> dict[str, Any]:
    paths = [folder / f"{name}.json" for name in (*ROWS, FIRST_STEP)]
    return {path.stem: json.loads(path.read_text()) for path in paths if path.exists()}


def main() -> None:
    options = parse()
    if not options.table:
        measure(options)
    speed, quality = (stored(kept(options, quality=about)) for about in (False, True))
    (options.results / "table.json").write_text(json.dumps({"speed": speed, "quality": quality}, indent=1))
    table = markdown(speed, quality)
    (options.results / "table.md").write_text(table)
    print(table)
    say(f"as Markdown and JSON: {options.results}/table.md, {options.results}/table.json")


if __name__ == "__main__":
    main()
