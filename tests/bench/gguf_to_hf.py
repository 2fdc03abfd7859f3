"""A Llama in llama.cpp's GGUF format made a folder in Hugging Face layout, weights in f16."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
WHOLE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
SPECIAL_TOKEN = 3


def convert(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = weights(reader, fields)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write(out / "config.json", config(fields, tied="lm_head.weight" not in tensors), indent=2, ensure_ascii=True)
    write(out / "tokenizer.json", tokenizer(fields), indent=None)
    write(out / "tokenizer_config.json", tokenizer_config(fields), indent=2)


def write(path: Path, value: Any, *, indent: int | None, ensure_ascii: bool = False) -> None:
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=ensure_ascii), encoding="utf-8")


def weights(reader: GGUFReader, fields: dict[str, Any]) -> dict[str, np.ndarray]:
    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    found = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape([int(size) for size in tensor.shape][::-1])
        name = WHOLE.get(tensor.name)
        if name is None:
            _, layer, kind, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{NAMES[kind]}.weight"
            values = halves(values, heads[kind]) if kind in heads else values
        found[name] = np.ascontiguousarray(values.astype(np.float16))
    return found


def halves(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp interleaves what rotary embeddings pair, transformers keeps it in two halves."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(values.shape)


def config(fields: dict[str, Any], *, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"], "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"], "hidden_act": "silu", "hidden_size": fields["llama.embedding_length"],
        "initializer_range": 0.041666666666666664, "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"], "num_attention_heads": fields["llama.attention.head_count"],
        "num_hidden_layers": fields["llama.block_count"], "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "rms_norm_eps": 1e-05, "rope_theta": float(fields["llama.rope.freq_base"]), "rope_scaling": None, "tie_word_embeddings": tied,
        "torch_dtype": "float16", "use_cache": True, "vocab_size": fields["llama.vocab_size"],
    }  # fmt: skip


def tokenizer(fields: dict[str, Any]) -> dict[str, Any]:
    words, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [{"id": i, "content": word, **plain} for i, (word, kind) in enumerate(zip(words, kinds, strict=True)) if kind == SPECIAL_TOKEN]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytes_]},
        "post_processor": None, "decoder": bytes_ | {"add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {word: i for i, word in enumerate(words)}, "merges": fields["tokenizer.ggml.merges"],
        },
    }  # fmt: skip


def tokenizer_config(fields: dict[str, Any]) -> dict[str, Any]:
    words = fields["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "model_max_length": fields["llama.context_length"],
        "bos_token": words[1], "eos_token": words[2], "pad_token": words[2], "unk_token": words[0],
        "chat_template": fields.get("tokenizer.chat_template"),
    }  # fmt: skip
