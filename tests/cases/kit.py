#!/usr/bin/env python3
"""Writes the inputs of these tests: tiny model folders (models/), data files (inputs/) and the numbers to expect (expected.json).
Standard library only; parquet files only if pyarrow is there. usage: kit.py [TARGET=kit]
All tokenizers are byte-level without merges (one token a byte, special tokens one each), so token counts can be reckoned by hand."""
import json, os, random, re, struct, sys
OUT = sys.argv[1] if len(sys.argv) > 1 else "kit"
PAD, BOS, EOS, IMS, IME = "<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"; SPECIAL = [PAD, BOS, EOS, IMS, IME]; V = 264  # ids 256..260, 261..263 unused rows

def letters():
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256)); m, k = {}, 0
    for b in range(256):
        if b in plain: m[b] = chr(b)
        else: m[b] = chr(256 + k); k += 1
    return m
L = letters()
def n(text):  # tokens of a text
    return len(re.findall("|".join(map(re.escape, SPECIAL)), text)) + len(re.sub("|".join(map(re.escape, SPECIAL)), "", text).encode())
def tokenizer(bos=False, cls=False, nn=False, more=()):
    # The special tokens stand in the vocabulary too, which is full (264 entries): the library numbers others from its size on.
    vocab = {L[b]: b for b in range(256)} | {c: 256 + i for i, c in enumerate(SPECIAL)} | {(L[10] * 2 if nn and i == 261 else f"<free{i}>"): i for i in range(261, V)}; merges = [[L[10], L[10]]] if nn else []
    added = [dict(id=i, content=c, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i, c in [(256 + i, c) for i, c in enumerate(SPECIAL)] + list(more)]
    bl = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=not nn); post = dict(bl)
    if bos or cls:
        sp = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}; sq = lambda s: {"Sequence": {"id": s, "type_id": 0}}
        one = [sp(BOS), sq("A")] + ([sp(EOS)] if cls else [])
        post = dict(type="TemplateProcessing", single=one, pair=one + [sq("B")] + ([sp(EOS)] if cls else []), special_tokens={t: dict(id=t, ids=[256 + SPECIAL.index(t)], tokens=[t]) for t in (BOS, EOS)})
    return dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None, pre_tokenizer=bl, post_processor=post, decoder=bl,
                model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, vocab=vocab, merges=merges))

def values(name, shape):
    if "norm" in name.lower() and name.endswith((".weight", ".gamma")): return [1.0] * shape[0]
    if name.endswith((".bias", ".beta")): return [0.0] * shape[0]
    r, k = random.Random(name), 1
    for s in shape: k *= s
    return [r.gauss(0, 0.25) for _ in range(k)]
def save(path, tensors):  # {stored name: (canonical name, shape)}; canonical "i64" = numbers 0..
    head, body, at = {}, b"", 0
    for stored, (name, shape) in tensors.items():
        data = struct.pack(f"<{shape[-1]}q", *range(shape[-1])) if name == "i64" else (lambda v: struct.pack(f"<{len(v)}f", *v))(values(name, shape))
        head[stored] = dict(dtype="I64" if name == "i64" else "F32", shape=shape, data_offsets=[at, at + len(data)]); body += data; at += len(data)
    h = json.dumps(head).encode(); h += b" " * (-len(h) % 8)
    open(path, "wb").write(struct.pack("<Q", len(h)) + h + body)

