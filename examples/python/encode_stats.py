"""The C library from Python's ctypes, without any package: loads an SAE (a SAELens folder), encodes activations, and
prints which latents were active most, in the same words as examples/c/encode_stats.c.

usage: encode_stats.py <libpersonascope.so> <sae folder> <activations> [top]
"""

import array
import ctypes
import sys

Handle = ctypes.c_void_p
u32s, f32s, f64s = (ctypes.POINTER(t) for t in (ctypes.c_uint32, ctypes.c_float, ctypes.c_double))


class Personascope:
    """The functions of personascope.h that are used here; a failing one raises its error's text."""

    SIGNATURES = {
        "sae_load": [ctypes.c_char_p, ctypes.POINTER(Handle)],
        "sae_encode_codes": [Handle, f32s, ctypes.c_uint64, ctypes.POINTER(Handle)],
        "stats_create": [ctypes.c_uint64, ctypes.c_int32, ctypes.POINTER(Handle)],
        "stats_add": [Handle, Handle, f32s, ctypes.c_uint64, u32s],
        "stats_read": [Handle, ctypes.POINTER(ctypes.c_uint64), f64s, f64s, f64s, f32s],
    }

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.personascope_last_error.restype = ctypes.c_char_p
        # Those that cannot fail.
        for name, result in {
            "sae_latents": ctypes.c_uint64,
            "sae_width": ctypes.c_uint64,
            "codes_offsets": u32s,
            "codes_indices": u32s,
            "codes_values": f32s,
            "codes_destroy": None,
            "sae_destroy": None,
            "stats_destroy": None,
        }.items():
            function = getattr(self.library, f"personascope_{name}")
            function.argtypes, function.restype = [Handle], result
            setattr(self, name, function)

    def __getattr__(self, name):
        function = getattr(self.library, f"personascope_{name}")
        function.argtypes = self.SIGNATURES[name]

        def call(*arguments):
            if function(*arguments) != 0:
                raise RuntimeError(self.library.personascope_last_error().decode())

        return call


def main():
    library, folder, activations = sys.argv[1:4]
    top = int(sys.argv[4]) if len(sys.argv) > 4 else 10
    c = Personascope(library)
    sae, codes, stats = Handle(), Handle(), Handle()
    c.sae_load(folder.encode(), ctypes.byref(sae))
    latents, width = c.sae_latents(sae), c.sae_width(sae)
    with open(activations, "rb") as file:
        values = array.array("f", file.read())
    tokens = len(values) // width
    x = (ctypes.c_float * len(values)).from_buffer(values)

    c.sae_encode_codes(sae, x, 1, ctypes.byref(codes))
    indices, found = c.codes_indices(codes), c.codes_values(codes)
    print("token 0:", *(f"{indices[i]}:{found[i]:.9g}" for i in range(c.codes_offsets(codes)[1])))
    c.codes_destroy(codes)

    c.stats_create(latents, 0, ctypes.byref(stats))
    c.stats_add(stats, sae, x, tokens, None)
    rows = ctypes.c_uint64()
    total, active, largest = (ctypes.c_double * latents)(), (ctypes.c_double * latents)(), (ctypes.c_float * latents)()
    c.stats_read(stats, ctypes.byref(rows), total, None, active, largest)
    for latent in sorted(range(latents), key=lambda i: (-total[i], i))[:top]:
        if total[latent] > 0:
            print(f"{latent} {total[latent] / rows.value:.9g} {active[latent]:.0f} {largest[latent]:.9g}")
    c.stats_destroy(stats)
    c.sae_destroy(sae)


main()
