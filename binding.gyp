{
  "includes": ["native/sources.gypi"],
  "target_defaults": {
    "cflags": ["-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"],
    "cflags_cc": ["-std=c++20"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-exceptions", "-fno-rtti"],
    "include_dirs": ["<(module_root_dir)"]
  },
  "targets": [
    {
      "target_name": "personascope",
      "sources": ["<@(core_sources)", "<@(addon_sources)"],
      "defines": ["NAPI_VERSION=9"],
      "dependencies": ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except_all"],
      "libraries": ["-ldl", "-pthread"]
    }
  ]
}
