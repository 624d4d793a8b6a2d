#!/usr/bin/env python3
"""GPT-2 in llama.cpp, through its Python package: reading a prompt and writing text, as JSON lines named as `longhand bench
generate --json` names them.

    pip install llama-cpp-python gguf numpy            # the package builds llama.cpp for this very CPU
    benches/beside_llama_cpp.py convert gpt2/ gpt2-f32.gguf [--dtype bf16]     # a folder of transformers' as llama.cpp's file
    benches/beside_llama_cpp.py measure gpt2-f32.gguf --dtype f32 --threads 2 [--batch-size 1,8] [--prompt 512] [--tokens 64]

The folder needs config.json and model.safetensors (f32), and vocab.json and merges.txt, of its own or in --tokenizer FOLDER.
Weights are all of the type that is asked for, vectors and position table f32; the KV cache is f16, llama.cpp's default. Text is
greedy, behind a prompt of 16 tokens, which is read in that time. Medians of --repetitions, behind one that does not count.
"""
import argparse
import ctypes
import json
import os
import statistics
import struct
import time

import numpy as np


def tensors(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
    for name, info in header.items():
        if name != "__metadata__":
            if info["dtype"] != "F32":
                raise SystemExit(f"{path}: {name} is {info['dtype']}, must be F32")
            begin, end = info["data_offsets"]
            yield name.removeprefix("transformer."), data[begin:end].view("<f4").reshape(info["shape"])


def convert(a):
    import gguf

    config = json.load(open(os.path.join(a.folder, "config.json")))
    w = gguf.GGUFWriter(a.file, "gpt2")
    w.add_block_count(config["n_layer"])
    w.add_context_length(config["n_positions"])
    w.add_embedding_length(config["n_embd"])
    w.add_feed_forward_length(4 * config["n_embd"])
    w.add_head_count(config["n_head"])
    w.add_layer_norm_eps(config.get("layer_norm_epsilon", 1e-5))
    w.add_file_type(gguf.LlamaFileType.ALL_F32 if a.dtype == "f32" else gguf.LlamaFileType.MOSTLY_BF16)
    folder = a.tokenizer or a.folder
    vocab = json.load(open(os.path.join(folder, "vocab.json"), encoding="utf-8"))
    merges = open(os.path.join(folder, "merges.txt"), encoding="utf-8").read().split("\n")[1:]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(sorted(vocab, key=vocab.get))
    w.add_token_types([gguf.TokenType.NORMAL] * len(vocab))
    w.add_token_merges([m for m in merges if m])
    w.add_eos_token_id(vocab["<|endoftext|>"])
    w.add_bos_token_id(vocab["<|endoftext|>"])
    parts = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
             "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    for name, data in tensors(os.path.join(a.folder, "model.safetensors")):
        if name.startswith("h."):
            _, layer, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            if part not in parts:
                continue
            to = f"blk.{layer}.{parts[part]}.{kind}"
            data = data.T if data.ndim == 2 else data
        else:
            to = {"wte.weight": "token_embd.weight", "wpe.weight": "position_embd.weight",
                  "ln_f.weight": "output_norm.weight", "ln_f.bias": "output_norm.bias"}.get(name)
            if to is None:
                continue
        data = np.ascontiguousarray(data)
        if a.dtype == "bf16" and data.ndim == 2 and to != "position_embd.weight":
            kind = gguf.GGMLQuantizationType.BF16
            w.add_tensor(to, gguf.quants.quantize(data, kind), raw_dtype=kind)
        else:
            w.add_tensor(to, data)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


class Llama:
    """One model with room for `texts` sequences."""

    def __init__(self, path, threads, texts, prompt):
        import llama_cpp as c

        self.c = c
        quiet = c.llama_log_callback(lambda *_: None)
        self.quiet = quiet
        c.llama_log_set(quiet, ctypes.c_void_p(0))
        c.llama_backend_init()
        mp = c.llama_model_default_params()
        mp.n_gpu_layers = 0
        self.model = c.llama_model_load_from_file(path.encode(), mp)
        if not self.model:
            raise SystemExit(f"{path}: llama.cpp does not read it")
        self.vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        cp = c.llama_context_default_params()
        room = max(2048, 16 * texts, prompt)
        cp.n_ctx, cp.n_batch, cp.n_ubatch, cp.n_seq_max = 1024 * texts, room, 512, texts
        cp.n_threads = cp.n_threads_batch = threads
        self.ctx = c.llama_init_from_model(self.model, cp)
        self.batch = c.llama_batch_init(room, 0, 1)

    def clear(self):
        self.c.llama_memory_clear(self.c.llama_get_memory(self.ctx), True)

    def feed(self, inputs):
        """inputs: for each text the tokens and how many went before; returns the likeliest next token of each."""
        b, at, last = self.batch, 0, []
        for text, (tokens, past) in enumerate(inputs):
            for i, token in enumerate(tokens):
                b.token[at], b.pos[at], b.n_seq_id[at] = token, past + i, 1
                b.seq_id[at][0], b.logits[at] = text, i + 1 == len(tokens)
                at += 1
            last.append(at - 1)
        b.n_tokens = at
        if self.c.llama_decode(self.ctx, b) != 0:
            raise SystemExit("llama_decode failed")
        row = lambda i: np.ctypeslib.as_array(self.c.llama_get_logits_ith(self.ctx, i), (self.vocab,))
        return [int(row(i).argmax()) for i in last]


def measure(a):
    texts = [int(n) for n in a.batch_size.split(",")]
    llama = Llama(a.file, a.threads, max(texts), a.prompt)
    rng = np.random.default_rng(0)

    def report(name, tokens, once):
        times = []
        for i in range(a.repetitions + 1):
            llama.clear()
            began = time.perf_counter()
            once()
            times.append(time.perf_counter() - began)
        s = statistics.median(times[1:])
        print(json.dumps({"name": f"{name}/{a.dtype}", "ms": round(s * 1e3, 3), "tok_s": round(tokens / s, 2)}), flush=True)

    prompt = rng.integers(0, llama.vocab, a.prompt).tolist()
    report(f"prefill/pp{a.prompt}", a.prompt, lambda: llama.feed([(prompt, 0)]))
    for n in texts:
        prompts = [rng.integers(0, llama.vocab, 16).tolist() for _ in range(n)]

        def write():
            following = llama.feed([(p, 0) for p in prompts])
            for i in range(1, a.tokens):
                following = llama.feed([([t], 15 + i) for t in following])

        report(f"generate/tg{a.tokens}" + (f"b{n}" if n > 1 else ""), a.tokens * n, write)


def greedy(a):
    ids = [int(i) for i in a.ids.split(",")]
    llama = Llama(a.file, a.threads, 1, len(ids))
    out, past, feed = [], 0, ids
    for _ in range(a.tokens):
        token = llama.feed([(feed, past)])[0]
        past += len(feed)
        feed = [token]
        out.append(token)
    print(*out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="what", required=True)
    c = sub.add_parser("convert")
    c.add_argument("folder")
    c.add_argument("file")
    c.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    c.add_argument("--tokenizer")
    m = sub.add_parser("measure")
    g = sub.add_parser("greedy", help="the tokens that llama.cpp writes behind --ids, to hold beside another program's")
    for s in (m, g):
        s.add_argument("file")
        s.add_argument("--threads", type=int, default=2)
        s.add_argument("--tokens", type=int, default=64)
    g.add_argument("--ids", required=True)
    m.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="for the names; the file says what it is")
    m.add_argument("--batch-size", default="1")
    m.add_argument("--prompt", type=int, default=512)
    m.add_argument("--repetitions", type=int, default=5)
    a = p.parse_args()
    {"convert": convert, "measure": measure, "greedy": greedy}[a.what](a)


if __name__ == "__main__":
    main()
