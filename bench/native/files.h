// Plain files of numbers, between the programs of a bench.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace bench {

[[noreturn]] inline void die(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

template <class T>
void write_array(const std::string& path, const T* values, std::size_t count) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  const bool good = file && std::fwrite(values, sizeof(T), count, file) == count;
  if (!file || std::fclose(file) != 0 || !good) die("could not write " + path);
}

// Exactly `count` values.
template <class T>
std::vector<T> read_array(const std::string& path, std::size_t count) {
  std::vector<T> values(count);
  std::FILE* file = std::fopen(path.c_str(), "rb");
  const bool good = file && std::fread(values.data(), sizeof(T), count, file) == count;
  if (file) std::fclose(file);
  if (!good) die(path + ": expected at least " + std::to_string(count) + " values");
  return values;
}

}  // namespace bench
