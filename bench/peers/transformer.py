#!/usr/bin/env python3
"""Torch's side of bench/transformer.ts: the same GPT-2, weights and data, training steps and sampling.

usage: transformer.py FOLDER THREADS
FOLDER holds model.safetensors, config.json and bench.json {tokens: [[...]], prompts: [[...]], ...}. Says hello, then
reads one command a line, `train <count>` or `sample <count>`, and answers each with one JSON line
{"seconds": wall, "cpuSeconds": of the process, "loss": last loss (train), "tokens": tokens made}.
"""
import json
import math
import os
import struct
import sys
import time

os.environ["OMP_NUM_THREADS"] = sys.argv[2]
os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[2]
import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[2]))


def read_safetensors(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = file.read()
    return {
        name: torch.from_numpy(
            np.frombuffer(data[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"]).copy())
        for name, entry in header.items() if name != "__metadata__"
    }


ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
}


class Gpt2:
    def __init__(self, config, weights):
        self.layers, self.heads = config["n_layer"], config["n_head"]
        self.eps = config["layer_norm_epsilon"]
        self.activation = ACTIVATIONS[config["activation_function"]]
        self.p = {n: torch.nn.Parameter(w) for n, w in weights.items()}

    def block(self, l, x, attend):
        p, h = self.p, f"transformer.h.{l}."
        b, t, d = x.shape
        a = F.layer_norm(x, (d,), p[h + "ln_1.weight"], p[h + "ln_1.bias"], self.eps)
        qkv = torch.addmm(p[h + "attn.c_attn.bias"], a.view(-1, d), p[h + "attn.c_attn.weight"])
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in qkv.view(b, t, 3 * d).split(d, -1))
        o = attend(l, q, k, v).transpose(1, 2).reshape(b * t, d)
        x = x + torch.addmm(p[h + "attn.c_proj.bias"], o, p[h + "attn.c_proj.weight"]).view(b, t, d)
        m = F.layer_norm(x, (d,), p[h + "ln_2.weight"], p[h + "ln_2.bias"], self.eps).view(-1, d)
        m = self.activation(torch.addmm(p[h + "mlp.c_fc.bias"], m, p[h + "mlp.c_fc.weight"]))
        return x + torch.addmm(p[h + "mlp.c_proj.bias"], m, p[h + "mlp.c_proj.weight"]).view(b, t, d)

    def run(self, tokens, first, attend):
        p = self.p
        x = F.embedding(tokens, p["transformer.wte.weight"])
        x = x + p["transformer.wpe.weight"][first : first + tokens.shape[1]]
        for l in range(self.layers):
            x = self.block(l, x, attend)
        return F.layer_norm(x, (x.shape[-1],), p["transformer.ln_f.weight"], p["transformer.ln_f.bias"], self.eps)

    def loss(self, tokens):
        t = tokens.shape[1]
        mask = torch.full((t, t), float("-inf")).triu(1)

        def attend(_, q, k, v):
            scores = torch.matmul(q, k.transpose(-1, -2)) * (1 / math.sqrt(q.shape[-1])) + mask
            return torch.matmul(torch.softmax(scores, -1), v)

        x = self.run(tokens, 0, attend)[:, :-1].reshape(-1, self.p["transformer.wte.weight"].shape[1])
        return F.cross_entropy(x @ self.p["transformer.wte.weight"].t(), tokens[:, 1:].reshape(-1))

    @torch.no_grad()
    def sample(self, prompts, new_tokens):
        """prompts [b, t]; temperature 1 over the whole vocabulary, with a cache of keys and values."""
        b, t = prompts.shape
        width = self.p["transformer.wte.weight"].shape[1] // self.heads
        keys = [torch.empty(b, self.heads, t + new_tokens, width) for _ in range(self.layers)]
        values = [torch.empty_like(k) for k in keys]
        mask = torch.full((t, t), float("-inf")).triu(1)
        at = 0

        def attend(l, q, k, v):
            n = q.shape[2]
            keys[l][:, :, at : at + n] = k
            values[l][:, :, at : at + n] = v
            scores = torch.matmul(q, keys[l][:, :, : at + n].transpose(-1, -2)) * (1 / math.sqrt(width))
            if n > 1:
                scores = scores + mask
            return torch.matmul(torch.softmax(scores, -1), values[l][:, :, : at + n])

        tokens, made = prompts, []
        for _ in range(new_tokens):
            x = self.run(tokens, at, attend)[:, -1]
            at += tokens.shape[1]
            probabilities = torch.softmax(x @ self.p["transformer.wte.weight"].t(), -1)
            tokens = torch.multinomial(probabilities, 1)
            made.append(tokens)
        return torch.cat(made, 1)


def main():
    folder = sys.argv[1]
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    with open(os.path.join(folder, "bench.json")) as file:
        bench = json.load(file)
    model = Gpt2(config, read_safetensors(os.path.join(folder, "model.safetensors")))
    decayed = [v for v in model.p.values() if v.dim() == 2]
    plain = [v for v in model.p.values() if v.dim() == 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": bench["weightDecay"]}, {"params": plain, "weight_decay": 0.0}],
        lr=bench["learningRate"], betas=(0.9, 0.98), eps=1e-8)
    tokens, prompts = torch.tensor(bench["tokens"]), torch.tensor(bench["prompts"])
    print(json.dumps({"version": f"torch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        name, count = line.split()
        count = int(count)
        wall, cpu, answer = time.perf_counter(), time.process_time(), {}
        if name == "train":
            for _ in range(count):
                optimiser.zero_grad(set_to_none=True)
                loss = model.loss(tokens)
                loss.backward()
                optimiser.step()
            answer = {"loss": loss.item(), "tokens": count * tokens.numel()}
        else:
            for _ in range(count):
                made = model.sample(prompts, bench["newTokens"])
            answer = {"tokens": count * made.numel()}
        answer["seconds"], answer["cpuSeconds"] = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
