"""The stored results as Markdown."""

from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from rows import FIRST_STEP, FIRST_STEP_TARGET, ROWS, Row
from sides import Side

Results = dict[str, Any]


@dataclass(frozen=True)
class Ratio:
    """A ratio of taper to the peer, the median over the pairs, and what it is held against."""

    value: float | None
    target: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        if self.target is None:
            return f"{self.value:.2f}"
        verdict = "held" if self.value <= self.target else "**missed**"
        return f"{self.value:.2f} (≤ {self.target:g}, {verdict})"


def middle(pairs: list[dict[str, Any]], side: Side, figure: str) -> float | None:
    values = [pair[side.value][figure] for pair in pairs if side.value in pair]
    return median(values) if values else None


def ratio(pairs: list[dict[str, Any]], peer: Side, figure: str) -> float | None:
    """Divided within each pair, so that what changes the machine between pairs changes nothing."""
    values = [pair[Side.TAPER.value][figure] / pair[peer.value][figure] for pair in pairs if peer.value in pair]
    return median(values) if values else None


def ratios(row: Row, pairs: list[dict[str, Any]]) -> tuple[Ratio, Ratio, Ratio]:
    """Time to the default and to the tuned peer, memory to the default peer."""
    target = row.target
    aims = (target.default, target.tuned, target.memory) if target else (None, None, None)
    values = (ratio(pairs, Side.DEFAULT_PEER, "seconds"), ratio(pairs, Side.TUNED_PEER, "seconds"), ratio(pairs, Side.DEFAULT_PEER, "peak_bytes"))
    default, tuned, memory = (Ratio(value, aim) for value, aim in zip(values, aims, strict=True))
    return default, tuned, memory


def share(result: Results) -> float:
    """The part of taper's time that the needed products would take at the speed of its fastest one."""
    return result["needed_flops"] / result["machine"]["peak"]["gemm"] / middle(result["pairs"], Side.TAPER, "seconds")


def title(row: Row, result: Results) -> str:
    """A row trained on only a part of its data says so: its figures stand beside none of the whole."""
    rows = result.get("only_rows")
    return f"{row.title}, first {rows} rows" if rows else row.title


def speed(results: dict[str, Results]) -> str:
    lines = [
        "| work | time / default peer | time / tuned peer | peak memory / default peer | needed products at peak |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in ROWS.items():
        if row.target and name in results:
            default, tuned, memory = ratios(row, results[name]["pairs"])
            tuned = tuned if row.tuned_peer else "the same"
            lines.append(f"| {title(row, results[name])} | {default} | {tuned} | {memory} | {share(results[name]):.0%} |")
    if FIRST_STEP in results:
        lines.append(f"| submit to first step, MiniLM-L6 (peer: process start to first step) | {first_step(results)} | | | |")
    return "\n".join(lines)


def first_step(results: dict[str, Results]) -> Ratio:
    pairs = results[FIRST_STEP]["pairs"]
    return Ratio(median(pair["server"] / pair["peer"] for pair in pairs), FIRST_STEP_TARGET)


def figures(results: dict[str, Results]) -> str:
    lines = [
        "| row | side | steps | seconds | tokens/s | peak memory (of it CUDA libraries), MB | trained parameters |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in ROWS:
        pairs = results.get(name, {}).get("pairs", [])
        for side in Side:
            seconds = middle(pairs, side, "seconds")
            if seconds is None:
                continue
            rate = middle(pairs, side, "tokens") / seconds
            peak, trained = middle(pairs, side, "peak_bytes") / 1e6, middle(pairs, side, "trainable")
            unused = "" if side is Side.TAPER else f" ({middle(pairs, side, 'cuda_bytes') / 1e6:,.0f})"
            steps = pairs[0][side.value]["steps"]
            part = f", first {rows} rows" if (rows := results[name].get("only_rows")) else ""
            lines.append(f"| {name}{part} | {side.value} | {steps} | {seconds:.1f} | {rate:,.0f} | {peak:,.0f}{unused} | {trained:,.0f} |")
    if FIRST_STEP in results:
        names = {"peer": "peer, process", "server": "taper, running server", "process": "taper train, process"}
        for key, side_title in names.items():
            seconds = median(pair[key] for pair in results[FIRST_STEP]["pairs"])
            lines.append(f"| {FIRST_STEP} | {side_title} | 1 | {seconds:.2f} | | | |")
    return "\n".join(lines)


def quality(results: dict[str, Results]) -> str:
    lines = [
        "| work | figure | peer | taper | difference | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in ROWS.items():
        pairs = results.get(name, {}).get("pairs", [])
        if pairs:
            lines.append(f"| {title(row, results[name])} | {' | '.join(quality_cells(pairs))} |")
    return "\n".join(lines)


def quality_cells(pairs: list[dict[str, Any]]) -> list[str]:
    """Means over the seeds: accuracies in per cent, losses before → after."""
    figure = "accuracy" if "accuracy" in pairs[0][Side.TAPER.value]["after"] else "loss"

    def mean(side: Side, when: str) -> float:
        return fmean(pair[side.value][when][figure] for pair in pairs)

    def cell(side: Side) -> str:
        after = mean(side, "after")
        return f"{after:.1%}" if figure == "accuracy" else f"{mean(side, 'before'):.4f} → {after:.4f}"

    theirs, ours = mean(Side.DEFAULT_PEER, "after"), mean(Side.TAPER, "after")
    difference = f"{100 * (ours - theirs):+.1f} points" if figure == "accuracy" else f"{ours / theirs - 1:+.2%}"
    return [figure, cell(Side.DEFAULT_PEER), cell(Side.TAPER), difference, str(len(pairs))]


def circumstances(results: dict[str, Results]) -> str:
    """What the rows were measured on, once for all rows that have it in common."""
    groups: dict[str, list[str]] = {}
    for name, result in results.items():
        groups.setdefault(describe(result), []).append(name)
    return "\n".join(f"- {', '.join(names)}: {text}" for text, names in groups.items())


def describe(result: Results) -> str:
    machine = result["machine"]
    programs = [f"taper at {machine['commit']}", *(f"{name} {version}" for name, version in result["versions"].items())]
    parts = [
        f"{machine['cpu']} ({', '.join(machine['instructions'])}), {machine['cores']} cores, {machine['memory_gib']} GiB",
        f"{machine['threads']} threads on each side", ", ".join([*programs, f"Python {machine['python']}"]),
    ]  # fmt: skip
    if peak := machine.get("peak"):
        parts.append(f"f32 peak {peak['registers'] / 1e9:.0f} GFLOP/s out of registers, {peak['gemm'] / 1e9:.0f} in the fastest product")
    seeds = ", ".join(str(pair["seed"]) for pair in result["pairs"])
    return "; ".join([*parts, f"seeds {seeds}", result["date"][:10]])


def markdown(speed_: dict[str, Results], quality_: dict[str, Results]) -> str:
    parts = {
        "Speed and memory": speed(speed_), "Medians": figures(speed_), "Measured on": circumstances(speed_),
        "Quality": quality(quality_), "Quality was measured on": circumstances(quality_),
    }  # fmt: skip
    return "\n\n".join(f"## {heading}\n\n{text}" for heading, text in parts.items()) + "\n"
