"""The two sides of a pair: each is one process, run to its end, and what it says of itself."""

import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Side(Enum):
    DEFAULT_PEER = "default peer"
    TUNED_PEER = "tuned peer"
    TAPER = "taper"


@dataclass(frozen=True)
class Job:
    """What a process is to do; the same files and the same specification for all sides."""

    spec: dict[str, Any]
    model: Path
    data: Path
    validation: Path
    # Whether the peer measures what it has learned; taper always does.
    evaluated: bool

    def flags(self) -> list[str]:
        return ["--model", str(self.model), "--data", str(self.data), "--validation", str(self.validation)]


@dataclass(frozen=True)
class Bench:
    """How processes are run: the binary, the threads of each side, and a command to run each process under."""

    taper: Path
    threads: int
    under: list[str]

    def run(self, side: Side, job: Job) -> dict[str, Any]:
        """Trains and returns the figures; their names are the same for all sides."""
        with tempfile.TemporaryDirectory(prefix="taper-bench-") as name:
            work = Path(name)
            spec = work / "spec.json"
            spec.write_text(json.dumps(job.spec))
            if side is Side.TAPER:
                return self._taper(spec, job, work / "out")
            return self._peer(spec, job, grouped=side is Side.TUNED_PEER)

    def _peer(self, spec: Path, job: Job, *, grouped: bool) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "peer.py"), str(spec), *job.flags(), "--threads", str(self.threads)]
        command += ["--group-by-length"] if grouped else []
        command += [] if job.evaluated else ["--no-evaluation"]
        output, _ = self.measured(command)
        return json.loads(output.splitlines()[-1])

    def _taper(self, spec: Path, job: Job, out: Path) -> dict[str, Any]:
        command = [str(self.taper), "train", str(spec), *job.flags(), "--out", str(out), "--threads", str(self.threads)]
        _, peak = self.measured(command)
        written = next(path for path in (out / "adapter", out / "model") if path.is_dir())
        metrics = json.loads((written / "taper_job.json").read_text())["metrics"]
        return {
            "seconds": metrics["train_seconds"], "steps": metrics["step"], "tokens": metrics["trained_tokens"],
            "peak_bytes": peak, "trainable": metrics["trainable_parameters"], **held_out(metrics, out),
        }  # fmt: skip

    def measured(self, command: list[str]) -> tuple[str, int]:
        """Runs a command; its standard output and the most memory that it held, in bytes."""
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            child = subprocess.Popen([*self.under, *command], stdout=output, stderr=errors, env=self.environment())
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                errors.seek(0)
                sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{errors.read()[-4000:]}")
            output.seek(0)
            return output.read(), usage.ru_maxrss * 1024

    def environment(self) -> dict[str, str]:
        return os.environ | {"OMP_NUM_THREADS": str(self.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


def held_out(metrics: dict[str, Any], out: Path) -> dict[str, Any]:
    """Figures of the held-out rows before and after, as the peer gives them."""
    with (out / "metrics.csv").open(newline="") as table:
        first = next(csv.DictReader(table))
    if "valid_accuracy" in metrics:
        return {"before": {"accuracy": float(first["valid_accuracy"])}, "after": {"accuracy": metrics["valid_accuracy"]}}
    rows = [json.loads(line) for line in (out / "eval_predictions.jsonl").read_text().splitlines()]
    tokens = sum(row["tokens"] for row in rows)
    before, after = float(first["valid_loss"]), metrics["valid_loss"]
    return {"before": {"loss": before, "tokens": tokens}, "after": {"loss": after, "tokens": tokens}}
