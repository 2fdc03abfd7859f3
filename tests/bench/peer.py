"""What a user would run instead of taper: transformers' Trainer and PEFT on the CPU, steered by the same specification.

    peer.py SPEC.json --model DIR --data TRAIN.jsonl --validation TEST.jsonl [--group-by-length] [--threads N]

SPEC.json is what `taper train` takes, of which this program knows what the benchmark uses. One JSON object of figures is the last line
on stdout. `--group-by-length` is the tuned peer, what an expert would run: batches of rows of about the same length, less padding.
"""

import argparse
import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

from peer_data import IGNORED, Collator, Example, class_names, encode, read


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cuda_bytes() -> int:
    """What of this process's memory belongs to libraries that a CPU has no use for, but that torch's usual build on Linux brings along."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = bool(re.search(r"/.*(nvidia|cuda)", line))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


class Clock(transformers.TrainerCallback):
    """Time from the first batch to the end of the last step, without loading, tokenizing and evaluations."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = self.ended = time.perf_counter()

    def on_step_end(self, _: TrainingArguments, state: transformers.TrainerState, *__: Any, **___: Any) -> None:
        self.ended = time.perf_counter()
        if state.global_step == 1:
            print("first step", file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def tuned(model: torch.nn.Module, tuning: dict[str, Any], task: TaskType) -> torch.nn.Module:
    settings = {name: value for name, value in tuning.items() if name not in ("type", "layer_decay")}
    match tuning["type"]:
        case "lora":
            return get_peft_model(model, LoraConfig(task_type=task, **settings))
        case "prompt_tuning":
            return get_peft_model(model, PromptTuningConfig(task_type=task, **settings))
        case _:
            return model


def layerwise_groups(model: torch.nn.Module, rate: float, decay: float, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters by rate: the head has the full rate, each layer `decay` times that of the one above it, the embeddings the lowest.

    Biases and norms have no weight decay, as in the Trainer.
    """
    layers = model.config.num_hidden_layers
    bare = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)
    groups: dict[tuple[int, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        layer = re.search(r"layers?\.(\d+)\.", name)
        height = int(layer.group(1)) + 1 if layer else (0 if "embed" in name else layers + 1)
        groups.setdefault((height, 0.0 if bare.search(name) else weight_decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate * decay ** (layers + 1 - height), "weight_decay": own}
        for (height, own), parameters in groups.items()
    ]


def arguments(training: dict[str, Any], group_by_length: bool, out: str) -> TrainingArguments:
    settings = {name: value for name, value in training.items() if name != "max_length"}
    grouped = {"train_sampling_strategy": "group_by_length"} if group_by_length else {}
    return TrainingArguments(
        out, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, remove_unused_columns=False, **settings, **grouped
    )


def passes(rows: list[Example], size: int, collate: Collator) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of the size of training's, so that none needs more memory than those; rows of about the same length, for speed."""
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))
    return (collate(rows[start : start + size]) for start in range(0, len(rows), size))


@torch.no_grad()
def held_out(model: torch.nn.Module, rows: list[Example], pad_token: int, spec: dict[str, Any]) -> dict[str, float]:
    """Accuracy, or the mean loss over all tokens that it covers and their number, whatever the batches."""
    model.eval()
    batches = passes(rows, spec["training"]["per_device_train_batch_size"], Collator(pad_token))
    if isinstance(rows[0]["labels"], int):
        right = sum(int((model(**batch).logits.argmax(-1) == batch["labels"]).sum()) for batch in batches)
        return {"accuracy": right / len(rows)}
    # Nothing predicts a first token but virtual tokens before it.
    first = 0 if spec["tuning"]["type"] == "prompt_tuning" else 1
    total, tokens = 0.0, 0
    for batch in batches:
        count = int((batch["labels"][:, first:] != IGNORED).sum())
        total += float(model(**batch).loss) * count
        tokens += count
    return {"loss": total / tokens, "tokens": tokens}


def load(folder: Path, classes: list[str]) -> torch.nn.Module:
    if classes:
        return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(classes), dtype=torch.float32)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def train(options: argparse.Namespace, spec: dict[str, Any]) -> dict[str, Any]:
    """Trains and measures; the names of the figures are those of `sides.Figures`."""
    training, tuning = spec["training"], spec["tuning"]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    data = read(options.data)
    classes = class_names(data)
    rows = encode(data, tokenizer, classes, training["max_length"])
    held = encode(read(options.validation), tokenizer, classes, training["max_length"]) if options.validation else []
    task = TaskType.SEQ_CLS if classes else TaskType.CAUSAL_LM
    model = tuned(load(options.model, classes), tuning, task)
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    before = {} if options.no_evaluation or classes else held_out(model, held, tokenizer.pad_token_id, spec)
    collate, clock, optimizer = Collator(tokenizer.pad_token_id), Clock(), None
    if tuning["type"] == "layerwise":
        groups = layerwise_groups(model, training["learning_rate"], tuning["layer_decay"], training["weight_decay"])
        optimizer = torch.optim.AdamW(groups, lr=training["learning_rate"])
    with tempfile.TemporaryDirectory() as out:
        args = arguments(training, options.group_by_length, out)
        trainer = Trainer(model, args, collate, rows, optimizers=(optimizer, None), callbacks=[clock])
        steps = trainer.train().global_step
    memory = {"peak_bytes": peak_bytes(), "cuda_bytes": cuda_bytes()}
    after = {} if options.no_evaluation else held_out(model, held, tokenizer.pad_token_id, spec)
    return {
        "seconds": clock.seconds, "steps": steps, "tokens": collate.tokens, "padded_tokens": collate.padded_tokens,
        **memory, "trainable": trainable, "before": before, "after": after, "workload": workload(rows, classes),
    }  # fmt: skip


def workload(rows: list[Example], classes: list[str]) -> dict[str, int]:
    """What one pass over the data multiplies, for `flops.py`: sums over the rows."""
    lengths = [len(row["input_ids"]) for row in rows]
    answers = (1 if isinstance(row["labels"], int) else sum(label != IGNORED for label in row["labels"][1:]) for row in rows)
    return {"classes": len(classes), "rows": len(rows), "tokens": sum(lengths), "squares": sum(n * n for n in lengths), "answers": sum(answers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    for name in ("--model", "--data"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--validation", type=Path, help="what is learned is measured on it, unless --no-evaluation")
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--no-evaluation", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if not (options.validation or options.no_evaluation):
        parser.error("--validation is missing")
    torch.set_num_threads(options.threads)
    spec = json.loads(options.spec.read_text())
    transformers.set_seed(spec["training"]["seed"])
    transformers.logging.set_verbosity_error()
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    print(json.dumps(train(options, spec) | {"versions": versions}))


if __name__ == "__main__":
    main()
