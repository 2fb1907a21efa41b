"""Tensors of PyTorch through the shared library, by DLPack (examples/python/torch_tensors.py), against torch's own
arithmetic in float64. Skipped (77) without torch.

usage: check.py <libpersonascope.so> <source folder>
"""

import ctypes
import gc
import json
import os
import struct
import sys
import tempfile

try:
    import torch
except ImportError:
    print("skipped: no torch")
    sys.exit(77)

LATENTS, WIDTH, K, TOKENS = 60, 12, 5, 40


def write_sae(folder, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        values = tensor.contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "sae_weights.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "cfg.json"), "w") as file:
        json.dump({"architecture": "topk", "k": K, "d_in": WIDTH, "d_sae": LATENTS, "apply_b_dec_to_input": True,
                   "metadata": {"sae_lens_version": "6.18.0"}}, file)


def close(found, wanted, what):
    difference = float((found.double().cpu() - wanted.double().cpu()).abs().max())
    if found.shape != wanted.shape or not difference < 1e-5:
        sys.exit(f"{what}: {tuple(found.shape)} differs by {difference} from {tuple(wanted.shape)}")
    print(f"{what}: passed")


def main():
    library_path, source = sys.argv[1:3]
    sys.path.insert(0, os.path.join(source, "examples", "python"))
    import torch_tensors as example

    torch.manual_seed(1)
    w_enc, w_dec = torch.randn(LATENTS, WIDTH), torch.randn(LATENTS, WIDTH)
    b_enc, b_dec = torch.randn(LATENTS), torch.randn(WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        write_sae(folder, {"W_enc": w_enc.T, "W_dec": w_dec, "b_enc": b_enc, "b_dec": b_dec})
        library = example.Library(library_path)
        sae = example.Sae(library, folder, "auto" if torch.cuda.is_available() else "cpu")
        place = "cuda" if torch.cuda.is_available() else "cpu"

        wide = torch.randn(TOKENS, WIDTH + 4).to(place)
        x = wide[:, 2 : 2 + WIDTH]  # rows with gaps between them
        pre = (x.cpu().double() - b_dec.double()) @ w_enc.double().T + b_enc.double()
        top = torch.topk(pre, K, dim=1)
        codes, values = sae.encode(x)
        close(values, top.values[top.values > 0], "values of codes")
        kept = torch.relu(top.values)
        wanted = (kept[:, :, None] * w_dec.double()[top.indices]).sum(1) + b_dec.double()
        out = torch.full((TOKENS, WIDTH + 4), 7.0, device=place)
        sae.decode(codes, out[:, :WIDTH])
        close(out[:, :WIDTH], wanted, "reconstructions")
        close(out[:, WIDTH:], torch.full((TOKENS, 4), 7.0), "what lies beside them")

        # bf16, and more axes.
        half = x.to(torch.bfloat16).reshape(4, 10, WIDTH)
        _, rounded = sae.encode(half)
        pre = (half.cpu().double().reshape(TOKENS, WIDTH) - b_dec.double()) @ w_enc.double().T + b_enc.double()
        top = torch.topk(pre, K, dim=1).values
        close(rounded, top[top > 0], "values of codes of bf16")

        # What was given out outlives the codes; what was taken is torch's again.
        library.destroy("device_codes", codes)
        copy = values.clone()
        gc.collect()
        close(values, copy, "values beyond the codes")

        vector = torch.nn.functional.normalize(torch.randn(WIDTH), dim=0)
        before, rest = x.clone(), wide[:, :2].clone()
        example.steer(library, x, "ablate", vector)
        close(x, before.cpu() - (before.cpu() @ vector)[:, None] * vector, "ablating in place")
        close(wide[:, :2], rest, "what lies before it")
        example.steer(library, x, "add", 3 * vector, -0.5)
        close(x.cpu() @ vector, torch.full((TOKENS,), -1.5), "adding in place")
        example.steer(library, x, "clamp", vector, 0.25)
        close(x.cpu() @ vector, torch.full((TOKENS,), 0.25), "clamping in place")

        for wrong, text in ((x.T, "gaps"), (torch.zeros(3, WIDTH + 1).to(place), "[3, 13]"),
                            (torch.full_like(x, float("nan")), "NaN")):
            try:
                sae.encode(wrong)
            except RuntimeError as error:
                if text not in str(error):
                    sys.exit(f"found the error {error}, expected '{text}' in it")
            else:
                sys.exit(f"'{text}' was not refused")
        print("refusals: passed")


main()
