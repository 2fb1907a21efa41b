"""What the peers share: the hello, the data that bench/native wrote, and commands that are timed.

A script says hello with {"version"} or {"absent", "install"} and then answers one JSON line a command.
"""

import json
import mmap
import struct
import sys
import time

INSTALL = {
    "numpy": "apt-get install python3-numpy libopenblas0-pthread",
    "torch": "apt-get install python3-torch python3-numpy libopenblas0-pthread",
    "faiss": "apt-get install python3-faiss libopenblas0-pthread",
}


def say(**what):
    print(json.dumps(what), flush=True)


def need(*modules):
    """The modules; without one of them the peer is absent. OpenBLAS must be what numpy and torch compute with."""
    found = []
    for name in modules:
        try:
            found.append(__import__(name))
        except ImportError as error:
            say(absent=str(error), install=INSTALL[name])
            sys.exit(0)
    with open("/proc/self/maps") as maps:
        if "numpy" in modules and "openblas" not in maps.read().lower():
            say(absent="OpenBLAS is not installed", install=INSTALL["numpy"])
            sys.exit(0)
    return found


def tensors(folder):
    """The tensors of the SAE as arrays over the mapped file; bf16 as uint16."""
    import numpy

    file = open(f"{folder}/sae/sae.safetensors", "rb")
    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (size,) = struct.unpack("<Q", view[:8])
    dtypes = {"F32": numpy.float32, "BF16": numpy.uint16}
    return {
        name: numpy.frombuffer(view, dtypes[entry["dtype"]], -1 if entry["shape"] == [] else
                               int(numpy.prod(entry["shape"])), 8 + size + entry["data_offsets"][0]).reshape(entry["shape"])
        for name, entry in json.loads(view[8 : 8 + size]).items()
    }


def floats(array, piece=1 << 16):
    """A tensor in fp32, in memory of its own."""
    import numpy

    if array.dtype == numpy.float32:
        return array.copy()
    out = numpy.empty(array.shape, numpy.float32)
    for first in range(0, len(array), piece):
        part = array[first : first + piece].astype(numpy.uint32)
        out[first : first + piece] = (part << 16).view(numpy.float32)
    return out


def timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "cpuSeconds": time.process_time() - cpu}


def answer(commands):
    for line in sys.stdin:
        name, *words = line.split()
        if name in commands:
            say(**commands[name](*words))
        else:
            say(error=f"unknown command '{name}'")
