#!/usr/bin/env python3
"""Time the products of `longhand roofline --only matmul` in numpy's OpenBLAS: one JSON line a case, {"name", "ms", "gflops"}.

OpenBLAS has no kernels for some newer CPUs and falls back to AVX2 there; `--kernels SkylakeX` forces those for AVX-512.

usage: openblas.py [--threads 1] [--kernels SkylakeX|Zen|Haswell|...]
"""
import argparse, json, os, statistics, time

SHAPES = [(1024, 1024, 1024), (2048, 2048, 2048), (256, 768, 768), (256, 2304, 768), (256, 3072, 768),
          (256, 768, 3072), (4096, 3072, 768), (256, 50257, 768), (8, 3072, 768), (1, 3072, 768), (1, 50257, 768)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--kernels", help="OpenBLAS's name of a CPU whose kernels to use; its own choice otherwise")
    a = p.parse_args()
    # OpenBLAS reads both when it is loaded.
    os.environ["OPENBLAS_NUM_THREADS"] = str(a.threads)
    if a.kernels:
        os.environ["OPENBLAS_CORETYPE"] = a.kernels
    import numpy

    rng = numpy.random.default_rng(1)
    for m, n, k in SHAPES:
        x, w = (rng.uniform(-1, 1, shape).astype(numpy.float32) for shape in [(m, k), (n, k)])
        c = numpy.empty((m, n), numpy.float32)
        times, began = [], time.perf_counter()
        while len(times) < 7 or time.perf_counter() - began < 1.5:
            t = time.perf_counter()
            numpy.matmul(x, w.T, out=c)
            times.append(time.perf_counter() - t)
        # The first two fill the caches and wake the threads.
        seconds = statistics.median(times[2:])
        print(json.dumps({"name": f"matmul/{m}x{n}x{k}", "ms": round(seconds * 1e3, 4),
                          "gflops": round(2 * m * n * k / seconds / 1e9, 2)}), flush=True)


if __name__ == "__main__":
    main()
