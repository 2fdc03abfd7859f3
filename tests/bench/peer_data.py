"""Rows made tokens as a user of transformers makes them, to the same tokens as taper makes."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

IGNORED = -100
Example = dict[str, Any]


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def class_names(rows: list[dict[str, Any]]) -> list[str]:
    """The classes of labelled rows, sorted; empty for texts to be continued."""
    return sorted({str(row["label"]) for row in rows if "label" in row})


def encode(rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, classes: list[str], max_length: int) -> list[Example]:
    if classes:
        return [labelled(row, tokenizer, classes, max_length) for row in rows]
    if "completion" in rows[0]:
        return [completed(row, tokenizer, max_length) for row in rows]
    return blocks(rows, tokenizer, max_length)


def labelled(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, classes: list[str], max_length: int) -> Example:
    ids = tokenizer(row["text"], truncation=True, max_length=max_length, padding=False)["input_ids"]
    return {"input_ids": ids, "labels": classes.index(str(row["label"]))}


def completed(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Example:
    """Prompt and completion are one text; the loss covers the completion, with a token that spans the border, and the end token."""
    encoded = tokenizer(row["prompt"] + row["completion"], return_offsets_mapping=True)
    ids = [*encoded["input_ids"], tokenizer.eos_token_id]
    border = len(row["prompt"])
    given = next((i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > border), len(ids) - 1)
    labels = [IGNORED] * given + ids[given:]
    return {"input_ids": ids[:max_length], "labels": labels[:max_length]}


def blocks(rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, length: int) -> list[Example]:
    """All texts, each with the end token, one after the other, cut into blocks; what does not fill a block is dropped."""
    ids = [token for row in rows for token in [*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]]
    cut = [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]
    return [{"input_ids": block, "labels": block} for block in cut]


class Collator:
    """Pads a batch to its longest row, as transformers' own collators do, and counts what it has seen."""

    def __init__(self, pad_token: int) -> None:
        self.pad_token = pad_token
        self.tokens = 0
        self.padded_tokens = 0

    def __call__(self, batch: list[Example]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in batch)
        self.tokens += sum(len(row["input_ids"]) for row in batch)
        self.padded_tokens += width * len(batch)
        padded = {"input_ids": self.pad_token, "labels": IGNORED, "attention_mask": 0}
        rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in batch]
        return {name: torch.tensor([fill(row[name], width, value) for row in rows]) for name, value in padded.items()}


def fill(values: list[int] | int, width: int, value: int) -> list[int] | int:
    """A class stays as it is; a list grows to the width."""
    return values if isinstance(values, int) else values + [value] * (width - len(values))
