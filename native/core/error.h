// Errors of the core: every failure is a ps::Error with a stable code; callers across a boundary (C ABI,
// N-API) catch it there. A message names what was found, what was expected, and where.
#pragma once
#include <stdexcept>
#include <string>

namespace personascope {

enum class ErrorCode {
  invalid_argument,  // a call that can never work: wrong size, wrong option
  not_found,         // a file, tensor or module that is not there
  format,            // a file whose bytes do not mean what they should
  non_finite,        // NaN or Inf in data; the message locates the first one
  io,                // the operating system refused: permission, disk full, ...
  out_of_memory,
  aborted,   // the caller's abort flag was raised
  internal,  // a defect of this software
};

// Stable spelling of a code, as JavaScript and C callers see it, e.g. "ERR_INVALID_ARGUMENT".
const char* error_code_name(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

[[noreturn]] inline void fail(ErrorCode code, const std::string& message) {
  throw Error(code, message);
}

inline void require(bool holds, ErrorCode code, const std::string& message) {
  if (!holds) fail(code, message);
}

}  // namespace personascope