H, F, N = 16, 32, 2
def llama_tensors(head=True):
    t = {"model.embed_tokens.weight": [V, H], "model.norm.weight": [H]}
    for i in range(N):
        p = f"model.layers.{i}."
        t |= {p + "input_layernorm.weight": [H], p + "post_attention_layernorm.weight": [H], p + "self_attn.q_proj.weight": [H, H], p + "self_attn.k_proj.weight": [H // 2, H], p + "self_attn.v_proj.weight": [H // 2, H],
              p + "self_attn.o_proj.weight": [H, H], p + "mlp.gate_proj.weight": [F, H], p + "mlp.up_proj.weight": [F, H], p + "mlp.down_proj.weight": [H, F]}
    if head: t["lm_head.weight"] = [V, H]
    return t
def bert_tensors(prefix, positions, types):
    t = {f"{prefix}.embeddings.word_embeddings.weight": [V, H], f"{prefix}.embeddings.position_embeddings.weight": [positions, H], f"{prefix}.embeddings.token_type_embeddings.weight": [types, H]}
    def ln(p): t[p + ".weight"] = [H]; t[p + ".bias"] = [H]
    def li(p, o, i): t[p + ".weight"] = [o, i]; t[p + ".bias"] = [o]
    ln(f"{prefix}.embeddings.LayerNorm")
    for i in range(N):
        p = f"{prefix}.encoder.layer.{i}."
        for x in ("query", "key", "value"): li(p + "attention.self." + x, H, H)
        li(p + "attention.output.dense", H, H); ln(p + "attention.output.LayerNorm"); li(p + "intermediate.dense", F, H); li(p + "output.dense", H, F); ln(p + "output.LayerNorm")
    if prefix == "bert": li("bert.pooler.dense", H, H)
    return t
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
LLAMA = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=V, hidden_size=H, intermediate_size=F, num_hidden_layers=N, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=257, eos_token_id=258, torch_dtype="float32")
TOK = dict(bos_token=BOS, eos_token=EOS, pad_token=PAD, chat_template=CHATML)
def model(name, config=LLAMA, tensors=None, tok=None, tok_config=TOK, rename=lambda s: s, extra=None, **files):
    d = f"{OUT}/models/{name}"; os.makedirs(d, exist_ok=True); tensors = llama_tensors() if tensors is None else tensors
    stored = {rename(k): (k, v) for k, v in tensors.items()} | (extra or {})
    save(f"{d}/model.safetensors", stored)
    for f, v in {"config.json": config, "tokenizer.json": tok or tokenizer(), "tokenizer_config.json": tok_config, **{k.replace("__", "."): v for k, v in files.items()}}.items(): json.dump(v, open(f"{d}/{f}", "w"), ensure_ascii=False, indent=1)
def data(name, content):
    os.makedirs(f"{OUT}/inputs", exist_ok=True)
    if isinstance(content, list): content = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in content)
    open(f"{OUT}/inputs/{name}", "wb").write(content if isinstance(content, bytes) else content.encode())
want = {}
U = lambda c, **k: dict(role="user", content=c, **k); A = lambda c, **k: dict(role="assistant", content=c, **k); S = lambda c: dict(role="system", content=c)
ml = lambda *ms: "".join(f"{IMS}{r}\n{c}{IME}\n" for r, c in ms)

# ---- models
model("ll"); model("ll-bos", tok=tokenizer(bos=True)); model("ll-padeos", tok_config=TOK | dict(pad_token=EOS))
model("ll-strict", tok_config=TOK | dict(chat_template="{% for m in messages %}{% if m.role in ['system', 'user', 'assistant', 'tool'] %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"))
model("ll-think", tok_config=TOK | dict(chat_template="{%- set ns = namespace(last=-1) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}{%- for m in messages -%}{%- set c = m.content -%}{%- if m.role == 'assistant' and '</think>' in c and loop.index0 < ns.last -%}{%- set c = c.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}{{- '<|im_start|>' + m.role + '\\n' + c + '<|im_end|>\\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"))
model("ll-nn", tok=tokenizer(nn=True))
model("ll-alternate", tok_config=TOK | dict(chat_template="{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant have to take turns') }}{% endif %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"))
model("ll-first", tok_config=TOK | dict(chat_template="{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}" + CHATML))
model("ll-args", tok_config=TOK | dict(chat_template="{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.content %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}{{ '<' + c.function.name }}{% for k, v in c.function.arguments | items %}{{ ' ' + k + '=' + v | string }}{% endfor %}{{ '>' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"))
model("ll-tied", config=LLAMA | dict(tie_word_embeddings=True), tensors=llama_tensors(False)); model("ll-nohead", tensors=llama_tensors(False))
model("ll-orig", rename=lambda s: "_orig_mod." + s); model("ll-module", rename=lambda s: "module." + s)
no_theta = {k: v for k, v in LLAMA.items() if k != "rope_theta"}
for k, c in dict(a=LLAMA | dict(rope_theta=500000.0, rope_scaling=None), b=no_theta | dict(rope_parameters=dict(rope_type="default", rope_theta=500000.0)), c=LLAMA | dict(rope_scaling=dict(type="linear", factor=2.0)), d=no_theta | dict(rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=10000.0)),
                 e=LLAMA | dict(rope_theta=10000.0, rope_parameters=dict(rope_type="default", rope_theta=500000.0)), f=LLAMA | dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64))).items(): model(f"ll-rope-{k}", config=c)
