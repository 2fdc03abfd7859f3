"""Trains every family, task and method with the binary, and lets transformers and PEFT load and compute what has come out.

    python live.py TAPER OUT [FAMILY...]      # TAPER is the binary, OUT an empty folder, FAMILY a name in families.py

OUT/<family>/model is a tiny random model, OUT/<family>/<task>-<method> what taper has made of it. Failed cases are told at the end.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import transformers
from check_adapter import compare, rows_of
from families import FAMILIES, VIRTUAL_TOKENS, Family
from make_families import save_models
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CLASSES = {"w4": "negative", "w5": "neutral", "w6": "positive"}
TRAINING = {"max_steps": 12, "per_device_train_batch_size": 4, "max_length": 24}


def tunings(family: Family, task: str) -> dict[str, dict]:
    """The `tuning` of a job by the name of the case."""
    lora = {"type": "lora", "r": 2, "lora_alpha": 8, "lora_dropout": 0.1}
    loras = {"lora": {"loraplus_lr_ratio": 4}, "lora-all-linear": {"target_modules": "all-linear"}}
    if task == "CAUSAL_LM":
        # `layers_pattern` tells PEFT what taper knows of the family.
        loras |= {name: {k: v for k, v in more.items() if k != "layers_pattern"} for name, more in family.loras.items()}
        if not family.config().tie_word_embeddings:
            loras["lora-head"] = {"modules_to_save": ["lm_head"]}
    prompt = {"type": "prompt_tuning", "num_virtual_tokens": VIRTUAL_TOKENS}
    return {
        "full": {"type": "full"},
        "layerwise": {"type": "layerwise", "layer_decay": 0.8, "freeze_below": 1, "unfreeze_every_steps": 3},
        **{name: lora | more for name, more in loras.items()},
        "prompt": prompt,
        "prompt-text": prompt | {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "w7 w8"},
        "prompt-vocab": prompt | {"prompt_tuning_init": "SAMPLE_VOCAB"},
    }


def rate(tuning: dict) -> float:
    return 1e-3 if tuning["type"] in ("full", "layerwise") else 1e-2


def save_tokenizer(family: Family, out: Path) -> None:
    """A word for each number, the first of which have the meaning that the family's configuration gives them."""
    special = ["<s>", "<pad>", "</s>"] if family.config().pad_token_id == 1 else ["<pad>", "<s>", "</s>"]
    words = [*special, "<unk>", *(f"w{i}" for i in range(4, 64))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if not family.decoder:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[(word, words.index(word)) for word in ("<s>", "</s>")]
        )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(out)


def some_words(rng: random.Random) -> list[str]:
    return [f"w{rng.randrange(7, 64)}" for _ in range(rng.randint(1, 8))]


def row_of(task: str, rng: random.Random) -> dict[str, str]:
    words = some_words(rng)
    if task == "CAUSAL_LM":
        return {"prompt": " ".join(words), "completion": " ".join(reversed(words))}
    mark = rng.choice(list(CLASSES))
    words.insert(rng.randint(0, len(words)), mark)
    return {"text": " ".join(words), "label": CLASSES[mark]}


def write_rows(path: Path, task: str, count: int) -> None:
    rng = random.Random(path.name)
    path.write_text("".join(json.dumps(row_of(task, rng)) + "\n" for _ in range(count)))


def case(taper: str, folder: Path, task: str, name: str, tuning: dict) -> str:
    """Trains and compares; tells what was compared."""
    out = folder / f"{task.lower()}-{name}"
    train, valid, spec = (folder / f"{task.lower()}-{kind}" for kind in ("train.jsonl", "valid.jsonl", f"{name}.json"))
    write_rows(train, task, 60)
    write_rows(valid, task, 20)
    spec.write_text(json.dumps({"tuning": tuning | {"task_type": task}, "training": TRAINING | {"learning_rate": rate(tuning)}}))
    command = [taper, "train", spec, "--model", folder / "model", "--data", train, "--validation", valid, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = out / ("model" if tuning["type"] in ("full", "layerwise") else "adapter")
    return compare(folder / "model", result, rows_of(out / "eval_predictions.jsonl"), rows_of(valid))


def main(taper: str, out: Path, wanted: list[str]) -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    count, failed = 0, []
    for family in (f for f in FAMILIES if not wanted or f.name in wanted):
        folder = out / family.name
        save_models(family, family.models(), folder / "model")
        (folder / "model" / "head.safetensors").unlink(missing_ok=True)
        save_tokenizer(family, folder / "model")
        for task in family.tasks:
            for name, tuning in tunings(family, task).items():
                count += 1
                title = f"{family.name:15} {task:10} {name:16}"
                try:
                    print(title, case(taper, folder, task, name, tuning))
                except Exception as error:  # every case is tried, whatever became of the one before
                    failed.append(title)
                    print(title, f"FAILED: {type(error).__name__}: {error}")
    print(f"{count - len(failed)} of {count} cases agree")
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
