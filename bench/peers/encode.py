"""The torch side of bench/encode.bench.mjs: fp32 linear + relu + topk on the data that encode_bench wrote.

Usage: encode.py <folder> <latents> <width> <k> <tokens> <threads>. Answers one JSON line a command:
  chunks   tries sizes of the dense block (tokens at once) and keeps the quickest
  encode   {"seconds", "cpu_seconds", "same_sets": share of tokens whose set of latents is the native one}
"""

import json
import sys
import time

import numpy
import torch


def main():
    folder, (latents, width, k, tokens, threads) = sys.argv[1], map(int, sys.argv[2:7])
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)

    def read(name, shape):
        return torch.from_numpy(numpy.fromfile(f'{folder}/{name}', dtype=numpy.float32).reshape(shape))

    weights, bias, x = read('w.f32', (latents, width)), read('b.f32', (latents,)), read('x.f32', (tokens, width))
    chunk = min(tokens, 64)

    def encode(size):
        parts = []
        for first in range(0, tokens, size):
            pre = torch.nn.functional.linear(x[first : first + size], weights, bias)
            parts.append(torch.topk(torch.relu_(pre), k, dim=1))
        return parts

    print(json.dumps({'ready': True, 'torch': torch.__version__}), flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == 'chunks':
            tried = {}
            for size in sorted({min(tokens, size) for size in (8, 16, 32, 64, 128, 256, 512)}):
                encode(size)
                start = time.process_time()
                encode(size)
                tried[size] = time.process_time() - start
            chunk = min(tried, key=tried.get)
            print(json.dumps({'chunk': chunk, 'tried': tried}), flush=True)
        elif command == 'encode':
            start, cpu = time.perf_counter(), time.process_time()
            parts = encode(chunk)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
            native = numpy.fromfile(f'{folder}/indices.u32', dtype=numpy.uint32).reshape(tokens, k)
            found = torch.cat([part.indices for part in parts]).numpy()
            same = (numpy.sort(found, axis=1) == numpy.sort(native.astype(numpy.int64), axis=1)).all(axis=1).mean()
            print(json.dumps({'seconds': seconds, 'cpu_seconds': cpu_seconds, 'same_sets': float(same)}), flush=True)
        else:
            print(json.dumps({'error': 'unknown command'}), flush=True)


main()
