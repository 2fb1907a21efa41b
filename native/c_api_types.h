// What the files of the C interface share: what its handles hold, and how exceptions become a status.
#pragma once
#include <string>

#include "native/core/device_tensor.h"
#include "native/core/error.h"
#include "native/core/lost_pages.h"
#include "native/include/personascope.h"
#include "native/kernels/latent_stats/latent_stats.h"
#include "native/sae/sae.h"

struct personascope_sae {
  personascope::Sae sae;
  std::string device = personascope::device_name(sae.device());
};

struct personascope_codes {
  personascope::SparseCodes codes;
};

struct personascope_stats {
  personascope::LatentStats stats;
};

struct personascope_tensor {
  personascope::DeviceTensor tensor;
};

struct personascope_device_codes {
  personascope::DeviceSparseCodes codes;
};

struct personascope_device_stats {
  personascope::DeviceLatentStats stats;
};

namespace personascope::c_api {

// Keeps the text of the exception at hand for personascope_last_error(); to be called while it is handled.
personascope_status failed() noexcept;

// No exception leaves the library.
template <class Body>
personascope_status guarded(const Body& body) noexcept {
  try {
    const MappedReads reads;
    try {
      body();
    } catch (const Error&) {
      reads.check();
      throw;
    }
    reads.check();
    return PERSONASCOPE_OK;
  } catch (...) {
    return failed();
  }
}

inline void present(const void* pointer, const char* name) {
  if (!pointer) fail(ErrorCode::invalid_argument, std::string(name) + " is NULL");
}

}  // namespace personascope::c_api
