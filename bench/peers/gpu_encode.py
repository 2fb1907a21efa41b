"""The GPU bench: the CUDA plugin against torch, on the same memory in the same process, contenders alternating.

Usage: gpu_encode.py <plugin> <result.json> [--seconds S] [--latents N] [--width D] [--tokens T] [--k K]

Writes the result after every part, so that what was measured is there whatever comes after. Times are medians of
CUDA-event or wall times around synchronised calls, in milliseconds; ceilings are measured in the same run.
"""

import argparse
import json
import statistics
import sys
import time
import traceback

import torch

import gpu_plugin


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument('plugin')
    parser.add_argument('result')
    parser.add_argument('--seconds', type=float, default=200)
    parser.add_argument('--latents', type=int, default=1 << 21)
    parser.add_argument('--width', type=int, default=4096)
    parser.add_argument('--tokens', type=int, default=4096)
    parser.add_argument('--k', type=int, default=64)
    return parser.parse_args()


def milliseconds(run):
    """Wall time of one call, the device idle before and after."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def alternate(contenders, rounds):
    """{name: median ms} of contenders that take turns; the first round only warms up."""
    times = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            spent = milliseconds(run)
            if turn:
                times[name].append(spent)
    return {name: {'ms': statistics.median(all_times), 'all': all_times} for name, all_times in times.items()}


def ceilings():
    """Copy bandwidth and matrix rates on random data."""
    a = torch.randint(0, 255, (1 << 31,), dtype=torch.uint8, device='cuda')
    b = torch.empty_like(a)
    found = {'copyGBs': 2 * a.numel() / alternate({'copy': lambda: b.copy_(a)}, 7)['copy']['ms'] / 1e6}
    del a, b
    n = 8192
    x, y = (torch.randn(n, n, device='cuda', dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty(n, n, device='cuda', dtype=torch.bfloat16)
    found['bf16Tflops'] = 2 * n**3 / alternate({'mm': lambda: torch.mm(x, y.T, out=out)}, 15)['mm']['ms'] / 1e9
    p, q = (torch.randint(-127, 128, (n, n), device='cuda', dtype=torch.int8) for _ in range(2))
    try:
        found['int8Tops'] = 2 * n**3 / alternate({'mm': lambda: torch._int_mm(p, q.T)}, 15)['mm']['ms'] / 1e9
    except RuntimeError as error:
        found['int8Error'] = str(error)
    return found


def make_weights(latents, width, kind, generator):
    """W [latents, width] bf16, bias, and a function tokens -> x [tokens, width] fp32 of the same kind."""
    weights = torch.empty(latents, width, device='cuda', dtype=torch.bfloat16)
    step = 1 << 16
    families = None
    for first in range(0, latents, step):
        count = min(step, latents - first)
        rows = torch.randn(count, width, device='cuda', generator=generator)
        if kind == 'sae-like':
            # Latents in families of eight near one direction.
            families = torch.randn((count + 7) // 8, width, device='cuda', generator=generator)
            rows = families.repeat_interleave(8, 0)[:count] + 0.6 * rows
        weights[first : first + count] = (rows / rows.norm(dim=1, keepdim=True)).to(torch.bfloat16)
    bias = torch.zeros(latents)

    def tokens(count):
        if kind == 'gaussian':
            return torch.randn(count, width, device='cuda', generator=generator), None
        # A mean with four massive dimensions that hardly vary, 48 latents' directions, and noise.
        mean = torch.randn(width, device='cuda', generator=generator)
        mean[:4] += 30 * mean.norm() / width**0.5
        x = mean + 0.5 * torch.randn(count, width, device='cuda', generator=generator)
        for _ in range(48):
            chosen = torch.randint(0, latents, (count,), device='cuda', generator=generator)
            strength = 4 * torch.rand(count, 1, device='cuda', generator=generator) + 2
            x += strength * weights[chosen].float()
        return x.contiguous(), mean.cpu()

    return weights, bias, tokens


def torch_encode(weights, bias, x, k, chunk):
    """linear + topk over chunks of the latents, then topk of the chunks' codes."""
    values, indices = [], []
    for first in range(0, weights.shape[0], chunk):
        pre = torch.nn.functional.linear(x, weights[first : first + chunk], bias[first : first + chunk])
        top = torch.topk(pre, min(k, pre.shape[1]), dim=1, sorted=False)
        values.append(top.values)
        indices.append(top.indices + first)
    top = torch.topk(torch.cat(values, 1), k, dim=1)
    return torch.relu(top.values), torch.cat(indices, 1).gather(1, top.indices)


