"""Other ways to the k largest of relu(W x + b), on the data that bench/native/sae_data.cc wrote.

usage: encode.py torchFp32|torchBf16|faiss|numpy FOLDER LATENTS WIDTH K TOKENS

  torchFp32  linear + relu + topk, at the chunk of tokens that is quickest here
  torchBf16  the same with weights and activations in bf16; topk over fp32
  faiss      IndexFlatIP. It knows no bias: it gets x minus the data's mean, for which the bias is the same for all
             latents (see sae_data.cc), and that constant is added to what it finds.
  numpy      sgemm + argpartition, chunked likewise

Commands: `tune` finds the chunk, `encode` is timed, `write <name>` keeps what encode found.
"""

import sys

from common import answer, floats, need, say, tensors, timed

peer, folder, (latents, width, k, tokens) = sys.argv[1], sys.argv[2], map(int, sys.argv[3:7])
MODULES = {"torchFp32": "torch", "torchBf16": "torch", "faiss": "faiss", "numpy": "numpy"}
numpy, module = need("numpy", MODULES[peer])


class Torch:
    def __init__(self, dtype):
        module.set_grad_enabled(False)
        module.set_num_threads(THREADS)
        self.w = module.from_numpy(floats(DATA["encoder.weight"])).to(dtype)
        self.b = module.from_numpy(floats(DATA["encoder.bias"])).to(dtype)
        self.x = module.from_numpy(x).to(dtype)

    def encode(self, chunk):
        for first in range(0, tokens, chunk):
            pre = module.nn.functional.linear(self.x[first : first + chunk], self.w, self.b).float()
            yield tuple(part.numpy() for part in module.topk(module.relu_(pre), k, dim=1))


class Faiss:
    def __init__(self):
        module.omp_set_num_threads(THREADS)
        self.index = module.IndexFlatIP(width)
        for first in range(0, latents, 1 << 16):
            self.index.add(floats(DATA["encoder.weight"][first : first + (1 << 16)]))
        centre = numpy.fromfile(f"{folder}/centre.f32", numpy.float32)
        self.x = numpy.ascontiguousarray(x - centre)
        self.constant = numpy.float32(DATA["encoder.bias"][0] + floats(DATA["encoder.weight"][:1])[0] @ centre)

    def encode(self, chunk):
        for first in range(0, tokens, chunk):
            values, indices = self.index.search(self.x[first : first + chunk], k)
            yield numpy.maximum(values + self.constant, 0), indices


class Numpy:
    def __init__(self):
        self.w = floats(DATA["encoder.weight"])
        self.b = floats(DATA["encoder.bias"])

    def encode(self, chunk):
        for first in range(0, tokens, chunk):
            pre = x[first : first + chunk] @ self.w.T
            pre += self.b
            indices = numpy.argpartition(pre, latents - k, axis=1)[:, latents - k :]
            values = numpy.take_along_axis(pre, indices, axis=1)
            order = numpy.argsort(-values, axis=1)
            yield (
                numpy.maximum(numpy.take_along_axis(values, order, axis=1), 0),
                numpy.take_along_axis(indices, order, axis=1),
            )


import os

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
DATA = tensors(folder)
x = numpy.fromfile(f"{folder}/x.f32", numpy.float32, tokens * width).reshape(tokens, width)
contender = {
    "torchFp32": lambda: Torch(module.float32),
    "torchBf16": lambda: Torch(module.bfloat16),
    "faiss": Faiss,
    "numpy": Numpy,
}[peer]()
chunk = min(tokens, 64)


def tune():
    """The chunk for which a few tokens take the least time each; dense blocks stay below 4 GB."""
    global chunk
    if peer == "faiss":  # it has blocks of its own
        chunk = tokens
        return {"chunk": chunk}
    most = max(8, (1 << 30) // latents)
    tried = {}
    for size in sorted({min(tokens, size, most) for size in (8, 16, 32, 64, 128, 256, 512)}):
        parts = contender.encode(size)
        next(parts)
        tried[size] = timed(lambda: next(contender.encode(size)))["cpuSeconds"] / size
    chunk = min(tried, key=tried.get)
    return {"chunk": chunk}


def write(name):
    parts = list(contender.encode(chunk))
    values = numpy.concatenate([part[0] for part in parts]).astype(numpy.float32)
    indices = numpy.concatenate([part[1] for part in parts]).astype(numpy.uint32)
    indices.tofile(f"{folder}/{name}.indices.u32")
    values.tofile(f"{folder}/{name}.values.f32")
    (values > 0).sum(axis=1).astype(numpy.uint32).tofile(f"{folder}/{name}.counts.u32")
    return {"rows": len(values)}


say(version=f"{module.__name__} {module.__version__}")
answer({
    "tune": tune,
    "encode": lambda: timed(lambda: [None for _ in contender.encode(chunk)]),
    "write": write,
})
