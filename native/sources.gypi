{
  "variables": {
    "core_sources": [
      "native/kernels/encode/avx2.cc",
      "native/kernels/encode/avx512.cc",
      "native/kernels/encode/candidates.cc",
      "native/kernels/encode/dispatch.cc",
      "native/kernels/encode/reference.cc",
      "native/kernels/gemm/dispatch.cc",
      "native/kernels/gemm/reference.cc",
      "native/kernels/gemm/avx2.cc",
      "native/kernels/gemm/avx512.cc",
      "native/kernels/attention/dispatch.cc",
      "native/kernels/attention/reference.cc",
      "native/kernels/norm/dispatch.cc",
      "native/kernels/norm/reference.cc",
      "native/kernels/rope/dispatch.cc",
      "native/kernels/rope/reference.cc",
      "native/kernels/embedding/dispatch.cc",
      "native/kernels/embedding/reference.cc",
      "native/kernels/activation/dispatch.cc",
      "native/kernels/activation/reference.cc",
      "native/kernels/cross_entropy/dispatch.cc",
      "native/kernels/cross_entropy/reference.cc",
      "native/kernels/optimizer/dispatch.cc",
      "native/kernels/optimizer/reference.cc",
      "native/core/error.cc",
      "native/core/finite.cc",
      "native/core/isa.cc",
      "native/core/mapped_file.cc",
      "native/core/thread_pool.cc",
      "native/io/safetensors.cc"
    ],
    "addon_sources": [
      "native/addon/addon.cc",
      "native/addon/job.cc",
      "native/addon/safetensors.cc"
    ],
    "test_sources": [
      "test/native/kernels/gemm_test.cc",
      "test/native/core_test.cc",
      "test/native/kernels/encode_test.cc",
      "test/native/finite_test.cc",
      "test/native/io/safetensors_test.cc"
    ]
  }
}
