"""The rows of the table: what is trained, with which settings, and what has to be reached."""

from dataclasses import dataclass
from typing import Any

MINILM, SMOLLM = "all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"
WARMUP, WEIGHT_DECAY = 0.06, 0.01


@dataclass(frozen=True)
class Data:
    """Fixtures `NAME_train.jsonl` and `NAME_test.jsonl`, or their first rows; both were shuffled when they were made."""

    name: str
    max_length: int
    batch: int
    train_rows: int | None = None
    test_rows: int | None = None


@dataclass(frozen=True)
class Target:
    """The greatest ratios of taper to the peer that count as reached. Memory is held against the default peer."""

    default: float
    tuned: float | None
    memory: float | None


@dataclass(frozen=True)
class Row:
    title: str
    model: str
    data: Data
    tuning: dict[str, Any]
    learning_rate: float
    # None = measured for the sake of quality alone.
    target: Target | None = None
    # Blocks of one length leave nothing to group.
    tuned_peer: bool = True

    def spec(self, seed: int) -> dict[str, Any]:
        """What both sides are told."""
        training = {
            "num_train_epochs": 1, "per_device_train_batch_size": self.data.batch, "max_length": self.data.max_length,
            "learning_rate": self.learning_rate, "warmup_steps": WARMUP, "weight_decay": WEIGHT_DECAY, "seed": seed,
        }  # fmt: skip
        return {"tuning": self.tuning, "training": training}


REVIEWS = Data("rotten_tomatoes", max_length=128, batch=16)
IMDB = Data("imdb", max_length=256, batch=16, train_rows=2000, test_rows=1000)
CHATTERBOT = Data("chatterbot", max_length=128, batch=8)
SHAKESPEARE = Data("shakespeare", max_length=256, batch=2, train_rows=64, test_rows=40)

FULL = {"type": "full"}
LAYERWISE = {"type": "layerwise", "layer_decay": 0.9}
PROMPT = {"type": "prompt_tuning", "num_virtual_tokens": 10}


def lora(*modules: str) -> dict[str, Any]:
    return {"type": "lora", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": list(modules)}


ENCODER_LORA, DECODER_LORA = lora("query", "value"), lora("q_proj", "v_proj")

ROWS: dict[str, Row] = {
    "minilm-lora": Row("LoRA, MiniLM-L6, rotten_tomatoes, batch 16", MINILM, REVIEWS, ENCODER_LORA, 1e-3, Target(0.33, 0.6, 0.35)),
    "minilm-full": Row("full, MiniLM-L6, rotten_tomatoes, batch 16", MINILM, REVIEWS, FULL, 5e-5, Target(0.4, 0.65, 0.5)),
    "minilm-prompt": Row("prompt tuning, MiniLM-L6, rotten_tomatoes", MINILM, REVIEWS, PROMPT, 1e-2, Target(0.36, 0.6, 0.35)),
    "minilm-layerwise": Row(
        "layerwise (decay 0.9), MiniLM-L6, rotten_tomatoes", MINILM, REVIEWS, LAYERWISE, 1e-4, Target(0.4, 0.6, 0.5)
    ),
    "imdb-lora": Row("LoRA, MiniLM-L6, IMDB at 256 tokens", MINILM, IMDB, ENCODER_LORA, 1e-3, Target(0.5, 0.6, 0.4)),
    "chatterbot-lora": Row(
        "LoRA, SmolLM2-135M, chatterbot (short rows), batch 8", SMOLLM, CHATTERBOT, DECODER_LORA, 2e-4, Target(0.25, 0.45, 0.35)
    ),
    "chatterbot-prompt": Row("prompt tuning, SmolLM2-135M, chatterbot, batch 8", SMOLLM, CHATTERBOT, PROMPT, 1e-2),
    "chatterbot-full": Row("full, SmolLM2-135M, chatterbot, batch 8", SMOLLM, CHATTERBOT, FULL, 5e-5),
    "shakespeare-lora": Row(
        "LoRA, SmolLM2-135M, shakespeare packed to 256, batch 2", SMOLLM, SHAKESPEARE, DECODER_LORA, 2e-4,
        Target(0.75, None, 0.4), tuned_peer=False,
    ),
    "shakespeare-full": Row(
        "full, SmolLM2-135M, shakespeare packed to 256, batch 2", SMOLLM, SHAKESPEARE, FULL, 5e-5,
        Target(0.8, None, 0.6), tuned_peer=False,
    ),
}  # fmt: skip

# The row that no training time belongs to: how soon a user sees the first step.
FIRST_STEP = "first-step"
FIRST_STEP_TARGET = 0.15
