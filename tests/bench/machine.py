"""What the figures were measured on."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The largest products of MiniLM's rows; what is reached here is what a row could at best reach.
PRODUCT = "2000x384->1536"
# The best of several tries is the machine's own speed; a slower one had company.
TRIES = 3


def describe(threads: int) -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", cpu)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if re.search(rf"\b{flag}\b", cpu)]
    return {
        "cpu": name.group(1) if name else platform.machine(), "instructions": wide, "cores": os.cpu_count(), "threads": threads,
        "memory_gib": round(memory / 2**30), "python": platform.python_version(), "commit": commit.stdout.strip(),
    }  # fmt: skip


def peaks(under: list[str], threads: int) -> dict[str, float]:
    """Operations per second: of multiply-adds out of registers, and of taper's fastest product; by the kernels' own benchmark."""
    command = ["cargo", "bench", "--quiet", "--package", "taper-kernels", "--bench", "kernels", "--", PRODUCT]
    environment = os.environ | {"TAPER_BENCH_THREADS": str(threads)}
    # Built first, so that the measurement has the machine for itself.
    subprocess.run([*command[:-2], "--no-run"], cwd=ROOT, check=True, env=environment)
    tries = [
        subprocess.run([*under, *command], cwd=ROOT, check=True, env=environment, capture_output=True, text=True).stdout
        for _ in range(TRIES)
    ]
    output = "".join(tries)
    registers, products = re.findall(r"peak (\d+) GFLOPS", output), re.findall(r"(\d+) GFLOPS +\d+ %", output)
    if not (registers and products):
        raise SystemExit(f"cargo bench has said nothing of a peak:\n{output}")
    return {"registers": max(map(float, registers)) * 1e9, "gemm": max(map(float, products)) * 1e9}
