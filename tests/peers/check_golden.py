"""Compares golden files, as the scripts write them with the torch at hand, with those that are committed.

    python check_golden.py COMMITTED WRITTEN

The same files, the same JSON, the same tensors but for rounding.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


def read_json(path: Path) -> dict:
    """With PEFT's sets in order."""
    content = json.loads(path.read_text())
    if isinstance(content.get("target_modules"), list):
        content["target_modules"].sort()
    return content


def compare(committed: Path, written: Path) -> None:
    if committed.suffix == ".json":
        assert read_json(committed) == read_json(written), f"{written} differs"
        return
    old, new = load_file(committed), load_file(written)
    assert old.keys() == new.keys(), f"{written}: {old.keys() ^ new.keys()}"
    for name, tensor in old.items():
        assert tensor.dtype == new[name].dtype, f"{written}: {name}"
        torch.testing.assert_close(new[name], tensor, rtol=1e-5, atol=1e-7, msg=lambda text: f"{written}: {name}: {text}")


def main(committed: Path, written: Path) -> None:
    old, new = ({file.relative_to(root) for file in root.rglob("*") if file.is_file()} for root in (committed, written))
    assert old == new, old ^ new
    for file in sorted(old):
        compare(committed / file, written / file)
    print(f"{committed.name}: {len(old)} golden files as committed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
