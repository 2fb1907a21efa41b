"""Tensors of PyTorch through the C library without a copy, by DLPack: activations in, codes and reconstructions out,
steering in place. On a GPU nothing leaves it.

usage: torch_tensors.py <libpersonascope.so> <sae folder> [device]      device: cpu, cuda, cuda:N or auto
"""

import ctypes
import sys

import torch
from torch.utils import dlpack

Handle = ctypes.c_void_p
Out = ctypes.POINTER(Handle)
floats = ctypes.POINTER(ctypes.c_float)

# A capsule holds a DLManagedTensor under one name until somebody takes it, then under the other.
api = ctypes.pythonapi
api.PyCapsule_GetPointer.restype, api.PyCapsule_GetPointer.argtypes = Handle, [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_New.restype, api.PyCapsule_New.argtypes = ctypes.py_object, [Handle, ctypes.c_char_p, Handle]
UNUSED, USED = b"dltensor", b"used_dltensor"

DTYPES = {torch.float32: b"F32", torch.bfloat16: b"BF16", torch.float16: b"F16"}
OPERATIONS = {"add": 0, "ablate": 1, "clamp": 2, "project": 3}


class Steering(ctypes.Structure):
    """personascope_steering"""

    _fields_ = [
        ("struct_size", ctypes.c_uint64),
        ("operation", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        *[(name, ctypes.c_uint64) for name in ("width", "groups", "dimensions")],
        *[(name, Handle) for name in ("vectors", "amounts", "low", "high", "centre", "mask", "group")],
    ]


class Library:
    """The functions of personascope.h that are used here; a failing one raises its error's text."""

    SIGNATURES = {
        "sae_load_on": [ctypes.c_char_p, ctypes.c_char_p, Out],
        "sae_encode_tensor": [Handle, Handle, Out],
        "sae_decode_tensor": [Handle, Handle, Handle, Handle],
        "device_codes_tensors": [Handle, Out, Out, Out],
        "tensor_from_dlpack": [Handle, Out],
        "tensor_to_dlpack": [Handle, Out],
        "steer": [Handle, ctypes.POINTER(Steering)],
    }

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.personascope_last_error.restype = ctypes.c_char_p
        for name, arguments in self.SIGNATURES.items():
            getattr(self.library, f"personascope_{name}").argtypes = arguments
        for name in ("sae_destroy", "device_codes_destroy", "tensor_destroy"):
            function = getattr(self.library, f"personascope_{name}")
            function.argtypes, function.restype = [Handle], None

    def call(self, name, *arguments):
        if getattr(self.library, f"personascope_{name}")(*arguments) != 0:
            raise RuntimeError(self.library.personascope_last_error().decode())

    def make(self, name, *arguments):
        """What a call gives out last."""
        made = Handle()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def destroy(self, kind, *handles):
        for handle in handles:
            getattr(self.library, f"personascope_{kind}_destroy")(handle)

    def take(self, tensor):
        """A tensor of torch, as a personascope_tensor over the same memory."""
        capsule = dlpack.to_dlpack(tensor)
        taken = self.make("tensor_from_dlpack", api.PyCapsule_GetPointer(capsule, UNUSED))
        api.PyCapsule_SetName(capsule, USED)  # ours now
        return taken

    def give(self, tensor):
        """The other way round."""
        return dlpack.from_dlpack(api.PyCapsule_New(self.make("tensor_to_dlpack", tensor), UNUSED, None))


class Sae:
    def __init__(self, library, folder, device="auto"):
        self.library = library
        self.handle = library.make("sae_load_on", folder.encode(), device.encode())

    def __del__(self):
        if hasattr(self, "handle"):
            self.library.destroy("sae", self.handle)

    def encode(self, x):
        """Codes of x [..., width], kept for `decode`, and their values [pairs], a tensor on the same device."""
        taken = self.library.take(x)
        try:
            codes = self.library.make("sae_encode_tensor", self.handle, taken)
        finally:
            self.library.destroy("tensor", taken)
        values = Handle()
        self.library.call("device_codes_tensors", codes, None, None, ctypes.byref(values))
        try:
            return codes, self.library.give(values)
        finally:
            self.library.destroy("tensor", values)

    def decode(self, codes, out):
        """Writes reconstructions to out [..., width]."""
        taken = self.library.take(out)
        try:
            self.library.call("sae_decode_tensor", self.handle, codes, None, taken)
        finally:
            self.library.destroy("tensor", taken)
        return out


def steer(library, x, operation, vector, amount=0.0):
    """Changes rows of x in place along a vector (of unit length, but for 'add'), an array of the host."""
    vector, amounts = vector.contiguous(), (ctypes.c_float * 1)(amount)
    steering = Steering(struct_size=ctypes.sizeof(Steering), operation=OPERATIONS[operation], width=vector.numel())
    steering.vectors = vector.data_ptr()
    steering.amounts = steering.low = steering.high = ctypes.addressof(amounts)
    taken = library.take(x)
    try:
        library.call("steer", taken, ctypes.byref(steering))
    finally:
        library.destroy("tensor", taken)


def main():
    library = Library(sys.argv[1])
    device = sys.argv[3] if len(sys.argv) > 3 else "auto"
    sae = Sae(library, sys.argv[2], device)
    width = ctypes.CDLL(sys.argv[1]).personascope_sae_width
    width.argtypes, width.restype = [Handle], ctypes.c_uint64
    d_model = width(sae.handle)
    place = "cuda" if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()) else "cpu"
    x = torch.randn(16, d_model, device=place)
    codes, values = sae.encode(x)
    out = sae.decode(codes, torch.empty_like(x))
    print(f"{values.numel()} codes on {values.device}, unexplained share {((out - x) ** 2).sum() / (x**2).sum():.4f}")
    direction = torch.nn.functional.normalize(torch.randn(d_model), dim=0)
    steer(library, x, "ablate", direction)
    print(f"along the ablated direction {(x.cpu() @ direction).abs().max():.1e}")
    library.destroy("device_codes", codes)


if __name__ == "__main__":
    main()
