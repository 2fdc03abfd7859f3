"""Random chats, tools, chat templates and tokenizers, and what transformers makes of them: text, ids, what has to be trained and what
must not be.

    python data.py OUT [--cases N] [--seed N] [--templates FOLDER] [--few]

OUT/cases.json is replayed by the engine's test `chats_become_what_transformers_makes_of_them`, which reads the file that
TAPER_DATA_CASES names, else the fixed ones of tests/golden/data (`--cases 100 --few`). FOLDER holds *.jinja files: those of
`models/templates` in the source package of llama-cpp-python, which --templates fetches where it does not exist.

A case is `row`, `template` and `tokenizer` with
- `ids`: how many there are and the sha256 of their JSON;
- `text`: what the tokens say (only with --few);
- `trained`, `untrained`: texts, each once in the rendered chat, whose tokens the loss has to cover, or must not;
- or `refused`: the template objects to the row, or leaves a part of it out (`must`), or fails on it in a way of Python's own (`may`:
  the engine's Jinja may take it).
"""

import argparse
import copy
import hashlib
import json
import logging
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import jinja2
import transformers.utils.chat_template_utils as chat_templates
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SOURCE = "llama-cpp-python==0.3.36"
# The most used families, each with a template of its own.
FEW = [
    "Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B", "Qwen-QwQ-32B", "Qwen3-Coder", "Qwen3.5-4B", "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct", "mistralai-Mistral-Nemo-Instruct-2407", "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "microsoft-Phi-3.5-mini-instruct", "google-gemma-2-2b-it", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "deepseek-ai-DeepSeek-V3.1",
    "HuggingFaceTB-SmolLM3-3B", "LFM2-8B-A1B", "GLM-4.6", "moonshotai-Kimi-K2", "ibm-granite-granite-3.3-2B-Instruct",
    "Bielik-11B-v3.0-Instruct", "MiniMax-M1",
]
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
OWN = {
    "chatml": CHATML,
    "generation": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n\n{% endfor %}",
    "plain": "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}",
    "trimmed": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]{% else %} {{ m.content.strip() }}{{ eos_token }}{% endif %}{% endfor %}",
}
MARKS = r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|\[/?[A-Z_]{3,24}\]|</?(?:s|start_of_turn|end_of_turn|think|tool_call|tool_response|tools)>"


