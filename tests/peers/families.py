"""The families of models that taper is compared on: tiny random models of transformers, and the adapters of PEFT that they get."""

import copy
import zlib
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, get_peft_model

SIZE = {"vocab_size": 64, "num_labels": 3, "initializer_range": 0.2}
PAD = 0
VIRTUAL_TOKENS = 5


def plain(**more: Any) -> dict[str, Any]:
    """Settings of most families; 32 positions."""
    return SIZE | {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
    } | more


def bert(**more: Any) -> dict[str, Any]:
    return plain(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0, **more)


def roberta() -> dict[str, Any]:
    """Positions start after the number of the padding token, so two of the 34 are never used."""
    return bert(pad_token_id=1, bos_token_id=0, eos_token_id=2) | {"max_position_embeddings": 34}


def distilbert() -> dict[str, Any]:
    sizes = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 32}
    return SIZE | sizes | {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "pad_token_id": PAD}


def llama(**more: Any) -> dict[str, Any]:
    return plain(num_key_value_heads=1, attention_dropout=0.0, pad_token_id=PAD, bos_token_id=1, eos_token_id=2) | more


def gpt2() -> dict[str, Any]:
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "tie_word_embeddings": True}
    tokens = {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
    return SIZE | sizes | tokens | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


ROPE3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # Of the four frequencies of a head one is kept, one lies between, two are divided.
    "original_max_position_embeddings": 128,
}
ALL_LINEAR = {
    "target_modules": "all-linear",
    "rank_pattern": {"layers.1.self_attn.q_proj": 3, "down_proj": 1},
    "alpha_pattern": {"layers.0.self_attn.q_proj": 2, "up_proj": 5.5},
}
LAYERS = {
    "target_modules": ["q_proj", "down_proj"],
    "layers_to_transform": [1],
    "layers_pattern": "layers",
    "rank_pattern": {"down_proj": 4},
    "use_rslora": True,
}
REGEX = {"target_modules": r".*\.layers\.0\.(mlp\.(gate|up)_proj|self_attn\.o_proj)"}


@dataclass(frozen=True)
class Family:
    """`name` is that of the folder, `kind` that of the classes in transformers."""

    name: str
    kind: str
    settings: dict[str, Any]
    decoder: bool = False
    # Adapters beside those of the default targets, for CAUSAL_LM.
    loras: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        return ["SEQ_CLS", "CAUSAL_LM"] if self.decoder else ["SEQ_CLS"]

    def config(self) -> transformers.PretrainedConfig:
        return getattr(transformers, f"{self.kind}Config")(**self.settings)

    def models(self) -> dict[str, transformers.PreTrainedModel]:
        """One model for each task, with the same weights as far as both have them."""
        torch.manual_seed(zlib.crc32(self.name.encode()))
        if not self.decoder:
            return {"SEQ_CLS": self.build("ForSequenceClassification")}
        head = "LMHeadModel" if self.kind == "GPT2" else "ForCausalLM"
        causal, classifier = self.build(head), self.build("ForSequenceClassification")
        classifier.base_model.load_state_dict(causal.base_model.state_dict())
        return {"SEQ_CLS": classifier, "CAUSAL_LM": causal}

    def build(self, head: str) -> transformers.PreTrainedModel:
        model = getattr(transformers, self.kind + head)._from_config(self.config(), attn_implementation="sdpa")
        move(model.parameters(), 0.05)
        return model

    def adapters(self, task: str) -> dict[str, PeftConfig]:
        # A pooler that no file holds is trained and saved like the head.
        saved = ["pooler"] if self.name == "bert-no-pooler" else []
        lora = {"task_type": task, "r": 2, "lora_alpha": 8, "lora_dropout": 0.0, "fan_in_fan_out": self.kind == "GPT2"}
        if self.kind == "DistilBert":  # PEFT has no targets of its own for it
            lora["target_modules"] = ["q_lin", "v_lin"]
        variants = {"lora": {}} | (self.loras if task == "CAUSAL_LM" else {})
        configs: dict[str, PeftConfig] = {name: LoraConfig(**lora | more, modules_to_save=[*saved] or None) for name, more in variants.items()}
        # PEFT looks for these under names that DistilBERT's configuration does not have.
        sizes = {"token_dim": 16, "num_layers": 2, "num_attention_heads": 2} if self.kind == "DistilBert" else {}
        prompt = {"task_type": task, "num_virtual_tokens": VIRTUAL_TOKENS, "modules_to_save": [*saved] or None}
        configs["prompt"] = PromptTuningConfig(**prompt | sizes)
        return configs


FAMILIES = [
    Family("bert", "Bert", bert()),
    Family("bert-no-pooler", "Bert", bert()),
    Family("roberta", "Roberta", roberta()),
    Family("xlm-roberta", "XLMRoberta", roberta()),
    Family("distilbert", "DistilBert", distilbert()),
    Family("llama", "Llama", llama(tie_word_embeddings=True), True, {"lora-all-linear": ALL_LINEAR, "lora-layers": LAYERS, "lora-regex": REGEX}),
    Family("llama-rope3", "Llama", llama(rope_parameters=ROPE3, max_position_embeddings=256), True),
    Family("llama-linear", "Llama", llama(rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}), True),
    Family("qwen2", "Qwen2", llama(tie_word_embeddings=True), True),
    Family("qwen3", "Qwen3", llama(head_dim=12), True),
    Family("mistral", "Mistral", llama(sliding_window=4), True),
    Family("gpt2", "GPT2", gpt2(), True, {"lora-all-linear": {"target_modules": "all-linear"}}),
]


def move(parameters: Any, scale: float) -> None:
    """Moves parameters off their initial values, so that no bias is 0 and no norm weight is 1."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter) * scale)


def adapted(model: transformers.PreTrainedModel, config: PeftConfig) -> PeftModel:
    """A copy of the model with a new adapter, no part of which is at its initial value."""
    adapter = get_peft_model(copy.deepcopy(model), config)
    move((p for p in adapter.parameters() if p.requires_grad), 0.2)
    return adapter
