// Programs of the benches answer one JSON line a command on standard input, so that contenders can alternate.
#pragma once
#include <time.h>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace bench {

using Words = std::vector<std::string>;
// A command gets the words after its name and returns what goes between the braces of its answer.
using Commands = std::map<std::string, std::function<std::string(const Words&)>>;

// {"seconds": wall, "cpuSeconds": of this process} of work().
inline std::string timed(const std::function<void()>& work) {
  const auto cpu = [] {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double cpu_start = cpu();
  const auto start = std::chrono::steady_clock::now();
  work();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  char text[96];
  std::snprintf(text, sizeof text, "\"seconds\": %.9f, \"cpuSeconds\": %.9f", seconds, cpu() - cpu_start);
  return text;
}

// Says hello with `about`, then answers until the input ends.
inline void answer(const std::string& about, const Commands& commands) {
  std::printf("{%s}\n", about.c_str());
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream stream(line);
    std::string name;
    stream >> name;
    Words words;
    for (std::string word; stream >> word;) words.push_back(word);
    const auto command = commands.find(name);
    const std::string said =
        command == commands.end() ? "\"error\": \"unknown command\"" : command->second(words);
    std::printf("{%s}\n", said.c_str());
    std::fflush(stdout);
  }
}

}  // namespace bench
