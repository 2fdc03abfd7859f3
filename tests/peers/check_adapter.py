"""Loads what taper has written in PEFT or transformers and compares the logits, row by row, with taper's own.

    python check_adapter.py BASE_MODEL_DIR RESULT EVAL_PREDICTIONS.jsonl VALIDATION.jsonl

RESULT is a folder or the adapter.zip of a job: a PEFT adapter, or a whole model. A key that is missing or unexpected, on either side, is
an error; so is a logit that differs by more than 1e-4.
"""

import json
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TOLERANCE = 1e-4


def rows_of(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def load_adapter(base: str, adapter: Path, classes: int) -> torch.nn.Module:
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=classes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(model, adapter)
    complaints = [str(w.message) for w in caught if "key" in str(w.message).lower() or "unexpected" in str(w.message).lower()]
    assert not complaints, complaints
    stored = load_file(adapter / "adapter_model.safetensors")
    loaded = get_peft_model_state_dict(model)
    assert stored.keys() == loaded.keys(), stored.keys() ^ loaded.keys()
    for name, tensor in stored.items():
        assert torch.equal(tensor, loaded[name].cpu()), f"{name} was not loaded"
    return model


def load_model(folder: Path) -> torch.nn.Module:
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    complaints = {name: keys for name, keys in report.items() if keys}
    assert not complaints, complaints
    return model


@torch.inference_mode()
def logits_of(model: torch.nn.Module, tokenizer, texts: list[str], max_length: int) -> torch.Tensor:
    model.eval()
    parts = []
    for start in range(0, len(texts), 32):
        batch = tokenizer(texts[start : start + 32], truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        parts.append(model(**batch).logits)
    return torch.cat(parts)


def compare(base: str, folder: Path, predictions: list[dict], validation: list[dict]) -> None:
    about = json.loads((folder / "taper_job.json").read_text())
    names = [about["id2label"][str(i)] for i in range(about["num_labels"])]
    if adapter := (folder / "adapter_config.json").exists():
        model = load_adapter(base, folder, len(names))
    else:
        model = load_model(folder)
        assert [model.config.id2label[i] for i in range(len(names))] == names
    assert [str(row["label"]) for row in validation] == [row["label"] for row in predictions]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    max_length = about["spec"]["training"]["max_length"]
    got = logits_of(model, tokenizer, [row["text"] for row in validation], max_length)
    want = torch.tensor([row["logits"] for row in predictions])
    worst = (got - want).abs().max().item()
    right = sum(names[i] == row["label"] for i, row in zip(got.argmax(-1).tolist(), predictions)) / len(predictions)
    told = about["metrics"]["valid_accuracy"]
    print(f"{'adapter' if adapter else 'model'}: {len(predictions)} rows, largest difference {worst:.2e}, accuracy {right:.4f} (taper: {told:.4f})")
    assert worst <= TOLERANCE, f"the logits differ by {worst}"
    assert abs(right - told) < 1e-9, "the accuracy differs"


def main(base: str, result: str, predictions: str, validation: str) -> None:
    with tempfile.TemporaryDirectory() as unpacked:
        folder = Path(result)
        if folder.is_file():
            with zipfile.ZipFile(folder) as archive:
                archive.extractall(unpacked)
            folder = Path(unpacked)
        compare(base, folder, rows_of(predictions), rows_of(validation))


if __name__ == "__main__":
    main(*sys.argv[1:])