def check_sets(codes, weights, x, k, count):
    """Sets of `count` tokens against float64: a set is wrong if it differs beyond what fp32 rounding explains."""
    offsets, indices, _ = codes.read()
    tokens = torch.linspace(0, x.shape[0] - 1, count).long().unique().tolist()
    exact = torch.empty(len(tokens), weights.shape[0], dtype=torch.float64, device='cuda')
    rows = x[tokens].double()
    for first in range(0, weights.shape[0], 1 << 16):
        exact[:, first : first + (1 << 16)] = rows @ weights[first : first + (1 << 16)].double().T
    wrong = different = 0
    for i, token in enumerate(tokens):
        found = torch.from_numpy(indices[int(offsets[token]) : int(offsets[token + 1])].astype('int64')).cuda()
        top = torch.topk(exact[i], k)
        kept = top.values > 0
        wanted = top.indices[kept]
        same = len(found) == len(wanted) and bool((found.sort().values == wanted.sort().values).all())
        different += not same
        if not same:
            # Rows have unit length: rounding is below (width / 64 + 9) 2^-24 |x|.
            slack = 2 * (x.shape[1] / 64 + 9) * 2**-24 * float(rows[i].norm())
            lowest = float(exact[i][found].min()) if len(found) else 0.0
            missed = set(wanted.tolist()) - set(found.tolist())
            highest = max((float(exact[i][latent]) for latent in missed), default=-1e30)
            wrong += len(found) != len(wanted) or highest > lowest + slack
    return {'tokens': len(tokens), 'wrong': wrong, 'differentWithinRounding': different - wrong}


