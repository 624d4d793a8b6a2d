#!/usr/bin/env python3
"""Writes `good/`, folders that open, and `cases/`, what stands in their files' places in folders that do not.

cases/BASE/CASE/ holds the files that a case has instead of those of good/BASE/; an empty file NAME.absent stands for
one that is not there. expected.tsv, written by hand, has the line of each case. Standard library only; the same bytes
each time.
"""

import json
import pathlib
import shutil
import struct

HERE = pathlib.Path(__file__).parent
END = "<|endoftext|>"


def text(value, **options):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), **options).encode("utf-8")


# ---- safetensors -------------------------------------------------------------------------------------------------


def numbers(count, seed):
    """Weights of about 0.1, the same each time."""
    return [((i * 37 + seed * 11) % 41 - 20) / 128 for i in range(count)]


def f32(values):
    return struct.pack(f"<{len(values)}f", *values)


def count_of(shape):
    count = 1
    for d in shape:
        count *= d
    return count


def entries(tensors):
    """The header's object of (name, dtype, shape, bytes), and the data."""
    header, data = {}, b""
    for name, dtype, shape, raw in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return header, data


def joined(header, data, length=None):
    if not isinstance(header, bytes):
        header = text(header)
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def safetensors(tensors):
    return joined(*entries(tensors))


def gpt2_tensors(v, t, c):
    shapes = {"wte.weight": [v, c], "wpe.weight": [t, c]}
    block = {
        "ln_1.weight": [c], "ln_1.bias": [c], "attn.c_attn.weight": [c, 3 * c], "attn.c_attn.bias": [3 * c],
        "attn.c_proj.weight": [c, c], "attn.c_proj.bias": [c], "ln_2.weight": [c], "ln_2.bias": [c],
        "mlp.c_fc.weight": [c, 4 * c], "mlp.c_fc.bias": [4 * c], "mlp.c_proj.weight": [4 * c, c], "mlp.c_proj.bias": [c],
    }
    shapes.update({f"h.0.{name}": shape for name, shape in block.items()})
    shapes.update({"ln_f.weight": [c], "ln_f.bias": [c]})
    return [(n, "F32", s, f32(numbers(count_of(s), i))) for i, (n, s) in enumerate(shapes.items())]


def gpt1_tensors(v, t, c):
    names = {"wte.weight": "tokens_embed.weight", "wpe.weight": "positions_embed.weight"}
    return [(names.get(n, n), d, s, raw) for n, d, s, raw in gpt2_tensors(v, t, c) if not n.startswith("ln_f")]


# ---- tokenizers --------------------------------------------------------------------------------------------------


