"""The CUDA plugin from Python: native/core/device_api.h by ctypes. Tensors of torch are passed where they lie.

The bench needs no Node and no compiler of its own this way, and both contenders work on the same memory.
"""

import ctypes
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_double, c_float, c_int32, c_uint32, c_uint64, c_void_p

VERSION = 1
HOST, DEVICE = 0, 1
BF16_SCREEN, INT8_SCREEN = 1, 2
KERNELS = {'automatic': 0, 'portable': 1, 'narrow': 2, 'hopper': 3, 'hopper_pair': 4}
DTYPES = {'float32': 1, 'float16': 2, 'bfloat16': 3}  # Dtype of native/core/dtype.h


class Info(Structure):
    _fields_ = [
        ('name', c_char * 256),
        ('major', c_int32),
        ('minor', c_int32),
        ('multiprocessors', c_int32),
        ('hopper_kernels', c_int32),
        ('total_bytes', c_uint64),
        ('free_bytes', c_uint64),
        ('cache_bytes', c_uint64),
    ]


class Rows(Structure):
    _fields_ = [
        ('data', c_void_p),
        ('place', c_int32),
        ('dtype', c_int32),
        ('stride', c_uint64),
        ('rows', c_uint64),
        ('width', c_uint64),
    ]


class Check(Structure):
    _fields_ = [('call', c_void_p), ('context', c_void_p)]


class Selection(Structure):
    _fields_ = [
        ('rule', c_int32),
        ('scale', c_void_p),
        ('scaled_codes', ctypes.c_bool),
        ('threshold', c_void_p),
        ('gate_bias', c_void_p),
        ('magnitude_scale', c_void_p),
        ('magnitude_bias', c_void_p),
    ]


class EncoderArgs(Structure):
    _fields_ = [
        ('device', c_int32),
        ('precision', c_int32),
        ('rows', Rows),
        ('bias', c_void_p),
        ('centre', c_void_p),
        ('mean', c_void_p),
        ('selection', POINTER(Selection)),
        ('weight_bytes', c_uint64),
        ('workspace_bytes', c_uint64),
        ('check', Check),
    ]


class EncoderInfo(Structure):
    _fields_ = [('streamed', c_int32), ('weight_bytes', c_uint64), ('workspace_bytes', c_uint64)]


class EncodeArgs(Structure):
    _fields_ = [
        ('x', c_void_p),
        ('place', c_int32),
        ('tokens', c_uint64),
        ('stride', c_uint64),
        ('first_token', c_uint64),
        ('k', c_uint64),
        ('kernel', c_int32),
        ('check', Check),
    ]


class EncodeCount(Structure):
    _fields_ = [('screened', c_uint64), ('rescored', c_uint64), ('waves', c_uint64), ('repeated', c_uint64)]


class CodesView(Structure):
    _fields_ = [
        ('tokens', c_uint64),
        ('pairs', c_uint64),
        ('offsets', c_void_p),
        ('indices', c_void_p),
        ('values', c_void_p),
    ]


class DecodeArgs(Structure):
    _fields_ = [
        ('device', c_int32),
        ('weights', Rows),
        ('bias', c_void_p),
        ('out', c_void_p),
        ('place', c_int32),
        ('out_stride', c_uint64),
    ]


class SteerArgs(Structure):
    _fields_ = [
        ('device', c_int32),
        ('kind', c_int32),
        ('x', c_void_p),
        ('rows', c_uint64),
        ('width', c_uint64),
        ('stride', c_uint64),
        ('mask', c_void_p),
        ('group', c_void_p),
        ('groups', c_uint64),
        ('dimensions', c_uint64),
        ('vectors', c_void_p),
        ('amounts', c_void_p),
        ('low', c_void_p),
        ('high', c_void_p),
        ('centre', c_void_p),
    ]


def function(result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)


class Table(Structure):
    _fields_ = [
        ('version', c_uint32),
        ('size', c_uint32),
        ('build', c_char_p),
        ('last_error', function(c_char_p)),
        ('device_count', function(c_int32)),
        ('device_reason', function(c_char_p)),
        ('device_info', function(c_int32, c_int32, POINTER(Info))),
        ('allocate', function(c_int32, c_int32, c_uint64, c_char_p, POINTER(c_void_p))),
        ('release', function(None, c_int32, c_void_p)),
        ('copy', function(c_int32, c_int32, c_void_p, c_void_p, c_uint64)),
        ('device_of', function(c_int32, c_void_p)),
        ('synchronize', function(c_int32, c_int32)),
        ('encoder_create', function(c_int32, POINTER(EncoderArgs), POINTER(c_void_p))),
        ('encoder_destroy', function(None, c_void_p)),
        ('encoder_info', function(c_int32, c_void_p, POINTER(EncoderInfo))),
        ('encode', function(c_int32, c_void_p, POINTER(EncodeArgs), POINTER(c_void_p), POINTER(EncodeCount))),
        ('pre_activations', function(c_int32, c_void_p, POINTER(EncodeArgs), c_void_p, c_uint64, c_void_p)),
        ('codes_create', function(c_int32, c_int32, c_uint64, c_void_p, c_void_p, c_void_p, POINTER(c_void_p))),
        ('codes_destroy', function(None, c_void_p)),
        ('codes_view', function(c_int32, c_void_p, POINTER(CodesView))),
        ('codes_read', function(c_int32, c_void_p, c_void_p, c_void_p, c_void_p)),
        ('decode', function(c_int32, POINTER(DecodeArgs), c_void_p)),
        ('steer', function(c_int32, POINTER(SteerArgs))),
        ('stats_create', function(c_int32, c_int32, c_uint64, POINTER(c_void_p))),
        ('stats_destroy', function(None, c_void_p)),
        ('stats_add', function(c_int32, c_void_p, c_void_p)),
        ('stats_read', function(c_int32, c_void_p, c_void_p)),
        ('stats_difference', function(c_int32, c_void_p, c_void_p, POINTER(c_double), POINTER(c_double))),
    ]


