"""The C library as its users get it: installs a build, moves the installed tree, and from it builds and runs the
examples (C99 by pkg-config, by the archive and by the CMake package; Python's ctypes). What they print is compared with
float64 formulas. Standard library only.

usage: check.py <cmake> <build folder> <source folder> <c compiler>
"""

import array
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

LATENTS, WIDTH, K, TOKENS = 60, 12, 5, 5000  # more tokens than the example reads at once


def run(*command, env=None, status=0):
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    if done.returncode != status:
        sys.exit(f"{' '.join(command)}: status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}")
    return done.stdout if status == 0 else done.stderr


def f32(values):
    return array.array("f", values)


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * len(values)]}
        data += values.tobytes()
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


class Example:
    """An SAE, activations, and what float64 arithmetic says of them."""

    def __init__(self, folder, architecture):
        source = random.Random(1)
        normal = lambda count: f32(source.gauss(0, 1) for _ in range(count))
        w_enc, w_dec = normal(LATENTS * WIDTH), normal(LATENTS * WIDTH)  # [latents, width]
        b_enc, b_dec, self.x = normal(LATENTS), normal(WIDTH), normal(TOKENS * WIDTH)
        transposed = f32(w_enc[l * WIDTH + i] for i in range(WIDTH) for l in range(LATENTS))
        tensors = {
            "W_enc": ([WIDTH, LATENTS], transposed),
            "W_dec": ([LATENTS, WIDTH], w_dec),
            "b_enc": ([LATENTS], b_enc),
            "b_dec": ([WIDTH], b_dec),
        }
        rule = {"topk": {"k": K, "rescale_acts_by_decoder_norm": False}, "jumprelu": {}}[architecture]
        threshold = [source.uniform(-1, 6) for _ in range(LATENTS)] if architecture == "jumprelu" else [0] * LATENTS
        tensors["threshold"] = ([LATENTS], f32(threshold))
        write_safetensors(os.path.join(folder, "sae_weights.safetensors"), tensors)
        config = {"architecture": architecture, "d_in": WIDTH, "d_sae": LATENTS, "dtype": "float32", "device": "cpu",
                  "apply_b_dec_to_input": True, **rule,
                  "normalize_activations": "none", "reshape_activations": "none",
                  "metadata": {"sae_lens_version": "6.18.0", "model_name": "é", "tags": [1, None, {"a": True}]}}
        with open(os.path.join(folder, "cfg.json"), "w") as file:
            json.dump(config, file)
        self.activations = os.path.join(folder, "activations.f32")
        with open(self.activations, "wb") as file:
            file.write(self.x.tobytes())
        self.codes = []
        for t in range(TOKENS):
            x = [self.x[t * WIDTH + i] - b_dec[i] for i in range(WIDTH)]
            pre = [(sum(w_enc[l * WIDTH + i] * x[i] for i in range(WIDTH)) + b_enc[l], l) for l in range(LATENTS)]
            most = K if architecture == "topk" else LATENTS
            chosen = [(h, l) for h, l in pre if h > max(0, tensors["threshold"][1][l])]
            self.codes.append([(l, h) for h, l in sorted(chosen, key=lambda p: (-p[0], p[1]))[:most]])

    def check(self, who, output):
        lines = output.strip().split("\n")
        first = [(int(l), float(v)) for l, v in (pair.split(":") for pair in lines[0].split()[2:])]
        close = lambda a, b: abs(a - b) <= 1e-5 * max(1, abs(b))
        good = [l for l, _ in first] == [l for l, _ in self.codes[0]]
        good = good and all(close(v, w) for (_, v), (_, w) in zip(first, self.codes[0]))
        values = {l: [v for row in self.codes for m, v in row if m == l] for l in range(LATENTS)}
        wanted = sorted(range(LATENTS), key=lambda l: (-sum(values[l]), l))[:7]
        good = good and len(lines) == 8
        for line, latent in zip(lines[1:], wanted):
            found, mean, active, largest = line.split()
            good = good and int(found) == latent and close(float(mean), sum(values[latent]) / TOKENS)
            good = good and int(active) == len(values[latent]) and close(float(largest), max(values[latent]))
        if not good:
            sys.exit(f"{who}: found\n{output}\nexpected codes {self.codes[0]} and latents {wanted}")
        print(f"{who}: passed")


def main():
    cmake, build, source, compiler = sys.argv[1:5]
    with tempfile.TemporaryDirectory() as folder:
        made, prefix = os.path.join(folder, "made"), os.path.join(folder, "moved", "prefix")
        run(cmake, "--install", build, "--prefix", made)
        os.mkdir(os.path.dirname(prefix))
        os.rename(made, prefix)

        packages = next(at for at, _, files in os.walk(prefix) if "personascope.pc" in files)
        config = lambda *what: run("pkg-config", *what, "personascope", env={"PKG_CONFIG_PATH": packages}).split()
        libdir = config("--variable=libdir")[0]
        library = os.path.join(libdir, "libpersonascope.so")
        exported = [line.split()[-1] for line in run("nm", "-D", "--defined-only", library).strip().split("\n")]
        strange = [name for name in exported if not name.startswith("personascope_")]
        if strange or "personascope_sae_load" not in exported:
            sys.exit(f"libpersonascope.so exports {strange or exported}, expected personascope_* and sae_load")

        code = os.path.join(source, "examples", "c", "encode_stats.c")
        strict = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
        programs = {name: os.path.join(folder, name) for name in ("pkg-config", "archive")}
        run(compiler, *strict, code, *config("--cflags", "--libs"), f"-Wl,-rpath,{libdir}", "-o", programs["pkg-config"])
        static = [flag for flag in config("--cflags", "--libs", "--static") if flag != "-lpersonascope"]
        run(compiler, *strict, code, os.path.join(libdir, "libpersonascope.a"), *static, "-o", programs["archive"])
        consumer = os.path.join(folder, "consumer")
        run(cmake, "-S", os.path.dirname(code), "-B", consumer, f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_C_COMPILER={compiler}")
        run(cmake, "--build", consumer)
        programs["CMake package"] = os.path.join(consumer, "encode_stats")

        script = os.path.join(source, "examples", "python", "encode_stats.py")
        for architecture in ("topk", "jumprelu"):
            sae = os.path.join(folder, architecture)
            os.mkdir(sae)
            example = Example(sae, architecture)
            for name, program in programs.items():
                example.check(f"{architecture}, {name}", run(program, sae, example.activations, "7"))
            python = run(sys.executable, script, library, sae, example.activations, "7")
            example.check(f"{architecture}, ctypes", python)

        error = run(programs["CMake package"], os.path.join(folder, "nowhere"), example.activations, status=1)
        if "nowhere" not in error or "cfg.json" not in error:
            sys.exit(f"the error of a missing folder is {error!r}, expected it to name the file")


main()
