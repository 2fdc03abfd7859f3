"""What the products of a run cost that nobody can do without, from the shapes and the real tokens alone.

Counted: all linear layers and both products of attention for every real token, forward; the gradients of inputs down to the lowest
trained weight; the gradients of trained weights; the output projection where there is an answer. Not counted: padding, embeddings, norms,
activations, the optimizer, anything computed twice. One multiplication with its addition counts as two.
"""

from typing import Any


def needed_flops(config: dict[str, Any], tuning: dict[str, Any], workload: dict[str, int]) -> float:
    """The operations of one pass over the rows; `workload` is what `peer.workload` says of them."""
    method = tuning["type"]
    rows, tokens, squares = workload["rows"], workload["tokens"], workload["squares"]
    virtual = tuning["num_virtual_tokens"] if method == "prompt_tuning" else 0
    squares += 2 * virtual * tokens + virtual * virtual * rows
    tokens += virtual * rows
    whole = method in ("full", "layerwise")
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    entrance, rest = layer_weights(config)
    forward = 2 * tokens * layers * (entrance + rest)
    # Below the first layer's query, key and value there is something to train only with full tuning, and in front with virtual tokens.
    trained_below = tokens if whole else virtual * rows
    inputs = forward - 2 * (tokens - trained_below) * entrance
    weights = forward if whole else 0
    pairs = squares if workload["classes"] else (squares + tokens) / 2
    attention = 3 * 4 * pairs * hidden * layers
    return forward + inputs + weights + attention + head(config, workload, whole) + adapters(config, tuning, tokens)


def key_width(config: dict[str, Any]) -> int:
    heads = config["num_attention_heads"]
    return config["hidden_size"] // heads * config.get("num_key_value_heads", heads)


def layer_weights(config: dict[str, Any]) -> tuple[int, int]:
    """Weights of a layer's query, key and value projections, and of its other matrices."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    feed_forward = (3 if config["hidden_act"] == "silu" else 2) * hidden * inner
    return hidden * (hidden + 2 * key_width(config)), hidden * hidden + feed_forward


def head(config: dict[str, Any], workload: dict[str, int], whole: bool) -> float:
    """Pooler and classifier of an encoder, or a decoder's projection to its vocabulary: forward, inputs and, if trained, weights."""
    hidden, classes = config["hidden_size"], workload["classes"]
    if classes:
        return workload["rows"] * hidden * (2 * hidden * (3 if whole else 2) + 6 * classes)
    return 2 * workload["answers"] * hidden * config["vocab_size"] * (3 if whole else 2)


def adapters(config: dict[str, Any], tuning: dict[str, Any], tokens: int) -> float:
    """LoRA's own products: forward, inputs, weights."""
    if tuning["type"] != "lora":
        return 0
    hidden = config["hidden_size"]
    widths = {"query": hidden, "value": hidden, "q_proj": hidden, "v_proj": key_width(config)}
    both = sum(hidden + widths[module] for module in tuning["target_modules"])
    return 3 * 2 * tokens * tuning["r"] * both * config["num_hidden_layers"]
