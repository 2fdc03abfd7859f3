"""Writes the golden files of the forms in which the weights of a model are stored: the same small models in two files, in half precision,
and as GPT-2's own checkpoint names them, with the logits that transformers computes from them in float64.

    python make_formats.py OUT      # OUT is tests/golden/formats
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from families import FAMILIES
from make_families import inputs, run
from safetensors.torch import load_file, save_file

Model = transformers.PreTrainedModel


def sharded(model: Model, out: Path) -> None:
    model.save_pretrained(out, max_shard_size="16KB")
    assert len(list(out.glob("model-*-of-00002.safetensors"))) == 2


def half(dtype: torch.dtype) -> Callable[[Model, Path], None]:
    return lambda model, out: model.to(dtype).save_pretrained(out)


def bare(model: Model, out: Path) -> None:
    """Without the prefix of the base model, and with the masks that were once stored as weights."""
    model.save_pretrained(out)
    file = out / "model.safetensors"
    stored = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    positions = model.config.n_positions
    for layer in range(model.config.n_layer):
        stored[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(positions, positions))[None, None].clone()
    save_file(stored, file, {"format": "pt"})


FORMS: dict[str, tuple[str, Callable[[Model, Path], None]]] = {
    "sharded": ("llama", sharded),
    "bf16": ("llama", half(torch.bfloat16)),
    "f16": ("llama", half(torch.float16)),
    "gpt2-bare": ("gpt2", bare),
}


def main(out: Path) -> None:
    families = {family.name: family for family in FAMILIES}
    data, expected = inputs(), {}
    for name, (family, save) in FORMS.items():
        folder = out / name
        save(families[family].models()["CAUSAL_LM"], folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        expected[f"{name}.logits"] = run(model, "CAUSAL_LM", data)["logits"].float()
        print(name, *sorted(file.name for file in folder.iterdir()))
    save_file(expected, out / "expected.safetensors")
    (out / "inputs.json").write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
