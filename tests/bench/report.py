"""The stored results as Markdown."""

from dataclasses import dataclass
from statistics import median
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


def speed(results: dict[str, Results]) -> str:
    lines = [
        "| work | time / default peer | time / tuned peer | peak memory / default peer | needed products at peak |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in ROWS.items():
        if row.target and name in results:
            default, tuned, memory = ratios(row, results[name]["pairs"])
            tuned = tuned if row.tuned_peer else "the same"
            lines.append(f"| {row.title} | {default} | {tuned} | {memory} | {share(results[name]):.0%} |")
    if FIRST_STEP in results:
        lines.append(f"| submit to first step, MiniLM-L6 (peer: process start to first step) | {first_step(results)} | | | |")
    return "\n".join(lines)


def first_step(results: dict[str, Results]) -> Ratio:
    pairs = results[FIRST_STEP]["pairs"]
    return Ratio(median(pair["server"] / pair["peer"] for pair in pairs), FIRST_STEP_TARGET)


def figures(results: dict[str, Results]) -> str:
    lines = [
        "| row | side | seconds | tokens/s | peak memory, MB | trained parameters |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in ROWS:
        pairs = results.get(name, {}).get("pairs", [])
        for side in Side:
            seconds = middle(pairs, side, "seconds")
            if seconds is None:
                continue
            rate = middle(pairs, side, "tokens") / seconds
            peak, trained = middle(pairs, side, "peak_bytes") / 1e6, middle(pairs, side, "trainable")
            lines.append(f"| {name} | {side.value} | {seconds:.1f} | {rate:,.0f} | {peak:,.0f} | {trained:,.0f} |")
    if FIRST_STEP in results:
        names = {"peer": "peer, process", "server": "taper, running server", "process": "taper train, process"}
        for key, title in names.items():
            seconds = median(pair[key] for pair in results[FIRST_STEP]["pairs"])
            lines.append(f"| {FIRST_STEP} | {title} | {seconds:.2f} | | | |")
    return "\n".join(lines)


def quality(results: dict[str, Results]) -> str:
    lines = [
        "| work | figure | default peer | tuned peer | taper | difference to the default peer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in ROWS.items():
        pairs = results.get(name, {}).get("pairs", [])
        if pairs:
            lines.append(f"| {row.title} | {' | '.join(quality_cells(pairs))} |")
    return "\n".join(lines)


def quality_cells(pairs: list[dict[str, Any]]) -> list[str]:
    """Means over the seeds: accuracies in per cent, losses before → after."""
    measures = {side: [pair[side.value] for pair in pairs if side.value in pair] for side in Side}
    figure = "accuracy" if "accuracy" in pairs[0][Side.TAPER.value]["after"] else "loss"

    def mean(side: Side, when: str) -> float:
        return sum(run[when][figure] for run in measures[side]) / len(measures[side])

    def cell(side: Side) -> str:
        if not measures[side]:
            return "–"
        if figure == "accuracy":
            return f"{mean(side, 'after'):.1%}"
        return f"{mean(side, 'before'):.4f} → {mean(side, 'after'):.4f}"

    ours, theirs = mean(Side.TAPER, "after"), mean(Side.DEFAULT_PEER, "after")
    difference = f"{100 * (ours - theirs):+.1f} points" if figure == "accuracy" else f"{ours / theirs - 1:+.2%}"
    return [figure, *(cell(side) for side in Side), difference]


def circumstances(results: dict[str, Results]) -> str:
    """What the rows were measured on, once for all rows that have it in common."""
    groups: dict[str, list[str]] = {}
    for name, result in results.items():
        groups.setdefault(describe(result), []).append(name)
    return "\n".join(f"- {', '.join(names)}: {text}" for text, names in groups.items())


def describe(result: Results) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    peak = machine["peak"]
    return (
        f"{machine['cpu']} ({', '.join(machine['instructions'])}), {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"{machine['threads']} threads on each side; taper at {machine['commit']}, {versions}, Python {machine['python']}; "
        f"f32 peak {peak['registers'] / 1e9:.0f} GFLOP/s out of registers, {peak['gemm'] / 1e9:.0f} in the fastest product; "
        f"{len(result['pairs'])} pairs, seeds {', '.join(str(pair['seed']) for pair in result['pairs'])}; {result['date']}"
    )


def markdown(results: dict[str, Results]) -> str:
    parts = {
        "Speed and memory": speed(results), "Quality": quality(results), "Medians": figures(results), "Measured on": circumstances(results),
    }  # fmt: skip
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items()) + "\n"
