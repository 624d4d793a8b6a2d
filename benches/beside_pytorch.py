#!/usr/bin/env python3
"""PyTorch beside this program on the same cores, in turn: ours, PyTorch's, ours, PyTorch's, each in a process of its own.

    cargo build --release
    pip install torch transformers
    benches/beside_pytorch.py roofline --only matmul --threads 2
    benches/beside_pytorch.py roofline --only attention --threads 1
    benches/beside_pytorch.py bench train --batch-size 4 --block-size 64 [--compile]
    benches/beside_pytorch.py bench generate --weights f32,bf16 -n 64

What follows --rounds and --compile is a command of longhand; its rows say what PyTorch is to do, and rows that PyTorch has
nothing for are left out. `matmul/MxNxK` is F.linear; `attention_forward/…` scaled_dot_product_attention with is_causal, and
`attention_forward_backward/…` with its backward; `train_step/…` transformers' GPT-2 of 124 million parameters without dropout,
forward, backward and fused AdamW; `prefill/…` and `generate/…` the same model reading a prompt, and writing behind one of 16
tokens with its KV cache, in the type of the row's weights. A row's figures are medians of the rounds, its ratio the median of
PyTorch's time over ours round by round, above 1 where ours is faster, with the least and the greatest behind it.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

VOCABULARY = 50257

# The first argument of the process that a round's second half is.
SECOND_HALF = "--pytorch"


def seconds_of(call, budget=1.5, least=5, most=50):
    """Median seconds of a call, of `least` or more in `budget` seconds, behind two that do not count."""
    call()
    call()
    times, began = [], time.perf_counter()
    while len(times) < least or (len(times) < most and time.perf_counter() - began < budget):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul(m, n, k):
    import torch

    x, w = torch.randn(m, k), torch.randn(n, k)
    with torch.no_grad():
        return seconds_of(lambda: torch.nn.functional.linear(x, w))


def attention(backward, b, h, t, d):
    import torch

    fused = torch.nn.functional.scaled_dot_product_attention
    q, k, v, grad = (torch.randn(b, h, t, d) for _ in range(4))
    if not backward:
        with torch.no_grad():
            return seconds_of(lambda: fused(q, k, v, is_causal=True))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    return seconds_of(lambda: torch.autograd.grad(fused(q, k, v, is_causal=True), leaves, grad))


def gpt2(dtype="f32"):
    import torch
    import transformers

    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**off, attn_implementation="sdpa"))
    return model.to(torch.bfloat16 if dtype == "bf16" else torch.float32)


def train_step(compiled, b, t):
    import torch

    model = gpt2().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(0, VOCABULARY, (b, t + 1))

    def loss_of(inputs, targets):
        logits = model(input_ids=inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    loss = torch.compile(loss_of) if compiled else loss_of

    def step():
        loss(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return seconds_of(step, budget=0, least=8 if b * t < 2048 else 3)


def prefill(tokens, dtype):
    import torch

    model, prompt = gpt2(dtype).eval(), torch.randint(0, VOCABULARY, (1, tokens))
    with torch.no_grad():
        return seconds_of(lambda: model(prompt))


def generate(tokens, texts, dtype):
    import torch

    model, prompt = gpt2(dtype).eval(), torch.randint(0, VOCABULARY, (texts, 16))
    mask = torch.ones_like(prompt)

    def write():
        model.generate(prompt, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0)

    with torch.no_grad():
        return seconds_of(write, least=3, most=5)


def measure(name, compiled):
    """PyTorch's seconds for a row of ours, None for a row that it has nothing for."""
    kind, _, rest = name.partition("/")
    numbers = [int(n) for n in re.findall(r"\d+", rest.split("/")[0])]
    dtype = rest.rpartition("/")[2]
    if kind == "matmul":
        return matmul(*numbers)
    if kind in ("attention_forward", "attention_forward_backward"):
        return attention(kind.endswith("backward"), *numbers)
    if kind == "train_step" and dtype == "f32":
        return train_step(compiled, *numbers)
    if kind == "prefill" and dtype in ("f32", "bf16"):
        return prefill(numbers[0], dtype)
    if kind == "generate" and dtype in ("f32", "bf16"):
        return generate(numbers[0], *(numbers[1:] or [1]), dtype)
    return None


def pytorch(names, threads, compiled):
    """A round's second half: a JSON line for each name."""
    import resource

    import torch

    torch.set_num_threads(threads)
    for name in names:
        s = measure(name, compiled)
        if s is not None:
            gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            print(json.dumps({"name": name, "ms": s * 1e3, "peak_rss_gb": gb}), flush=True)


def rows(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exits with {done.returncode}")
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines()) if "name" in row and "ms" in row}


def main():
    if sys.argv[1:2] == [SECOND_HALF]:
        return pytorch(*json.loads(sys.argv[2]))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=3, help="runs of either side [3]")
    p.add_argument("--compile", action="store_true", help="torch.compile for the training step")
    p.add_argument("--program", default="target/release/longhand", help="ours [target/release/longhand]")
    p.add_argument("command", nargs=argparse.REMAINDER, help="roofline, bench train or bench generate, and its flags")
    a = p.parse_args()
    if not a.command:
        p.error("which command? roofline --only matmul, say")
    if a.rounds < 1:
        p.error(f"--rounds {a.rounds}: must be 1 or more")
    if not os.path.isfile(a.program):
        p.error(f"{a.program}: no such file; `cargo build --release` makes it, or --program names another")
    if any(x.split("=")[0] in ("--preset", "-m", "--model") for x in a.command):
        p.error("PyTorch's side is GPT-2 of 124 million parameters, the default: leave --preset and --model out")
    both = []
    for _ in range(a.rounds):
        ours = rows([a.program, *a.command] + ["--json"] * ("--json" not in a.command))
        if not ours:
            raise SystemExit(f"{' '.join(a.command)}: prints no row with a name and ms")
        threads = max(row["threads"] for row in ours.values())
        both.append((ours, rows([sys.executable, __file__, SECOND_HALF, json.dumps([list(ours), threads, a.compile])])))
    known = [name for name in both[0][0] if all(name in x and name in y for x, y in both)]
    if not known:
        raise SystemExit(f"{' '.join(a.command)}: no row that PyTorch has anything for")
    middle = lambda side, name, key: statistics.median(r[side][name][key] for r in both)
    width = max(map(len, known))
    print(f"{'':{width}}  {'ours, ms':>9}  {'PyTorch, ms':>11}  ratio  least to greatest")
    for name in known:
        ratios = [theirs[name]["ms"] / ours[name]["ms"] for ours, theirs in both]
        print(f"{name:{width}}  {middle(0, name, 'ms'):9.4g}  {middle(1, name, 'ms'):11.4g}  {statistics.median(ratios):5.2f}"
              f"  {min(ratios):.2f} to {max(ratios):.2f}")
        if name.startswith("train_step"):
            print(f"{'… peak memory, GB':{width}}  {middle(0, name, 'peak_rss_gb'):9.2f}  {middle(1, name, 'peak_rss_gb'):11.2f}")


if __name__ == "__main__":
    main()
