{
  "variables": {
    "core_sources": [
      "native/core/error.cc",
      "native/core/isa.cc",
      "native/core/thread_pool.cc"
    ],
    "addon_sources": [
      "native/addon/addon.cc",
      "native/addon/job.cc"
    ],
    "test_sources": [
      "test/native/core_test.cc"
    ]
  }
}
