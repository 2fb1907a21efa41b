"""Other ways to decode, gather statistics and steer, on the data and codes that bench/native/bandwidth.cc wrote.

usage: bandwidth.py torch|numpy FOLDER LATENTS WIDTH K TOKENS

Commands: decode, stats, steer <add|ablate|clamp|project> are timed; `write <name>` keeps what the last one made.
"""

import os
import sys

from common import answer, floats, need, say, tensors, timed

peer, folder, (latents, width, k, tokens) = sys.argv[1], sys.argv[2], map(int, sys.argv[3:7])
numpy, module = need("numpy", peer)
amount = numpy.float32(0.5)


def read(name, dtype, *shape):
    return numpy.fromfile(f"{folder}/{name}", dtype, int(numpy.prod(shape))).reshape(shape)


class Numpy:
    def __init__(self):
        self.indices = read("codes.indices.u32", numpy.uint32, tokens, k).astype(numpy.int64)
        self.values = read("codes.values.f32", numpy.float32, tokens, k)
        self.v = read("vector.f32", numpy.float32, width)
        self.w = self.x = self.sums = None

    def decode(self):
        if self.w is None:
            self.w = floats(tensors(folder)["W_dec"])
            self.out = numpy.empty((tokens, width), numpy.float32)
        for t in range(tokens):
            numpy.matmul(self.values[t], self.w[self.indices[t]], out=self.out[t])
        return self.out

    def stats(self):
        """Sum, sum of squares, count and maximum, in float64 as ours are exact."""
        if self.sums is None:
            self.sums = numpy.zeros((3, latents))
            self.max = numpy.zeros(latents, numpy.float32)
        flat, values = self.indices.ravel(), self.values.ravel().astype(numpy.float64)
        self.sums[0] += numpy.bincount(flat, values, latents)
        self.sums[1] += numpy.bincount(flat, values * values, latents)
        self.sums[2] += numpy.bincount(flat, minlength=latents)
        numpy.maximum.at(self.max, flat, self.values.ravel())
        return self.sums[0]

    def steer(self, kind):
        if self.x is None:
            self.x = read("x.f32", numpy.float32, tokens, width)
        if kind == "add":
            self.x += amount * self.v
            return self.x
        along = self.x @ self.v
        if kind == "project":
            numpy.multiply(along[:, None], self.v, out=self.x)
        else:
            change = -along if kind == "ablate" else amount - along
            self.x += change[:, None] * self.v
        return self.x


class Torch(Numpy):
    def __init__(self):
        super().__init__()
        module.set_grad_enabled(False)
        module.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        for name in ("indices", "values", "v"):
            setattr(self, name, module.from_numpy(getattr(self, name)))

    def decode(self):
        if self.w is None:
            self.w = module.from_numpy(floats(tensors(folder)["W_dec"]))
        bag = module.nn.functional.embedding_bag
        return bag(self.indices, self.w, per_sample_weights=self.values, mode="sum").numpy()

    def stats(self):
        if self.sums is None:
            self.sums = module.zeros(3, latents, dtype=module.float64)
            self.max = module.zeros(latents)
        flat, values = self.indices.ravel(), self.values.ravel().double()
        self.sums[0].index_add_(0, flat, values)
        self.sums[1].index_add_(0, flat, values * values)
        self.sums[2] += module.bincount(flat, minlength=latents)
        self.max.scatter_reduce_(0, flat, self.values.ravel(), "amax")
        return self.sums[0].numpy()

    def steer(self, kind):
        if self.x is None:
            self.x = module.from_numpy(read("x.f32", numpy.float32, tokens, width))
        if kind == "add":
            self.x.add_(self.v, alpha=float(amount))
        else:
            along = self.x @ self.v
            if kind == "project":
                module.mul(along[:, None], self.v, out=self.x)
            else:
                self.x.addr_(-along if kind == "ablate" else amount - along, self.v)
        return self.x.numpy()


contender = Torch() if peer == "torch" else Numpy()
made = None


def run(method):
    def command(*words):
        def work():
            global made
            made = method(*words)

        return timed(work)

    return command


def write(name):
    made.astype(numpy.float32).tofile(f"{folder}/{name}.f32")
    return {"values": made.size}


say(version=f"{module.__name__} {module.__version__}")
answer({
    "decode": run(contender.decode),
    "stats": run(contender.stats),
    "steer": run(contender.steer),
    "write": write,
})