def byte_characters():
    """GPT-2's printable character of each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the")]
BYTES = byte_characters()
VOCAB = {BYTES[b]: b for b in range(256)} | {"th": 256, "the": 257, "Ġthe": 258}


def added(content, at):
    return {"id": at, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True}


def tokenizer_json():
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(END, 259)], "normalizer": None,
        "pre_tokenizer": dict(level), "post_processor": None, "decoder": dict(level),
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": dict(VOCAB), "merges": [f"{a} {b}" for a, b in MERGES]},
    }


WORD_MERGES = [("t", "o</w>"), ("b", "e</w>")]
WORD_VOCAB = {t: i for i, t in enumerate(["<unk>", "t", "o", "b", "e", "t</w>", "o</w>", "e</w>", "to</w>", "be</w>"])}


def words_json():
    file = tokenizer_json()
    file["added_tokens"] = [added("<unk>", 0)]
    file["normalizer"] = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                          "strip_accents": None, "lowercase": True}
    file["pre_tokenizer"] = {"type": "BertPreTokenizer"}
    file["decoder"] = {"type": "BPEDecoder", "suffix": "</w>"}
    file["model"].update(unk_token="<unk>", end_of_word_suffix="</w>", vocab=dict(WORD_VOCAB),
                         merges=[f"{a} {b}" for a, b in WORD_MERGES])
    return file


def merges_txt(merges):
    return ("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)).encode("utf-8")


# ---- configurations ----------------------------------------------------------------------------------------------

GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new", "vocab_size": 260,
    "n_positions": 4, "n_ctx": 4, "n_embd": 1, "n_layer": 1, "n_head": 1, "n_inner": None, "layer_norm_epsilon": 1e-05,
    "initializer_range": 0.02, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1, "bos_token_id": 259,
    "eos_token_id": 259, "tie_word_embeddings": True,
}
GPT1 = {
    "model_type": "openai-gpt", "architectures": ["OpenAIGPTLMHeadModel"], "afn": "gelu", "vocab_size": 10,
    "n_positions": 4, "n_embd": 2, "n_layer": 1, "n_head": 1, "layer_norm_epsilon": 1e-05, "initializer_range": 0.02,
    "embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1,
}

# ---- folders that open -------------------------------------------------------------------------------------------

TENSORS = gpt2_tensors(260, 4, 1)
HEADER, DATA = entries(TENSORS)
WEIGHTS = joined(HEADER, DATA)
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
MAP = {t[0]: SHARDS[0 if i < 8 else 1] for i, t in enumerate(TENSORS)}
RELEASE_SHAPES = [[4, 12], [10, 12]] + [[1, 12, 36], [36], [1, 12, 12], [12], [12], [12], [1, 12, 48], [48],
                                        [1, 48, 12], [12], [12], [12]]


def npy(values, descr="<f4", order="False", version=1, shape=None):
    shape = f"({len(values)},)" if shape is None else shape
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
    header = f"{header:<53}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header + f32(values)


def release():
    flat = numbers(sum(count_of(s) for s in RELEASE_SHAPES), 3)
    step = -(-len(flat) // 10)
    return [flat[i * step:(i + 1) * step] for i in range(10)]


RELEASE = release()

GOOD = {
    "gpt2": {"config.json": text(GPT2), "model.safetensors": WEIGHTS, "tokenizer.json": text(tokenizer_json()),
             "vocab.json": text(VOCAB | {END: 259}), "merges.txt": merges_txt(MERGES)},
    "gpt1": {"config.json": text(GPT1), "model.safetensors": safetensors(gpt1_tensors(10, 4, 2)),
             "tokenizer.json": text(words_json()), "vocab.json": text(WORD_VOCAB), "merges.txt": merges_txt(WORD_MERGES)},
    "shards": {"config.json": text(GPT2), SHARDS[0]: safetensors(TENSORS[:8]), SHARDS[1]: safetensors(TENSORS[8:]),
               "model.safetensors.index.json": text({"metadata": {"total_size": len(DATA)}, "weight_map": MAP}),
               "tokenizer.json": text(tokenizer_json())},
    "openai": {"params_shapes.json": text(RELEASE_SHAPES), "encoder_bpe_40000.json": text(WORD_VOCAB),
               "vocab_40000.bpe": merges_txt(WORD_MERGES)} | {f"params_{i}.npy": npy(p) for i, p in enumerate(RELEASE)},
}

# ---- folders that do not -----------------------------------------------------------------------------------------

CASES = {}


def case(name, base="gpt2", without=(), **files):
    """Files by their names; a keyword cannot have dots, so `FILES` may be a dict under the key `files`."""
    files = files.pop("files", {}) | files
    files |= {f"{n}.absent": b"" for n in without}
    path = f"{base}/{name}"
    assert path not in CASES and files, path
    CASES[path] = files


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"5d" * 32 + b"\nsize 548105171\n"
HTML = b"<!DOCTYPE html>\n<html>\n<head><title>401 Unauthorized</title></head>\n<body>Access is gated.</body>\n</html>\n"
ZIP = b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + b"\x80\x02}q\x00."


def weights(name, file, base="gpt2"):
    case(f"weights-{name}", base, files={"model.safetensors": file})


def header_with(name, tensor="h.0.attn.c_attn.weight", data=None, **fields):
    """The weights with other fields of one tensor; `None` takes one away."""
    header = {k: dict(v) for k, v in HEADER.items()}
    header[tensor] = {k: v for k, v in (header[tensor] | fields).items() if v is not None}
    weights(name, joined(header, DATA if data is None else data))


def tensors_with(name, tensor, dtype=None, shape=None, raw=None):
    changed = [(n, dtype or d, s if shape is None else shape, raw if raw is not None else r) if n == tensor
               else (n, d, s, r) for n, d, s, r in TENSORS]
    weights(name, safetensors(changed))


QKV = "h.0.attn.c_attn.weight"
BEGIN, STOP = HEADER[QKV]["data_offsets"]
RAW = dict((t[0], t[3]) for t in TENSORS)

weights("empty", b"")
weights("of-7-bytes", WEIGHTS[:7])
weights("length-alone", WEIGHTS[:8])
weights("cut-in-header", WEIGHTS[:600])
weights("cut-in-data", WEIGHTS[:-500])
weights("cut-by-a-byte", WEIGHTS[:-1])
weights("header-length-0", joined(HEADER, DATA, 0))
weights("header-length-1-short", joined(HEADER, DATA, len(text(HEADER)) - 1))
weights("header-length-8-long", joined(HEADER, DATA, len(text(HEADER)) + 8))
weights("header-length-2-63", joined(HEADER, DATA, 1 << 63))
weights("header-length-2-64-less-1", joined(HEADER, DATA, (1 << 64) - 1))
weights("header-not-utf8", joined(text(HEADER).replace(b"ln_f.bias", b"ln_f.b\xefas"), DATA))
weights("header-not-json", joined(text(HEADER)[:-1] + b",}", DATA))
weights("header-array", joined(text([HEADER]), DATA))
weights("header-behind-a-space", joined(b" " + text(HEADER), DATA))
weights("header-deep", joined(b'{"a":' * 2000, DATA))
weights("metadata-number", joined({"__metadata__": {"step": 3}} | HEADER, DATA))
weights("metadata-deep", joined(b'{"__metadata__":{"a":' + b"[" * 2000 + b"]" * 2000 + b"}}", DATA))
weights("tensor-twice", joined(text(HEADER)[:-1] + b',"wpe.weight":' + text(HEADER["wpe.weight"]) + b"}", DATA))
weights("tensor-null", joined(HEADER | {"ln_f.bias": None}, DATA))
header_with("dtype-unknown", dtype="F31")
header_with("dtype-number", dtype=32)
header_with("dtype-missing", dtype=None)
header_with("field-unknown", strides=[3, 1])
header_with("offsets-missing", data_offsets=None)
header_with("offsets-reversed", data_offsets=[STOP, BEGIN])
header_with("offsets-overlap", data_offsets=[BEGIN - 4, STOP - 4])
header_with("offsets-gap", data_offsets=[BEGIN + 4, STOP + 4])
header_with("offsets-past-the-end", data_offsets=[BEGIN, len(DATA) + 4])
header_with("offsets-negative", data_offsets=[-4, 8])
header_with("offsets-float", data_offsets=[float(BEGIN), float(STOP)])
header_with("offsets-three", data_offsets=[BEGIN, STOP, STOP])
header_with("shape-overflow", shape=[1 << 32, 1 << 32])
header_with("shape-2-64", shape=[1 << 64, 1])
header_with("shape-negative", shape=[-1, 3])
header_with("shape-text", shape="1, 3")
header_with("shape-not-its-bytes", shape=[1, 4])
header_with("shape-of-nine-dims", shape=[1, 3, 1, 1, 1, 1, 1, 1, 1])
tensors_with("shape-empty", "ln_f.bias", shape=[], raw=f32([0.5]))
tensors_with("shape-with-0", "wte.weight", shape=[0, 1], raw=b"")
tensors_with("transposed", QKV, shape=[3, 1])
tensors_with("flat", QKV, shape=[3])
tensors_with("vocabulary-of-another", "wte.weight", shape=[257, 1], raw=f32(numbers(257, 0)))
tensors_with("nan", QKV, raw=RAW[QKV][:4] + b"\x00\x00\xc0\x7f" + RAW[QKV][8:])
tensors_with("infinite", "ln_f.weight", raw=f32([float("-inf")]))
tensors_with("bf16-infinite", "ln_f.weight", dtype="BF16", raw=b"\x80\x7f")
tensors_with("f16-nan", "ln_f.weight", dtype="F16", raw=b"\x01\x7c")
tensors_with("of-i64", "wpe.weight", dtype="I64", raw=bytes(32))
tensors_with("of-f64", "wpe.weight", dtype="F64", raw=bytes(32))
tensors_with("of-f8", "wpe.weight", dtype="F8_E4M3", raw=bytes(4))
weights("trailing-bytes", WEIGHTS + b"\0\0\0")
weights("tensor-missing", safetensors([t for t in TENSORS if t[0] != "ln_f.bias"]))
weights("tensor-unexpected", safetensors(TENSORS + [("h.0.attn.rotary.inv_freq", "F32", [2], f32([1, 2]))]))
weights("names-of-llama", safetensors([("model.embed_tokens.weight", "F32", [4, 2], f32(numbers(8, 1)))]))
weights("name-with-escapes", safetensors(TENSORS + [("\x1b[2Jx\n\u202e", "F32", [1], f32([1]))]))
weights("both-prefixes", safetensors(TENSORS + [("transformer.wpe.weight", "F32", [4, 1], f32(numbers(4, 1)))]))
weights("no-tensors", joined({}, b""))
weights("git-lfs-pointer", LFS)
weights("web-page", HTML)
weights("pickled-and-renamed", ZIP)
case("weights-pickled", without=["model.safetensors"], files={"pytorch_model.bin": ZIP})
case("weights-none", without=["model.safetensors"])
case("weights-tensor-missing", "gpt1", files={"model.safetensors": safetensors(gpt1_tensors(10, 4, 2)[:-1])})
case("weights-of-gpt2", "gpt1", files={"model.safetensors": safetensors(gpt2_tensors(10, 4, 2))})


def index(name, value, **files):
    case(f"index-{name}", "shards", files={"model.safetensors.index.json": value} | files)


def mapped(name, tensor, shard):
    changed = {k: v for k, v in (MAP | {tensor: shard}).items() if v is not None}
    index(name, text({"weight_map": changed}))


index("empty", b"")
index("cut", GOOD["shards"]["model.safetensors.index.json"][:300])
index("web-page", HTML)
index("git-lfs-pointer", LFS)
index("array", text([MAP]))
index("without-map", text({"metadata": {}}))
index("map-array", text({"weight_map": list(MAP)}))
index("map-empty", text({"weight_map": {}}))
index("key-twice", text({"weight_map": MAP})[:-2] + b',"wte.weight":"' + SHARDS[1].encode() + b'"}}')
mapped("path-above", "wte.weight", "../model.safetensors")
mapped("path-absolute", "wte.weight", "/etc/model.safetensors")
mapped("path-backslash", "wte.weight", "..\\model.safetensors")
mapped("path-nul", "wte.weight", "a\0.safetensors")
mapped("path-empty", "wte.weight", "")
mapped("shard-pickled", "wte.weight", "pytorch_model-00001-of-00002.bin")
mapped("shard-number", "wte.weight", 1)
mapped("shard-null", "extra", {"file": SHARDS[0]})
mapped("shard-that-is-not-there", "extra", "model-00003-of-00003.safetensors")
mapped("tensor-in-another-shard", "wte.weight", SHARDS[1])
mapped("tensor-of-no-shard", "h.1.ln_1.weight", SHARDS[0])
mapped("tensor-not-named", "wte.weight", None)
case("shard-missing", "shards", without=[SHARDS[1]])
case("shard-cut", "shards", files={SHARDS[1]: GOOD["shards"][SHARDS[1]][:-4]})
case("shard-git-lfs-pointer", "shards", files={SHARDS[0]: LFS})
case("shard-with-a-tensor-of-the-other", "shards", files={SHARDS[1]: safetensors(TENSORS[7:])})


def config(name, value, base="gpt2"):
    case(f"config-{name}", base, files={"config.json": value})


def field(name, base="gpt2", **fields):
    own = GPT2 if base == "gpt2" else GPT1
    config(name, text({k: v for k, v in (own | fields).items() if v is not ...}), base)


def literal(name, key, value):
    """A value that JSON does not have."""
    config(name, text(GPT2 | {key: "HERE"}).replace(b'"HERE"', value))


case("config-missing", without=["config.json"])
config("empty", b"")
config("array", text([GPT2]))
config("null", b"null\n")
config("cut", text(GPT2)[:200])
config("byte-order-mark", b"\xef\xbb\xbf" + text(GPT2))
config("utf-16", text(GPT2).decode().encode("utf-16"))
config("latin-1", text(GPT2 | {"name": "HERE"}).replace(b"HERE", b"caf\xe9"))
config("web-page", HTML)
config("git-lfs-pointer", LFS)
config("yaml", b"model_type: gpt2\nn_layer: 1\n")
config("single-quotes", text(GPT2).replace(b'"', b"'"))
config("comment", text(GPT2)[:-1] + b"} // tiny\n")
config("trailing-comma", text(GPT2)[:-1] + b",}")
config("key-twice", text(GPT2)[:-1] + b',"n_layer":2}')
config("deep", text(GPT2)[:-1] + b',"a":' + b"[" * 200 + b"]" * 200 + b"}")
config("cut-surrogate", text(GPT2)[:-1] + b',"name":"\\ud83d"}')
field("heads-that-do-not-divide", n_head=3)
field("heads-0", n_head=0)
field("layers-negative", n_layer=-1)
field("layers-4096-of-one", n_layer=4096)
field("layers-2-32", n_layer=1 << 32)
field("embd-float", n_embd=768.5)
field("embd-whole-float", n_embd=2.0)
literal("embd-1e30", "n_embd", b"1e30")
literal("embd-1e999", "n_embd", b"1e999")
literal("epsilon-nan", "layer_norm_epsilon", b"NaN")
literal("epsilon-infinity", "layer_norm_epsilon", b"Infinity")
literal("layers-hexadecimal", "n_layer", b"0x1")
literal("layers-zeros-first", "n_layer", b"01")
field("layers-text", n_layer="12")
field("layers-null", n_layer=None)
field("layers-array", n_layer=[1, 1])
field("model-type-unknown", model_type="llama")
field("model-type-missing", model_type=...)
field("activation-unknown", activation_function="relu")
field("vocabulary-missing", vocab_size=...)
field("vocabulary-2-24", vocab_size=1 << 24)
field("vocabulary-2-64", vocab_size=1 << 64)
field("positions-of-another", n_positions=1024)
field("epsilon-0", layer_norm_epsilon=0)
field("epsilon-text", layer_norm_epsilon="1e-5")
field("dropout-1", resid_pdrop=1.0)
field("end-beyond-the-vocabulary", eos_token_id=50256)
field("inner-of-another", n_inner=3072)
field("scaled-by-layer", scale_attn_by_inverse_layer_idx=True)
field("cross-attention", add_cross_attention=True)
field("tied-text", tie_word_embeddings="true")
field("untied", tie_word_embeddings=False)
field("activation-unknown", "gpt1", afn="swish")
field("layers-2-of-one", "gpt1", n_layer=2)
field("of-gpt2", "gpt1", model_type="gpt2")


def tokenizer(name, edit, base="gpt2"):
    file = tokenizer_json() if base == "gpt2" else words_json()
    edit(file)
    case(f"tokenizer-{name}", base, files={"tokenizer.json": text(file)})


def vocabulary(name, base="gpt2", **ids):
    tokenizer(name, lambda f: f["model"].update(
        vocab={k: v for k, v in (f["model"]["vocab"] | ids).items() if v is not ...}), base)


def merges(name, merge, base="gpt2"):
    tokenizer(name, lambda f: f["model"]["merges"].append(merge), base)


def raw_tokenizer(name, file, base="gpt2"):
    case(f"tokenizer-{name}", base, files={"tokenizer.json": file})


TOKENIZER = text(tokenizer_json())
case("tokenizer-none", without=["tokenizer.json", "vocab.json", "merges.txt"])
raw_tokenizer("empty", b"")
raw_tokenizer("cut", TOKENIZER[:1000])
raw_tokenizer("web-page", HTML)
raw_tokenizer("git-lfs-pointer", LFS)
raw_tokenizer("array", text([1]))
raw_tokenizer("deep", b'{"model":' * 300)
raw_tokenizer("token-twice", TOKENIZER.replace(b'"the":257', b'"th":257'))
raw_tokenizer("cut-surrogate", TOKENIZER.replace(b'"the":257', b'"\\udc00the":257'))
raw_tokenizer("not-utf8", TOKENIZER.replace(b'"the":257', b'"th\xe9":257'))
vocabulary("id-gap", the=300)
vocabulary("id-twice", the=256)
vocabulary("id-negative", the=-1)
vocabulary("id-huge", the=1 << 32)
vocabulary("id-float", the=257.0)
vocabulary("id-text", the="257")
vocabulary("byte-missing", a=..., longer=97)
merges("merge-of-one-part", "the")
merges("merge-of-three-parts", "t h e")
merges("merge-of-three-in-an-array", ["t", "h", "e"])
merges("merge-number", 7)
merges("merge-of-unknown", "the qu")
merges("merge-into-unknown", "a b")
merges("merge-of-nothing", " the")
tokenizer("merges-text", lambda f: f["model"].update(merges="t h"))
tokenizer("merges-missing", lambda f: f["model"].pop("merges"))
tokenizer("vocabulary-missing", lambda f: f["model"].pop("vocab"))
tokenizer("vocabulary-array", lambda f: f["model"].update(vocab=list(VOCAB)))
tokenizer("vocabulary-empty", lambda f: f["model"].update(vocab={}, merges=[]))
tokenizer("model-missing", lambda f: f.pop("model"))
tokenizer("model-wordpiece", lambda f: f["model"].update(type="WordPiece"))
tokenizer("model-unigram", lambda f: f["model"].update(type="Unigram", vocab=[["a", -1.0]]))
tokenizer("of-llama", lambda f: f["model"].update(byte_fallback=True, unk_token="<unk>"))
tokenizer("with-dropout", lambda f: f["model"].update(dropout=0.1))
tokenizer("without-pre-tokenizer", lambda f: f.update(pre_tokenizer=None))
tokenizer("pre-tokenizer-sequence", lambda f: f.update(pre_tokenizer={"type": "Sequence", "pretokenizers": []}))
tokenizer("prefix-space", lambda f: f["pre_tokenizer"].update(add_prefix_space=True))
tokenizer("normalizer", lambda f: f.update(normalizer={"type": "NFC"}))
tokenizer("truncation", lambda f: f.update(truncation={"max_length": 4}))
tokenizer("decoder-of-another", lambda f: f.update(decoder={"type": "WordPiece"}))
tokenizer("larger-than-the-table", lambda f: f["added_tokens"].append(added("<|im_start|>", 260)))
tokenizer("added-collides", lambda f: f.update(added_tokens=[added(END, 258)]))
tokenizer("added-id-of-its-own-twice", lambda f: f["added_tokens"].append(added("<pad>", 259)))
tokenizer("added-twice", lambda f: f["added_tokens"].append(added(END, 260)))
tokenizer("added-other-id", lambda f: f["added_tokens"].append(added("the", 260)))
tokenizer("added-huge", lambda f: f["added_tokens"].append(added("<pad>", 1 << 31)))
tokenizer("added-empty", lambda f: f["added_tokens"].append(added("", 260)))
tokenizer("added-text", lambda f: f.update(added_tokens=END))
tokenizer("added-a-text", lambda f: f.update(added_tokens=[END]))
tokenizer("added-strips", lambda f: f["added_tokens"][0].update(lstrip=True))
tokenizer("without-normalizer", lambda f: f.update(normalizer=None), "gpt1")
tokenizer("of-capitals", lambda f: f["normalizer"].update(lowercase=False), "gpt1")
tokenizer("pre-tokenizer-of-another", lambda f: f.update(pre_tokenizer={"type": "Whitespace"}), "gpt1")
tokenizer("without-unknown", lambda f: f["model"].update(unk_token=None), "gpt1")
tokenizer("of-another-unknown", lambda f: f["model"].update(unk_token="<oov>"), "gpt1")
tokenizer("of-gpt2", lambda f: (f.clear(), f.update(tokenizer_json())), "gpt1")
case("tokenizer-config-cut", files={"tokenizer_config.json": b'{"add_bos_token": true,'})
case("tokenizer-config-text", files={"tokenizer_config.json": b'{"add_bos_token": "yes"}'})


def two(name, base="gpt2", vocab=None, pairs=None):
    files = {"vocab.json": vocab, "merges.txt": pairs}
    case(name, base, without=["tokenizer.json"], files={k: v for k, v in files.items() if v is not None})


PAIRS = merges_txt(MERGES)
FULL = VOCAB | {END: 259}
case("vocab-alone", without=["tokenizer.json", "merges.txt"])
case("merges-alone", without=["tokenizer.json", "vocab.json"])
two("vocab-empty", vocab=b"")
two("vocab-array", vocab=text(list(FULL)))
two("vocab-lines", vocab="\n".join(["!", '"', "#", "the"]).encode())
two("vocab-id-gap", vocab=text(FULL | {"the": 300}))
two("vocab-id-twice", vocab=text(FULL | {"the": 256}))
two("vocab-id-text", vocab=text(FULL | {"the": "257"}))
two("vocab-without-end", vocab=text(VOCAB))
two("vocab-without-a-byte", vocab=text({"longer" if k == "a" else k: v for k, v in FULL.items()}))
two("vocab-larger-than-the-table", vocab=text(FULL | {"more": 260}))
two("merges-empty", pairs=b"")
two("merges-version-alone", pairs=b"#version: 0.2\n")
two("merges-version-later", pairs=b"t h\n#version: 0.2\nth e\n")
two("merges-of-one-part", pairs=PAIRS + b"the\n")
two("merges-of-three-parts", pairs=PAIRS + b"t h e\n")
two("merges-of-two-spaces", pairs=PAIRS + b"t  h\n")
two("merges-with-a-tab", pairs=PAIRS + b"t\th\n")
two("merges-with-counts", pairs=b"t h 1203\nth e 733\n")
two("merges-of-unknown", pairs=PAIRS + b"the qu\n")
two("merges-into-unknown", pairs=PAIRS + b"a b\n")
two("merges-not-utf8", pairs=PAIRS + b"t\xe9 h\n")
two("merges-in-json", pairs=text([list(p) for p in MERGES]))
two("merges-web-page", pairs=HTML)
two("merges-git-lfs-pointer", pairs=LFS)
two("vocab-without-unknown", "gpt1", vocab=text({("a" if k == "<unk>" else k): v for k, v in WORD_VOCAB.items()}))
two("vocab-of-gpt2", "gpt1", vocab=text(FULL), pairs=PAIRS)


def shapes(name, value):
    case(f"shapes-{name}", "openai", files={"params_shapes.json": value})


def array(name, at, file):
    case(f"array-{name}", "openai", files={f"params_{at}.npy": file})


def with_shape(at, shape):
    return text(RELEASE_SHAPES[:at] + [shape] + RELEASE_SHAPES[at + 1:])


LAST = RELEASE[9]
shapes("empty", b"")
shapes("cut", text(RELEASE_SHAPES)[:-1])
shapes("object", text({"wte": [10, 12]}))
shapes("none", b"[]")
shapes("of-no-block", text(RELEASE_SHAPES[:2]))
shapes("one-less", text(RELEASE_SHAPES[:-1]))
shapes("negative", with_shape(3, [-36]))
shapes("of-four-dims", with_shape(3, [1, 1, 1, 36]))
shapes("positions-flat", with_shape(0, [48]))
shapes("heads-that-do-not-divide", text([[4, 10], [10, 10]] + RELEASE_SHAPES[2:]))
shapes("vocabulary-2-40", with_shape(1, [1 << 40, 12]))
shapes("of-another-width", with_shape(2, [1, 12, 35]))
shapes("vocabulary-of-another", with_shape(1, [11, 12]))
array("empty", 0, b"")
array("of-text", 9, b"NUMPY 1.0")
array("cut-in-header", 9, npy(LAST)[:30])
array("cut", 9, npy(LAST)[:-5])
array("of-f64", 9, npy(LAST, descr="<f8"))
array("big-endian", 9, npy(LAST, descr=">f4"))
array("version-3", 9, npy(LAST, version=3))
array("of-two-dims", 9, npy(LAST, shape=f"({len(LAST)}, 1)"))
array("too-long", 9, npy(LAST + [0.5, 0.5]))
array("nan", 4, npy([float("nan")] + RELEASE[4][1:]))
array("git-lfs-pointer", 3, LFS)
case("array-missing", "openai", without=["params_7.npy"])
case("encoder-id-gap", "openai", files={"encoder_bpe_40000.json": text(WORD_VOCAB | {"be</w>": 12})})
case("encoder-alone", "openai", without=["vocab_40000.bpe"])
case("bpe-of-unknown", "openai", files={"vocab_40000.bpe": merges_txt(WORD_MERGES + [("x", "y</w>")])})


def write(folder, files):
    folder.mkdir(parents=True)
    for name, contents in files.items():
        (folder / name).write_bytes(contents)


def main():
    for kind, folders in [("good", GOOD), ("cases", CASES)]:
        shutil.rmtree(HERE / kind, ignore_errors=True)
        for name, files in folders.items():
            write(HERE / kind / name, files)
    total = sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file())
    print(f"{len(CASES)} cases, {total} bytes")


if __name__ == "__main__":
    main()