def rows_of(tensor):
    """A matrix of torch, on the host or the device, as the plugin sees it."""
    return Rows(
        tensor.data_ptr(),
        DEVICE if tensor.is_cuda else HOST,
        DTYPES[str(tensor.dtype).removeprefix('torch.')],
        tensor.stride(0) * tensor.element_size(),
        tensor.shape[0],
        tensor.shape[1],
    )


class Codes:
    """Codes on the device; freed with the object."""

    def __init__(self, plugin, handle):
        self.plugin, self.handle = plugin, handle
        self.view = CodesView()
        plugin.must(plugin.table.codes_view(handle, byref(self.view)))

    def read(self):
        """(offsets, indices, values) as numpy arrays."""
        import numpy

        offsets = numpy.empty(self.view.tokens + 1, numpy.uint64)
        indices = numpy.empty(self.view.pairs, numpy.uint32)
        values = numpy.empty(self.view.pairs, numpy.float32)
        self.plugin.must(
            self.plugin.table.codes_read(self.handle, offsets.ctypes.data, indices.ctypes.data, values.ctypes.data)
        )
        return offsets, indices, values

    def __del__(self):
        self.plugin.table.codes_destroy(self.handle)


class Encoder:
    """A top-k encoder over W [latents, width] (torch, kept) with a bias [latents] of the host."""

    def __init__(self, plugin, weights, bias, precision, mean=None, **limits):
        self.plugin, self.kept = plugin, (weights, bias, mean)
        args = EncoderArgs(device=0, precision=precision, rows=rows_of(weights), bias=bias.data_ptr(), **limits)
        args.mean = mean.data_ptr() if mean is not None else None
        args.selection = ctypes.pointer(Selection(rule=0))
        self.handle = c_void_p()
        plugin.must(plugin.table.encoder_create(byref(args), byref(self.handle)))

    def encode(self, x, k, kernel='automatic', count=None):
        """Codes of x [tokens, width], torch, fp32."""
        args = EncodeArgs(
            x.data_ptr(), DEVICE if x.is_cuda else HOST, x.shape[0], x.stride(0), 0, k, KERNELS[kernel]
        )
        handle = c_void_p()
        counted = byref(count) if count is not None else None
        self.plugin.must(self.plugin.table.encode(self.handle, byref(args), byref(handle), counted))
        return Codes(self.plugin, handle)

    def info(self):
        info = EncoderInfo()
        self.plugin.must(self.plugin.table.encoder_info(self.handle, byref(info)))
        return {'streamed': bool(info.streamed), 'weightBytes': info.weight_bytes, 'workspaceBytes': info.workspace_bytes}

    def __del__(self):
        self.plugin.table.encoder_destroy(self.handle)


class Plugin:
    def __init__(self, path):
        library = ctypes.CDLL(path)
        library.personascope_cuda_plugin.restype = POINTER(Table)
        library.personascope_cuda_plugin.argtypes = [c_uint32]
        table = library.personascope_cuda_plugin(VERSION)
        if not table:
            raise RuntimeError(f'{path} is not version {VERSION}')
        self.table = table.contents
        if self.table.size != ctypes.sizeof(Table):
            raise RuntimeError(f'{path}: the table has {self.table.size} bytes, expected {ctypes.sizeof(Table)}')

    def must(self, status):
        if status != 0:
            raise RuntimeError(f'error {status - 1}: {self.table.last_error().decode()}')

    def devices(self):
        """How many, and why if there are none."""
        return self.table.device_count(), self.table.device_reason().decode()

    def info(self):
        info = Info()
        self.must(self.table.device_info(0, byref(info)))
        return {name: getattr(info, name) for name, _ in Info._fields_ if name != 'name'} | {'name': info.name.decode()}

    def decode(self, codes, weights, out):
        args = DecodeArgs(0, rows_of(weights), None, out.data_ptr(), DEVICE, out.stride(0))
        self.must(self.table.decode(byref(args), codes.handle))

    def steer_add(self, x, vector, amount):
        """x += amount * vector, in place on the device; vector: fp32 of the host."""
        amounts = (c_float * 1)(amount)
        args = SteerArgs(device=0, kind=0, x=x.data_ptr(), rows=x.shape[0], width=x.shape[1], stride=x.stride(0))
        args.groups = args.dimensions = 1
        args.vectors, args.amounts = vector.data_ptr(), ctypes.addressof(amounts)
        self.must(self.table.steer(byref(args)))
