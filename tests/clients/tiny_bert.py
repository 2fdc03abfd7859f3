"""Writes a tiny random BERT in Hugging Face layout, by hand: no torch, no tokenizers, two kilobytes of words."""

import json
import random
import struct
from array import array
from pathlib import Path

HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 2, 2, 64, 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD = ["good", "great", "fine", "superb", "lovely", "moving"]
BAD = ["bad", "awful", "dull", "poor", "boring", "weak"]
OTHER = ["the", "a", "film", "plot", "actor", "scene", "is", "was", "and", "very"]
WORDS = SPECIAL + GOOD + BAD + OTHER


def reviews(count: int, seed: int = 1) -> list[dict]:
    """Short reviews whose words tell the label, half of them good."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        words = rng.choices(OTHER, k=rng.randrange(2, 9)) + rng.choices(GOOD if i % 2 else BAD, k=2)
        rng.shuffle(words)
        rows.append({"text": " ".join(words), "label": "good" if i % 2 else "bad"})
    return rows


def jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(folder: Path, seed: int = 7) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config()))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))
    (folder / "model.safetensors").write_bytes(safetensors(shapes(), random.Random(seed)))


def config() -> dict:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(WORDS),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    }


def tokenizer() -> dict:
    ids = {word: i for i, word in enumerate(WORDS)}
    special = lambda word: {"SpecialToken": {"id": word, "type_id": 0}}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[word], "content": word, **flags} for word in SPECIAL],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
            "pair": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]"), {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {word: {"id": word, "ids": [ids[word]], "tokens": [word]} for word in ["[CLS]", "[SEP]"]},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


def shapes() -> dict[str, list[int]]:
    linear = lambda name, out, inner: {f"{name}.weight": [out, inner], f"{name}.bias": [out]}
    norm = lambda name: {f"{name}.weight": [HIDDEN], f"{name}.bias": [HIDDEN]}
    tensors = {
        "embeddings.word_embeddings.weight": [len(WORDS), HIDDEN],
        "embeddings.position_embeddings.weight": [POSITIONS, HIDDEN],
        "embeddings.token_type_embeddings.weight": [2, HIDDEN],
        **norm("embeddings.LayerNorm"),
        **linear("pooler.dense", HIDDEN, HIDDEN),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for name in ["query", "key", "value"]:
            tensors |= linear(f"{at}.attention.self.{name}", HIDDEN, HIDDEN)
        tensors |= linear(f"{at}.attention.output.dense", HIDDEN, HIDDEN)
        tensors |= norm(f"{at}.attention.output.LayerNorm")
        tensors |= linear(f"{at}.intermediate.dense", INTERMEDIATE, HIDDEN)
        tensors |= linear(f"{at}.output.dense", HIDDEN, INTERMEDIATE)
        tensors |= norm(f"{at}.output.LayerNorm")
    return tensors


def safetensors(tensors: dict[str, list[int]], rng: random.Random) -> bytes:
    header, data = {"__metadata__": {"format": "pt"}}, bytearray()
    for name, shape in tensors.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        if name.endswith("LayerNorm.weight"):
            values = array("f", [1.0] * count)
        elif name.endswith(".bias"):
            values = array("f", [0.0] * count)
        else:
            values = array("f", (rng.gauss(0.0, 0.15) for _ in range(count)))
        begin = len(data)
        data += values.tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)