class Bench:
    def __init__(self, args):
        self.args = args
        self.begun = time.perf_counter()
        self.result = {'arguments': {'latents': args.latents, 'width': args.width, 'tokens': args.tokens, 'k': args.k}}
        self.plugin = gpu_plugin.Plugin(args.plugin)
        count, reason = self.plugin.devices()
        self.result['plugin'] = self.plugin.table.build.decode()
        if count == 0:
            self.result['error'] = f'no device: {reason}'
            self.write()
            sys.exit(f'no device: {reason}')
        self.result['device'] = self.plugin.info()
        self.result['torch'] = torch.__version__

    def left(self):
        return self.args.seconds - (time.perf_counter() - self.begun)

    def write(self):
        self.result['seconds'] = round(time.perf_counter() - self.begun, 1)
        with open(self.args.result, 'w') as file:
            json.dump(self.result, file, indent=2)
            file.write('\n')

    def part(self, name, run, needs=5):
        """Runs one part; what fails is told, and the others go on."""
        if self.left() < needs:
            self.result[name] = {'skipped': f'{self.left():.0f} s left, {needs} needed'}
        else:
            try:
                self.result[name] = run()
            except Exception as error:  # noqa: BLE001
                self.result[name] = {'error': f'{type(error).__name__}: {error}'}
                traceback.print_exc()
        torch.cuda.empty_cache()
        self.write()
        print(name, json.dumps(self.result[name])[:600], flush=True)

    def encode(self, kind):
        args = self.args
        n, d, tokens, k = args.latents, args.width, args.tokens, args.k
        generator = torch.Generator(device='cuda').manual_seed(1)
        weights, bias, draw = make_weights(n, d, kind, generator)
        x, mean = draw(tokens)
        half, device_bias = x.to(torch.bfloat16), bias.cuda().to(torch.bfloat16)
        found = {'data': kind}
        free = torch.cuda.mem_get_info()[0]
        bf16 = gpu_plugin.Encoder(self.plugin, weights, bias, gpu_plugin.BF16_SCREEN, mean)
        int8 = gpu_plugin.Encoder(self.plugin, weights, bias, gpu_plugin.INT8_SCREEN, mean)
        counts = {name: gpu_plugin.EncodeCount() for name in ('bf16', 'int8')}
        contenders = {
            'int8': lambda: int8.encode(x, k, count=counts['int8']),
            'bf16': lambda: bf16.encode(x, k, count=counts['bf16']),
        }
        codes = int8.encode(x, k)
        found['sets'] = check_sets(codes, weights, x, k, 64)
        other = bf16.encode(x, k)
        found['precisionsAgree'] = all((a == b).all() for a, b in zip(codes.read(), other.read()))
        found['memory'] = {
            'int8': int8.info(),
            'bf16': bf16.info(),
            'taken': free - torch.cuda.mem_get_info()[0],
        }
        # torch: the quickest of some chunks.
        tried = {}
        for chunk in (1 << 15, 1 << 17, 1 << 18):
            if self.left() < 30:
                break
            torch_encode(weights, device_bias, half, k, chunk)
            tried[chunk] = milliseconds(lambda: torch_encode(weights, device_bias, half, k, chunk))
        if tried:
            best = min(tried, key=tried.get)
            found['torchChunks'] = tried
            contenders['torchBf16'] = lambda: torch_encode(weights, device_bias, half, k, best)
        found['times'] = alternate(contenders, 5)
        found['counts'] = {
            name: {field: getattr(count, field) for field, _ in count._fields_} for name, count in counts.items()
        }
        work = 2 * n * d * tokens / 1e9
        for name in ('int8', 'bf16'):
            found['times'][name]['tops'] = work / found['times'][name]['ms']
        # The kernels one by one.
        kernels = ['portable'] + (['hopper', 'hopper_pair'] if self.result['device']['hopper_kernels'] else [])
        found['kernels'] = {}
        for name, encoder in (('int8', int8), ('bf16', bf16)):
            for kernel in kernels:
                if self.left() > 15:
                    found['kernels'][f'{name} {kernel}'] = alternate(
                        {'run': lambda: encoder.encode(x, k, kernel)}, 2
                    )['run']['ms']
        # A few tokens, as in sampling: bound by reading the screen's copy once.
        found['fewTokens'] = {}
        for few in (1, 4, 16):
            for name, encoder, a_byte in (('int8', int8, 1), ('bf16', bf16, 2)):
                ms = alternate({'run': lambda: encoder.encode(x[:few], k)}, 7)['run']['ms']
                found['fewTokens'][f'{name} {few}'] = {'ms': ms, 'GBs': n * d * a_byte / ms / 1e6}
            ms = alternate({'run': lambda: torch_encode(weights, device_bias, half[:few], k, n)}, 5)['run']['ms']
            found['fewTokens'][f'torch bf16 {few}'] = {'ms': ms}
        return found

    def torch_variants(self):
        """TF32 (weights in fp32, so fewer latents) and torch.compile, with our int8 and bf16 beside them."""
        n, d, tokens, k = min(self.args.latents, 1 << 19), self.args.width, self.args.tokens, self.args.k
        generator = torch.Generator(device='cuda').manual_seed(2)
        weights, bias, draw = make_weights(n, d, 'gaussian', generator)
        x, _ = draw(tokens)
        wide, device_bias = weights.float(), bias.cuda()
        half, half_bias = x.to(torch.bfloat16), bias.cuda().to(torch.bfloat16)
        torch.backends.cuda.matmul.allow_tf32 = True
        encoder = gpu_plugin.Encoder(self.plugin, weights, bias, gpu_plugin.INT8_SCREEN)
        contenders = {
            'int8': lambda: encoder.encode(x, k),
            'torchTf32': lambda: torch_encode(wide, device_bias, x, k, 1 << 17),
            'torchBf16': lambda: torch_encode(weights, half_bias, half, k, 1 << 17),
        }
        found = {'latents': n, 'times': alternate(contenders, 3)}
        if self.left() > 90:
            compiled = torch.compile(torch_encode, dynamic=False)
            contenders['torchBf16Compiled'] = lambda: compiled(weights, half_bias, half, k, 1 << 17)
            found['times'] = alternate(contenders, 3)
        return found

    def streamed(self):
        """Weights on the host, more than the device may take."""
        n, d, k = min(self.args.latents, 1 << 18), self.args.width, self.args.k
        generator = torch.Generator(device='cuda').manual_seed(3)
        weights, bias, draw = make_weights(n, d, 'gaussian', generator)
        x, _ = draw(min(self.args.tokens, 1024))
        resident = gpu_plugin.Encoder(self.plugin, weights, bias, gpu_plugin.INT8_SCREEN)
        on_host = weights.cpu()
        encoder = gpu_plugin.Encoder(
            self.plugin, on_host, bias, gpu_plugin.INT8_SCREEN, weight_bytes=on_host.numel() // 2
        )
        ms = alternate({'run': lambda: encoder.encode(x, k)}, 3)['run']['ms']
        same = all((a == b).all() for a, b in zip(encoder.encode(x, k).read(), resident.encode(x, k).read()))
        return {'info': encoder.info(), 'ms': ms, 'hostGBs': on_host.numel() * 2 / ms / 1e6, 'sameCodes': bool(same)}

    def bandwidth(self):
        """Decode, statistics and steering against the copy bandwidth."""
        import numpy

        from ctypes import byref, c_void_p

        d, k, tokens, latents = self.args.width, self.args.k, 8 * self.args.tokens, min(self.args.latents, 1 << 20)
        decoder = torch.randn(latents, d, device='cuda', dtype=torch.bfloat16)
        random = numpy.random.default_rng(4)
        offsets = numpy.arange(tokens + 1, dtype=numpy.uint64) * k
        indices = random.integers(0, latents, tokens * k, dtype=numpy.uint32)
        values = random.random(tokens * k, dtype=numpy.float32) + numpy.float32(0.5)
        handle = c_void_p()
        table = self.plugin.table
        self.plugin.must(
            table.codes_create(0, tokens, offsets.ctypes.data, indices.ctypes.data, values.ctypes.data, byref(handle))
        )
        codes = gpu_plugin.Codes(self.plugin, handle)
        out = torch.empty(tokens, d, device='cuda')
        stats = c_void_p()
        self.plugin.must(table.stats_create(0, latents, byref(stats)))
        x = torch.randn(2 * tokens, d, device='cuda')
        vector = torch.randn(d)
        pairs = tokens * k
        times = alternate(
            {
                'decode': lambda: self.plugin.decode(codes, decoder, out),
                'stats': lambda: self.plugin.must(table.stats_add(stats, codes.handle)),
                'steer': lambda: self.plugin.steer_add(x, vector, 0.5),
            },
            7,
        )
        bag = torch.nn.functional.embedding_bag
        at = torch.from_numpy(indices.astype('int64')).cuda().view(tokens, k)
        weight = torch.from_numpy(values).cuda().to(torch.bfloat16).view(tokens, k)
        device_vector = vector.cuda()
        peers = alternate(
            {
                'decode': lambda: bag(at, decoder, per_sample_weights=weight, mode='sum'),
                'steer': lambda: x.add_(device_vector, alpha=0.5),
            },
            5,
        )
        # Bytes: rows of W_dec and the output; codes, and a 64-byte line read and written each; activations twice.
        moved = {
            'decode': pairs * (2 * d + 8) + tokens * d * 4,
            'stats': pairs * (8 + 2 * 64),
            'steer': 2 * x.numel() * 4,
        }
        copy = self.result.get('ceilings', {}).get('copyGBs')
        found = {}
        for name, time_ in times.items():
            rate = moved[name] / time_['ms'] / 1e6
            found[name] = {'ms': time_['ms'], 'GBs': rate, 'ofCopy': rate / copy if copy else None}
            if name in peers:
                found[name]['torchMs'] = peers[name]['ms']
        wanted = (decoder[at[:64]].float() * torch.from_numpy(values).cuda().view(tokens, k)[:64, :, None]).sum(1)
        found['decode']['difference'] = float((out[:64] - wanted).norm() / wanted.norm())
        table.stats_destroy(stats)
        return found

    def bars(self):
        """The issue's bars, from what was measured."""
        top = self.result.get('encode gaussian', {}).get('times', {})
        peaks = self.result.get('ceilings', {})
        found = {}
        if 'torchBf16' in top:
            found['encodeOverTorchBf16'] = top['torchBf16']['ms'] / min(top['int8']['ms'], top['bf16']['ms'])
        if 'bf16' in top and 'bf16Tflops' in peaks:
            found['bf16OfMatrixRate'] = top['bf16']['tops'] / peaks['bf16Tflops']
        if 'bf16' in top:
            found['int8OverBf16'] = top['bf16']['ms'] / top['int8']['ms']
        return found


def main():
    bench = Bench(parse())
    torch.set_grad_enabled(False)
    bench.part('ceilings', ceilings)
    bench.part('encode gaussian', lambda: bench.encode('gaussian'), 40)
    bench.part('bandwidth', bench.bandwidth, 15)
    bench.part('encode sae-like', lambda: bench.encode('sae-like'), 40)
    bench.part('streamed', bench.streamed, 15)
    bench.part('torch variants', bench.torch_variants, 30)
    bench.part('bars', bench.bars, 0)


main()
