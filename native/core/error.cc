#include "native/core/error.h"

namespace personascope {

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "ERR_INVALID_ARGUMENT";
    case ErrorCode::not_found:
      return "ERR_NOT_FOUND";
    case ErrorCode::format:
      return "ERR_FORMAT";
    case ErrorCode::non_finite:
      return "ERR_NON_FINITE";
    case ErrorCode::io:
      return "ERR_IO";
    case ErrorCode::out_of_memory:
      return "ERR_OUT_OF_MEMORY";
    case ErrorCode::aborted:
      return "ERR_ABORTED";
    case ErrorCode::internal:
      return "ERR_INTERNAL";
  }
  return "ERR_INTERNAL";
}

}  // namespace personascope
