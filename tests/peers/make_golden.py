"""Writes the golden files that the engine's tests compare with: a tiny random BERT classifier, its logits, its loss and every gradient,
with and without a LoRA adapter made by PEFT. Everything is computed in float64 and stored in float32.

    python make_golden.py OUT      # OUT is tests/golden/bert-seqcls
"""

import json
import random
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

LENGTHS = [1, 12, 5, 9, 3]
LABELS = [0, 2, 1, 2, 0]


def randomise(module: torch.nn.Module, scale: float) -> None:
    """Moves every parameter off its initial value, so that no bias is 0 and no norm weight is 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)


def batch(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        "labels": torch.tensor(LABELS),
    }


def run(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [rows, classes] and the mean loss; leaves the gradients in the model."""
    model.double().train()
    output = model(**inputs)
    output.loss.backward()
    return output.logits.detach(), output.loss.detach()


def main(out: Path) -> None:
    torch.manual_seed(0)
    rng = random.Random(0)
    rows = [[rng.randrange(1, 100) for _ in range(length)] for length in LENGTHS]
    (out / "lora").mkdir(parents=True, exist_ok=True)
    (out / "inputs.json").write_text(json.dumps({"input_ids": rows, "labels": LABELS}) + "\n")

    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=3,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=0.0,
    )
    model = BertForSequenceClassification(config)
    randomise(model, 0.05)
    model.save_pretrained(out)
    logits, loss = run(model, batch(rows))
    expected = {"logits": logits, "loss": loss.reshape(1)}
    expected |= {f"grad.{name}": p.grad for name, p in model.named_parameters()}

    model.float().zero_grad()
    lora = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["query", "value"])
    peft_model = get_peft_model(model, lora)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name or "classifier.modules_to_save" in name:
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    peft_model.peft_config["default"].base_model_name_or_path = "bert-seqcls"
    peft_model.save_pretrained(out / "lora")
    (out / "lora" / "README.md").unlink(missing_ok=True)
    logits, loss = run(peft_model, batch(rows))
    expected |= {"lora.logits": logits, "lora.loss": loss.reshape(1)}
    gradients = {name: p.grad for name, p in peft_model.named_parameters() if p.grad is not None}
    in_file = get_peft_model_state_dict(peft_model, state_dict=gradients)
    assert len(in_file) == len(gradients) == 10, sorted(gradients)
    expected |= {f"lora.grad.{name}": grad for name, grad in in_file.items()}
    save_file({name: t.float().contiguous() for name, t in expected.items()}, out / "expected.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
