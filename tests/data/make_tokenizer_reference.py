#!/usr/bin/env python3
"""Ids of the published GPT-1 and GPT-2 vocabularies by transformers, for a test with real data.

Writes tokenizer_strings.json beside this file:

  strings            texts: Unicode of every plane, combining marks, emoji, controls, special strings, code, random mixtures
  gpt2, gpt1         for each text the FNV-1a hash (64 bits, hexadecimal) of its ids as little-endian u32
  gpt1_text          for each text that of the UTF-8 of what its GPT-1 ids decode to
  lines              for gpt2 and gpt1 the hash of the ids of all lines of tinyshakespeare.txt, one after the other

Needs transformers; the committed file was made with 5.24.0:
python make_tokenizer_reference.py DATA, where DATA has gpt2/{vocab.json,merges.txt},
gpt1/{encoder_bpe_40000.json,vocab_40000.bpe} and tinyshakespeare.txt.
"""
import json, os, random, shutil, struct, sys, tempfile
from transformers import GPT2Tokenizer, OpenAIGPTTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
BLOCKS = [(0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x600, 0xA00), (0x1E00, 0x2100), (0x2100, 0x2C00), (0x3000, 0x3100),
          (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xF900, 0xFB00), (0xFE00, 0x10000), (0x1D400, 0x1D800), (0x1F300, 0x1FA00)]
CHOSEN = [
    "", " ", "\n", " " * 50, "a" + " " * 33 + "b", "\t\n\r\n  x", "\u00a0\u2003\u3000", "\u0301", "\u0301a",
    "a\u0301\u0302", "e\u0301 \u00e9", "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd",
    "".join(map(chr, range(32))), "\x7f\x80\x9f", "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>",
    "<|endoftext", "<unk>", "x <unk> y", "</w>", "a</w> b", "def f(x):\n    return x  # ok\n\tif a==b: pass",
    "don't we'll I'm you've they'd it's DON'T", "1234567890 3.14 1,000", "\u65e5\u672c\u8a9e \u30c6\u30b9\u30c8 \u4e2d\u6587",
    "\ufb01 \u00bd \u2167 \u0130stanbul \u00df \u01c5", "x" * 3000, "\ufeffbom", "a\u200bb\u200dc", "\u2028\u2029",
]


def strings():
    draw = random.Random(1)
    texts = list(CHOSEN)
    for plane in range(17):
        for _ in range(24):
            scalars = [c for c in (plane * 0x10000 + draw.randrange(0x10000) for _ in range(8)) if not 0xD800 <= c < 0xE000]
            texts.append("".join(map(chr, scalars)))
    for first, last in BLOCKS:
        texts += ["".join(chr(draw.randrange(first, last)) for _ in range(draw.randrange(1, 10))) for _ in range(50)]
    mixture = "aB \n\t'.,!\u00e9\u4e2d\U0001f44d\u0301<|>_-012"
    texts += ["".join(draw.choice(mixture) for _ in range(draw.randrange(1, 30))) for _ in range(950)]
    return texts


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def of_ids(ids):
    return fnv(struct.pack(f"<{len(ids)}I", *ids))


def main():
    data, texts = sys.argv[1], strings()
    lines = open(f"{data}/tinyshakespeare.txt", encoding="utf8").read().split("\n")
    out = {"strings": texts, "lines": {}}
    with tempfile.TemporaryDirectory() as folder:
        # The names that the class looks for.
        shutil.copy(f"{data}/gpt1/encoder_bpe_40000.json", f"{folder}/vocab.json")
        shutil.copy(f"{data}/gpt1/vocab_40000.bpe", f"{folder}/merges.txt")
        both = {"gpt2": GPT2Tokenizer.from_pretrained(f"{data}/gpt2"), "gpt1": OpenAIGPTTokenizer.from_pretrained(folder)}
    for name, tokenizer in both.items():
        def encode(text):
            return tokenizer.encode(text, add_special_tokens=False)
        ids = [encode(text) for text in texts]
        out[name] = [of_ids(i) for i in ids]
        if name == "gpt1":
            out["gpt1_text"] = [fnv(tokenizer.decode(i, clean_up_tokenization_spaces=False).encode()) for i in ids]
        out["lines"][name] = of_ids([i for line in lines for i in encode(line)])
    with open(f"{HERE}/tokenizer_strings.json", "w") as file:
        json.dump(out, file, separators=(",", ":"))
    print(len(texts), "strings")


if __name__ == "__main__":
    main()