class Today(chat_templates.datetime):
    """The date that taper gives to templates."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_templates.datetime = Today


def templates_of(folder: Path, few: bool) -> dict[str, str]:
    if not folder.exists():
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as download:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python", "--dest", download]
            subprocess.run([*pip, SOURCE], check=True)
            with tarfile.open(next(Path(download).glob("*.tar.gz"))) as archive:
                for member in archive.getmembers():
                    if "/models/templates/" in member.name and member.name.endswith(".jinja"):
                        (folder / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    found = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.jinja"))}
    assert found, f"no templates in {folder}"
    return OWN | ({name: found[name] for name in FEW} if few else found)


def tokenizers_of(templates: dict[str, str]) -> dict[str, Tokenizer]:
    """Byte-level as Qwen's, the same with a text's ends as Llama 3's, and SentencePiece's way as Llama 2's and Mistral's."""
    special = sorted({"<pad>", "<s>", "</s>"} | {mark for source in templates.values() for mark in re.findall(MARKS, source)})
    texts = [*WORDS, " ".join(WORDS), *(re.sub(MARKS, " ", source) for source in OWN.values())]
    added = [AddedToken(token, special=True, normalized=False) for token in special]

    byte = Tokenizer(models.BPE())
    byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte.decoder = decoders.ByteLevel()
    byte.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    byte.add_special_tokens(added)
    ended = Tokenizer.from_str(byte.to_str())
    pair = [(token, ended.token_to_id(token)) for token in ("<s>", "</s>")]
    ended.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=pair)
    byte.post_processor = processors.ByteLevel(trim_offsets=False)

    piece = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    piece.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    piece.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", *bytes_], show_progress=False))
    state = json.loads(piece.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] == "<unk>"]
    piece = Tokenizer.from_str(json.dumps(state))
    piece.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    piece.add_special_tokens(added)
    piece.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", piece.token_to_id("<s>"))])
    return {"byte": byte, "ended": ended, "piece": piece}


WORDS = "the film is good bad weather today in Paris London please tell me about über naïve 東京 🎉 café don't x=1 a<b 'quoted' \"said\" 10% {json} line\nbreak  two".split(" ")


class Rows:
    """Random rows. Every text that is looked for later has a number of its own in it."""

    def __init__(self, seed: int) -> None:
        self.random, self.count = random.Random(seed), 0

    def text(self, edges: bool = True) -> str:
        self.count += 1
        words = [self.random.choice(WORDS) for _ in range(self.random.randint(0, 5))]
        middle = " ".join([*words, f"n{self.count}z", *(self.random.choice(WORDS) for _ in range(self.random.randint(0, 2)))])
        lead, tail = (self.random.choice(["", "", "", "", " ", "\n"]) for _ in range(2)) if edges else ("", "")
        return lead + middle + tail

    def value(self) -> object:
        r = self.random
        return r.choice([self.text(False), r.randint(-5, 10**6), r.choice([0.5, 1.0, 1e-7, 2.5e17, -3.25]), True, None, ["a", 1], {"k": "é<&>'"}])

    def tool(self) -> dict:
        self.count += 1
        properties = {f"p{i}": {"type": self.random.choice(["string", "integer", "number"]), "description": self.text(False)} for i in range(self.random.randint(0, 2))}
        parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
        return {"type": "function", "function": {"name": f"tool_n{self.count}z", "description": self.text(False), "parameters": parameters}}

    def calls(self, tools: list[dict]) -> list[dict]:
        r = self.random
        count = r.choice([1, 1, 1, 2])
        return [
            {"id": f"call{r.randint(10000, 99999)}", "type": "function", "function": {"name": r.choice(tools)["function"]["name"], "arguments": {f"p{i}": self.value() for i in range(r.randint(0, 2))}}}
            for _ in range(count)
        ]

    def row(self) -> dict:
        r = self.random
        messages, tools = [], [self.tool() for _ in range(r.randint(1, 2))] if r.random() < 0.35 else []
        if r.random() < 0.4:
            messages.append({"role": r.choice(["system"] * 4 + ["developer"]), "content": self.text()})
        if r.random() < 0.06:
            messages.append({"role": "assistant", "content": self.text()})
        for _ in range(r.choice([1, 1, 2, 2, 3])):
            messages.append({"role": "user", "content": self.text()})
            if tools and r.random() < 0.6:
                said = {"content": r.choice([None, "", self.text()])}
                calls = self.calls(tools)
                messages.append({"role": "assistant", **said, "tool_calls": calls})
                for call in calls:
                    messages.append({"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": self.text()})
            answer = {"role": "assistant", "content": self.text()}
            if r.random() < 0.15:
                answer[r.choice(["reasoning_content", "thinking", "reasoning"])] = self.text(False)
            elif r.random() < 0.1:
                answer["content"] = f"<think>\n{self.text(False)}\n</think>\n\n{answer['content']}"
            if r.random() < 0.04:
                answer["content"] = ""
            if r.random() < 0.1:
                answer["weight"] = r.choice([0, 1])
            messages.append(answer)
        if r.random() < 0.03:
            messages[0]["name"] = f"n{self.count}q"
        row = {"messages": messages}
        if tools:
            row["tools"] = tools
        return row

    def pair(self) -> dict:
        return {"prompt": self.random.choice([self.text(), self.text(), ""]), "completion": self.random.choice([self.text(), self.text(), ""])}


def render(tokenizer: PreTrainedTokenizerFast, row: dict, tokenize: bool = False, **more):
    return tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=tokenize, **more)


def candidates(row: dict) -> list[dict]:
    """The row, and what else stands for it: an empty text for none, `system` for `developer`."""
    plain = {**row, "messages": [{k: v for k, v in m.items() if v is not None and k != "weight"} for m in row["messages"]]}
    filled = {**plain, "messages": [{**m, "content": m.get("content", "")} for m in plain["messages"]]}
    def as_system(row): return {**row, "messages": [m | {"role": "system"} if m["role"] == "developer" else m for m in row["messages"]]}
    return [plain, filled, as_system(plain), as_system(filled)]


def with_arguments(row: dict, make) -> dict:
    other = copy.deepcopy(row)
    for message in other["messages"]:
        for call in message.get("tool_calls", []):
            call["function"]["arguments"] = make(call["function"]["arguments"])
    return other


def settled(tokenizer: PreTrainedTokenizerFast, row: dict) -> dict:
    """The row with its arguments as JSON in a text where the template would print an object as Python does, or cannot take one."""
    def probe(value) -> str | None:
        try:
            return render(tokenizer, with_arguments(row, lambda _: value))
        except Exception:
            return None

    text = probe({"probed": "value"})
    if (text is None or "{'probed': 'value'}" in text) and probe('{"probed": "value"}') is not None:
        return with_arguments(row, lambda value: json.dumps(value, ensure_ascii=False))
    return row


def written(tokenizer: PreTrainedTokenizerFast, row: dict) -> tuple[str | None, str]:
    """The text, if all of the row is in it: no part could be another without another text; else whether it has to be refused."""
    try:
        text = render(tokenizer, row)
    except Exception as error:
        return None, "must" if type(error) is jinja2.exceptions.TemplateError else "may"

    def same(change, upto: int | None = None) -> bool:
        other = copy.deepcopy(row)
        change(other)
        base = text
        try:
            if upto is not None:
                cut = {**row, "messages": row["messages"][: upto + 1]}
                base, other = render(tokenizer, cut), {**other, "messages": other["messages"][: upto + 1]}
            return render(tokenizer, other) == base
        except Exception:
            return False

    for i, message in enumerate(row["messages"]):
        for key, value in message.items():
            if key in ("role", "tool_call_id", "id") or (key == "name" and message["role"] == "tool") or not value:
                continue
            if key == "content" and not value.strip():
                continue
            if key == "tool_calls":
                for j, call in enumerate(value):
                    if same(lambda r: r["messages"][i]["tool_calls"][j]["function"].update(name="another")):
                        return None, "must"
                    if call["function"]["arguments"] not in ({}, "{}") and same(lambda r: r["messages"][i]["tool_calls"][j]["function"].update(arguments={"another": "one"})):
                        return None, "must"
                continue
            dropped = lambda upto=None: same(lambda r: r["messages"][i].update({key: "another one"}), upto) and same(lambda r: r["messages"][i].update({key: ""}), upto)
            if dropped() and not (key in ("reasoning_content", "thinking", "reasoning") and not dropped(i)):
                return None, "must"
    for j in range(len(row.get("tools", []))):
        if same(lambda r: r["tools"][j]["function"].update(name="another")):
            return None, "must"
    return text, ""


def spans(text: str, parts: list[str]) -> list[str]:
    """Those of the parts that stand in the text, once."""
    return [part.strip() for part in parts if part and part.strip() and text.count(part.strip()) == 1]


def parts_of(row: dict, trained: bool) -> list[str]:
    parts = []
    for message in row["messages"]:
        ours = message["role"] == "assistant" and message.get("weight", 1) == 1
        if ours != trained:
            continue
        content = message.get("content") or ""
        parts.append(content.split("</think>")[-1])
        for call in message.get("tool_calls", []):
            parts += [value for value in (call["function"]["arguments"] or {}).values() if isinstance(value, str)]
    return parts


def case(row: dict, template: str, name: str, tokenizer: PreTrainedTokenizerFast, source: str, few: bool) -> dict:
    known = {"template": template, "tokenizer": name, "row": row}
    if "prompt" in row:
        text = row["prompt"] + row["completion"]
        ids = tokenizer(text)["input_ids"]
        ids += [] if ids and ids[-1] == tokenizer.eos_token_id else [tokenizer.eos_token_id]
        if len(ids) < 2:
            return known | {"refused": "must"}
        trained, untrained = spans(text, [row["completion"]]), spans(text, [row["prompt"]])
        return known | summary(tokenizer, ids, trained, untrained, few)
    tokenizer.chat_template = source
    if not any(m["role"] == "assistant" and m.get("weight", 1) == 1 for m in row["messages"]):
        return known | {"refused": "must"}
    refused = set()
    for candidate in candidates(row):
        candidate = settled(tokenizer, candidate)
        text, reason = written(tokenizer, candidate)
        if text is None:
            refused.add(reason)
            continue
        ids = render(tokenizer, candidate, tokenize=True, return_dict=False)
        found = summary(tokenizer, ids, spans(text, parts_of(row, True)), spans(text, parts_of(row, False)), few)
        if "generation" in source and all(m.get("weight", 1) == 1 for m in row["messages"]):
            mask = render(tokenizer, candidate, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)["assistant_masks"]
            if any(mask):
                found["mask"] = "".join(map(str, mask))
        return known | found
    return known | {"refused": "may" if "may" in refused else "must"}


def summary(tokenizer: PreTrainedTokenizerFast, ids: list[int], trained: list[str], untrained: list[str], few: bool) -> dict:
    digest = hashlib.sha256(json.dumps(ids).replace(" ", "").encode()).hexdigest()
    found = {"ids": [len(ids), digest], "trained": trained, "untrained": untrained}
    return found | ({"text": tokenizer.decode(ids)} if few else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--templates", type=Path, default=Path(__file__).parent / ".templates")
    parser.add_argument("--few", action="store_true", help="the templates of the most used families only, with texts")
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    templates = templates_of(arguments.templates, arguments.few)
    tokenizers = tokenizers_of(templates)
    fast = {name: PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", eos_token="</s>", pad_token="<pad>") for name, t in tokenizers.items()}
    rows, cases = Rows(arguments.seed), []
    names = list(templates)
    for number in range(arguments.cases):
        row = rows.pair() if number % 10 == 9 else rows.row()
        template, tokenizer = names[number % len(names)], rows.random.choice(list(tokenizers))
        cases.append(case(row, template, tokenizer, fast[tokenizer], templates[template], arguments.few))
    arguments.out.mkdir(parents=True, exist_ok=True)
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    content = {
        "special": special,
        "templates": templates,
        "tokenizers": {name: json.loads(tokenizer.to_str()) for name, tokenizer in tokenizers.items()},
    }
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    head = json.dumps(content, ensure_ascii=False)
    (arguments.out / "cases.json").write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    refused = sum("refused" in case for case in cases)
    print(f"{len(cases)} cases, {refused} refused, {len(templates)} templates, {len(tokenizers)} tokenizers")


if __name__ == "__main__":
    main()
