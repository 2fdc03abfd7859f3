"""Adapters that taper writes, loaded by older versions of PEFT.

    python peft_versions.py make TAPER OUT    # with the peers' own Python: trains into OUT, an empty folder
    python peft_versions.py check OUT         # with the Python that has the version: loads everything and compares

What is compared is what check_adapter.py compares: the logits of classifiers, the losses of language models, row by row.
"""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

FAMILIES = ["bert", "gpt2", "llama"]
LORA = {"type": "lora", "r": 2, "lora_alpha": 8}
PROMPT = {"type": "prompt_tuning", "num_virtual_tokens": 5}
TUNINGS = {
    "lora": LORA,
    "lora-all-linear": LORA | {"target_modules": "all-linear"},
    "lora-rslora": LORA | {"r": 4, "use_rslora": True},
    "prompt": PROMPT,
    "prompt-text": PROMPT | {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "w7 w8"},
}
# By family, since the layers have other names.
PATTERNS = {
    "bert": {"rank_pattern": {"query": 4}, "alpha_pattern": {"value": 3}},
    "gpt2": {"rank_pattern": {"h.1.attn.c_attn": 4}},
    "llama": {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 2.5}, "use_rslora": True, "layers_to_transform": [1]},
}


def make(taper: str, out: Path) -> None:
    from families import FAMILIES as ALL
    from live import TRAINING, save_tokenizer, write_rows
    from make_families import save_models

    for family in (f for f in ALL if f.name in FAMILIES):
        folder = out / family.name
        save_models(family, family.models(), folder / "model")
        (folder / "model" / "head.safetensors").unlink(missing_ok=True)
        save_tokenizer(family, folder / "model")
        for task in family.tasks:
            train, valid = folder / f"{task.lower()}-train.jsonl", folder / f"{task.lower()}-valid.jsonl"
            write_rows(train, task, 60)
            write_rows(valid, task, 20)
            for name, tuning in (TUNINGS | {"lora-patterns": LORA | PATTERNS[family.name]}).items():
                spec = folder / f"{task.lower()}-{name}.json"
                spec.write_text(json.dumps({"tuning": tuning | {"task_type": task}, "training": TRAINING | {"learning_rate": 1e-2}}))
                command = [taper, "train", spec, "--model", folder / "model", "--data", train, "--validation", valid]
                done = subprocess.run([*command, "--out", folder / f"{task.lower()}-{name}"], capture_output=True, text=True)
                assert done.returncode == 0, done.stderr[-2000:]


def check(out: Path) -> None:
    import transformers
    from check_adapter import compare, rows_of

    transformers.logging.set_verbosity_error()
    told, failed = f"PEFT {version('peft'):7} transformers {version('transformers'):7}", []
    results = sorted(path.parent for path in out.glob("*/*/adapter"))
    if version("peft").startswith("0.13."):
        # It makes and loads no prompt of a classifier, not even its own: its `add_adapter` misses an argument that its caller gives.
        results = [path for path in results if not path.name.startswith("seq_cls-prompt")]
    assert results, f"no adapters in {out}"
    for result in results:
        family, task = result.parent, result.name.split("-")[0]
        title = f"{told} {family.name:6} {result.name:26}"
        try:
            rows = rows_of(family / f"{task}-valid.jsonl")
            print(title, compare(family / "model", result / "adapter", rows_of(result / "eval_predictions.jsonl"), rows))
        except Exception as error:  # every adapter is tried, whatever became of the one before
            failed.append(title)
            print(title, f"FAILED: {type(error).__name__}: {error}")
    print(f"{told} {len(results) - len(failed)} of {len(results)} adapters agree")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], Path(sys.argv[3]))
    else:
        check(Path(sys.argv[2]))