model("ll-added", tok=tokenizer(more=[(264, "<tool>")]))
ENC = dict(vocab_size=V, hidden_size=H, num_hidden_layers=N, num_attention_heads=2, intermediate_size=F, hidden_act="gelu", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, layer_norm_eps=1e-12)
BERT = ENC | dict(model_type="bert", max_position_embeddings=64, type_vocab_size=2, pad_token_id=256); ct = tokenizer(cls=True)
model("bt", config=BERT, tensors=bert_tensors("bert", 64, 2), tok=ct)
model("bt-gamma", config=BERT, tensors=bert_tensors("bert", 64, 2), tok=ct, rename=lambda s: s.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"), extra={"bert.embeddings.position_ids": ("i64", [1, 64])})
RB = ENC | dict(model_type="roberta", max_position_embeddings=66, type_vocab_size=1, pad_token_id=1)
model("rb", config=RB, tensors=bert_tensors("roberta", 66, 1), tok=ct); model("rb-pad3", config=RB | dict(pad_token_id=3), tensors=bert_tensors("roberta", 66, 1), tok=ct)

# ---- data
data("c03.csv", "text,label\na,NA\nnull,null\nc,None\nNaN,yes\n"); data("c03.jsonl", [dict(text=t, label=l) for t, l in [("a", "NA"), ("null", "null"), ("c", "None"), ("NaN", "yes")]]); want["c03"] = dict(classes=["NA", "None", "null", "yes"], training_rows=4)
data("c04a.jsonl", '{"text": "a", "label": true}\n{"text": "b", "label": false}\n'); data("c04b.jsonl", '{"text": "a", "label": 1.0}\n{"text": "b", "label": 0.0}\n{"text": "c", "label": 1}\n{"text": "d", "label": 0}\n'); data("c04c.csv", "text,label\na,1.0\nb,0.0\nc,1\nd,0\n"); data("c04d.jsonl", '{"text": "a", "label": null}\n{"text": "b", "label": 0}\n{"text": "c", "label": 1}\n{"text": "d", "label": NaN}\n')
data("c05.json", json.dumps([dict(instruction=f"Double {i}", input="", output=str(2 * i)) for i in range(4)], indent=2))
data("c06.jsonl", b"\xef\xbb\xbf" + '{"text": "first\u2028half and\u0085more", "label": "x"}\r\n{"text": "second", "label": "y"}\r\n'.encode()); data("c06-utf16.jsonl", b"\xff\xfe" + '{"text": "a", "label": "x"}\r\n{"text": "b", "label": "y"}\r\n'.encode("utf-16-le")); data("c06-surrogate.jsonl", '{"text": "fine", "label": "x"}\n{"text": "cut \\ud83d", "label": "y"}\n'); want["c06"] = dict(training_rows=2)
part = lambda s: [dict(type="text", text=s)]
data("c08-plain.jsonl", [dict(messages=[U("hello there"), A("OK")])]); data("c08-parts.jsonl", [dict(messages=[U([dict(type="text", text="hello "), dict(type="text", text="there")]), A(part("OK"))])]); data("c08-image.jsonl", [dict(messages=[U("x"), A("y")]), dict(messages=[U([dict(type="image_url", image_url=dict(url="data:,"))]), A("y")])])
want["c08"] = dict(training_tokens=n(ml(("user", "hello there"), ("assistant", "OK"))), label_tokens=n("OK" + IME + "\n"))
row = dict(messages=[U("hi"), A("OK")]); base = n(ml(("user", "hi"), ("assistant", "OK")))
data("c11.jsonl", [dict(messages=[U("a"), A("<think>x</think>\nB"), U("c"), A("<think>y</think>\nD")])]); want["c11"] = dict(training_tokens=n(ml(("user", "a"), ("assistant", "B"), ("user", "c"), ("assistant", "<think>y</think>\nD"))), label_tokens=n(f"B{IME}\n<think>y</think>\nD{IME}\n"))
data("c12.jsonl", [dict(messages=[U("Hi"), A("\nYes")])]); want["c12"] = dict(label_tokens=1 + n("Yes" + IME + "\n"), lost_first_token=n("Yes" + IME + "\n"))
def call(a): return dict(messages=[U("go"), dict(role="assistant", content=None, tool_calls=[dict(id="1", type="function", function=dict(name="f", arguments=a))])])
data("c13-string.jsonl", [call('{"x": 1}')]); data("c13-object.jsonl", [call(dict(x=1))]); data("c13-broken.jsonl", [call('{"x": 1}'), call('{"x": ')]); want["c13"] = dict(training_tokens=n(f"{IMS}user\ngo{IME}\n{IMS}assistant\n<f x=1>{IME}\n"))
data("c14-middle.jsonl", [dict(messages=[U("a"), A("b")]), dict(messages=[U("a"), A("b"), S("note"), U("c"), A("d")])]); data("c14-greeting.jsonl", [dict(messages=[A("Welcome"), U("a"), A("b")])]); want["c14"] = dict(greeting_on_ll_first=n(ml(("system", "Be kind."), ("assistant", "Welcome"), ("user", "a"), ("assistant", "b"))))
data("c15.jsonl", [dict(prompt=[U("hi")], completion=[A("OK")])])
data("c16a.jsonl", [dict(prompt="Q: 2+2=", completion="4")])
data("c19-prompt.jsonl", [dict(prompt="hi ", completion="OK")]); data("c19.jsonl", [dict(messages=[U(f"say {w}"), A(w)]) for w in ["one", "two", "three", "four"]])
data("c20.jsonl", [dict(text=("good " * (i % 5 + 1)) if i % 2 else ("bad " * (i % 3 + 1)), label="pos" if i % 2 else "neg") for i in range(24)])
data("c29.jsonl", [dict(prompt="call ", completion="fine"), dict(prompt="call ", completion="<tool>")])
r = random.Random(5); rows = [dict(prompt=f"{i}: ", completion=("ab " * r.randint(1, 40)).strip()) for i in range(10)]; data("c32.jsonl", rows); data("c33-valid.jsonl", [dict(prompt=f"{i}: ", completion="z" * k) for i, k in enumerate([1, 200, 3, 150, 2, 90, 1])])
data("c33-masked.jsonl", [dict(messages=[U("a"), A("b")]), dict(messages=[U("a"), A("b", weight=0)])]); data("c33-cut.jsonl", [dict(prompt="p ", completion="ok"), dict(prompt="p" * 90 + " ", completion="never seen")])
data("c38.jsonl", [dict(text="w" * 58 + str(i), label="pq"[i % 2]) for i in range(8)])
data("big.jsonl", "".join(json.dumps(dict(text="x" * 200, label="ab"[i % 2])) + "\n" for i in range(12000)))
x1 = 'text,label,label\na,pos,neg\nb,neg,pos\n'; data("x1.csv", x1); data("x2.csv", "text;label\na;pos\nb;neg\n"); data("x3.jsonl", [dict(messages=[U("weather?"), dict(role="assistant", function_call=dict(name="f", arguments="{}"))]), dict(messages=[U("weather?"), dict(role="function", name="f", content="sun"), A("sunny")])])
data("x4.jsonl", [dict(text=t, label=l) for t, l in [("a", "caf\u00e9"), ("b", "cafe\u0301"), ("c", "th\u00e9"), ("d", "\U0001F469\u200D\U0001F4BB"), ("e", "10"), ("f", "2")]])
try:
    import pyarrow as pa, pyarrow.parquet as pq
    data("c07.jsonl", [dict(text=t, label=l) for t, l in [("a", "x"), ("b", "y"), ("c", "x")]]); t = pa.table(dict(id=pa.array([1, 2, 3]), text=pa.array(["a", "b", "c"], pa.large_string()), label=pa.array(["x", "y", "x"]).dictionary_encode(), at=pa.array([0, 1, 2], pa.timestamp("ns")))); pq.write_table(t, f"{OUT}/inputs/c07a.parquet", compression="zstd")
    m = pa.array([[dict(role="user", content="hi", name=None), dict(role="assistant", content="OK", name=None)]], pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.string_view()), ("name", pa.string())]))); pq.write_table(pa.table(dict(messages=m)), f"{OUT}/inputs/c07b.parquet"); want["c07b"] = dict(training_tokens=base)
    pq.write_table(pa.table(dict(text=["a", "b", "c"], label=pa.array([1.0, None, 0.0]))), f"{OUT}/inputs/c07c.parquet")
except Exception as e: print("no parquet files:", e)
json.dump(want, open(f"{OUT}/expected.json", "w"), indent=1); print(json.dumps(want))
