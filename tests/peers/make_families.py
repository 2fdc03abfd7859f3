"""Writes the golden files of every family, task and method: tiny random models, adapters saved by PEFT, and what transformers and PEFT
compute with them: logits, loss and every gradient. Everything is computed in float64 and stored in float32.

    python make_families.py OUT      # OUT is tests/golden/families

The layout is told in tests/golden/README.md.
"""

import json
import random
import sys
from pathlib import Path

import torch
from families import FAMILIES, PAD, Family, adapted
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

LENGTHS = [1, 12, 5, 9]
LABELS = [0, 2, 1, 2]
Tensors = dict[str, torch.Tensor]


def inputs() -> dict:
    """Token numbers that no family gives a meaning of its own, and every kind of loss mask: from the first token on, only the end, gaps."""
    rng = random.Random(0)
    rows = [[rng.randrange(3, 64) for _ in range(length)] for length in LENGTHS]
    masks = [[1], [0] * 7 + [1] * 5, [1] * 5, [0, 1, 1, 0, 0, 1, 0, 1, 1]]
    return {"input_ids": rows, "labels": LABELS, "loss_mask": masks}


def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


def batch(task: str, data: dict, pad: int) -> Tensors:
    rows, masks = data["input_ids"], data["loss_mask"]
    labels = torch.tensor(data["labels"])
    if task == "CAUSAL_LM":
        labels = padded([[i if on else -100 for i, on in zip(*pair)] for pair in zip(rows, masks)], -100)
    mask = padded([[1] * len(row) for row in rows], 0)
    return {"input_ids": padded(rows, pad), "attention_mask": mask, "labels": labels}


def run(model: torch.nn.Module, task: str, data: dict) -> Tensors:
    """Logits without those of padding and of virtual tokens, and the loss; leaves the gradients in the model."""
    model.double().train()
    pad = PAD if model.config.pad_token_id is None else model.config.pad_token_id
    if task == "SEQ_CLS" and isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        return run_by_row(model, data, pad)
    output = model(**batch(task, data, pad))
    output.loss.backward()
    logits = output.logits.detach()
    if task == "CAUSAL_LM":
        virtual = logits.shape[1] - max(LENGTHS)
        logits = torch.cat([row[virtual : virtual + length] for row, length in zip(logits, LENGTHS)])
    return {"logits": logits, "loss": output.loss.detach().reshape(1)}


def run_by_row(model: torch.nn.Module, data: dict, pad: int) -> Tensors:
    """Without padding: a decoder that is given embeddings takes the last position of the batch for the last token."""
    count = len(LENGTHS)
    rows = [{name: values[i : i + 1] for name, values in data.items()} for i in range(count)]
    outputs = [model(**batch("SEQ_CLS", row, pad)) for row in rows]
    loss = sum(output.loss for output in outputs) / count
    loss.backward()
    return {"logits": torch.cat([output.logits.detach() for output in outputs]), "loss": loss.detach().reshape(1)}


def save_models(family: Family, models: dict, out: Path) -> None:
    """The file that one finds in the wild, and in a second one what a classifier has beside it."""
    classifier = models["SEQ_CLS"]
    whole = models.get("CAUSAL_LM", classifier)
    whole.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    stored = load_file(out / "model.safetensors")
    if family.name == "bert-no-pooler":
        stored = {n.removeprefix("bert."): t for n, t in stored.items() if "pooler" not in n and "classifier" not in n}
        kept = {f"bert.{name}" for name in stored}
        # Older versions of transformers stored this buffer.
        stored["embeddings.position_ids"] = torch.arange(32)[None]
        save_file(stored, out / "model.safetensors", {"format": "pt"})
    else:
        kept = set(stored)
    head = {name: p.detach() for name, p in classifier.named_parameters() if name not in kept}
    if head:
        save_file(head, out / "head.safetensors", {"format": "pt"})
    edit_config(family, out / "config.json")


def edit_config(family: Family, path: Path) -> None:
    config = json.loads(path.read_text())
    if family.name == "bert-no-pooler":
        config["architectures"] = ["BertModel"]
    if family.name == "llama-linear":
        # As transformers wrote it before version 5.
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope["rope_theta"]
        config["rope_scaling"] = {"type": rope["rope_type"], "factor": rope["factor"]}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_adapter(adapter: PeftModel, name: str, out: Path) -> None:
    adapter.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    # PEFT writes the set in an order that differs from run to run.
    config = json.loads((out / "adapter_config.json").read_text()) | {"base_model_name_or_path": name}
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def adapter_gradients(adapter: PeftModel, stored: Tensors) -> Tensors:
    """Gradients by the names in the adapter's file."""
    gradients = {name: p.grad for name, p in adapter.named_parameters() if p.grad is not None}
    found = get_peft_model_state_dict(adapter, state_dict=gradients)
    if adapter.active_peft_config.is_prompt_learning:
        found["prompt_embeddings"] = adapter.prompt_encoder["default"].embedding.weight.grad
    assert found.keys() == stored.keys() and len(found) == len(gradients), found.keys() ^ stored.keys()
    return found


def check(expected: Tensors) -> None:
    for name, tensor in expected.items():
        assert tensor.isfinite().all(), name
        # The bias of the keys moves every score of a query alike, which softmax does not see.
        zero = name.endswith(("key.bias", "k_lin.bias"))
        assert zero or tensor.abs().max() > 1e-6, name


def write(family: Family, out: Path) -> dict[str, list[str]]:
    """Writes one folder and tells the methods by task."""
    out.mkdir(parents=True)
    data = inputs()
    (out / "inputs.json").write_text(json.dumps(data) + "\n")
    models = family.models()
    save_models(family, models, out)
    expected, written = {}, {}
    for task, model in models.items():
        written[task] = ["full", *family.adapters(task)]
        for name, config in family.adapters(task).items():
            adapter = adapted(model, config)
            folder = out / f"{task.lower()}-{name}"
            save_adapter(adapter, family.name, folder)
            results = run(adapter, task, data)
            gradients = adapter_gradients(adapter, load_file(folder / "adapter_model.safetensors"))
            results |= {f"grad.{n}": g for n, g in gradients.items()}
            expected |= {f"{task.lower()}.{name}.{n}": t for n, t in results.items()}
        results = run(model, task, data)
        results |= {f"grad.{n}": p.grad for n, p in model.named_parameters()}
        expected |= {f"{task.lower()}.full.{n}": t for n, t in results.items()}
    check(expected)
    save_file({name: t.float().contiguous() for name, t in expected.items()}, out / "expected.safetensors")
    return written


def main(out: Path) -> None:
    for family in FAMILIES:
        for task, methods in write(family, out / family.name).items():
            print(f"{family.name:15} {task:10} {' '.join(methods)}")
    print(f"{sum(f.stat().st_size for f in out.rglob('*') if f.is_file()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
