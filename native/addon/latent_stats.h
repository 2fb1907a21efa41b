// The wrapped latent statistics. They change, so a job that uses them holds them: a second one meanwhile is
// refused instead of racing.
#pragma once
#include <napi.h>

#include <atomic>
#include <memory>

#include "native/addon/convert.h"
#include "native/kernels/latent_stats/latent_stats.h"

namespace personascope::addon {

struct SharedStats {
  explicit SharedStats(const LatentStatsOptions& options) : stats(options) {}
  LatentStats stats;
  std::atomic<bool> held{false};
};

// Exclusive use until destroyed; throws invalid_argument while somebody else has it.
class HeldStats {
 public:
  explicit HeldStats(std::shared_ptr<SharedStats> shared);
  ~HeldStats();
  HeldStats(const HeldStats&) = delete;
  HeldStats& operator=(const HeldStats&) = delete;
  LatentStats& stats() const { return shared_->stats; }

 private:
  std::shared_ptr<SharedStats> shared_;
};

class LatentStatsClass : public Napi::ObjectWrap<LatentStatsClass> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LatentStatsClass(const Napi::CallbackInfo& info);
  const std::shared_ptr<SharedStats>& shared() const { return shared_; }
  // The statistics behind a JavaScript value.
  static std::shared_ptr<SharedStats> of(const Napi::Value& value, const char* argument);

 private:
  Napi::Value add(const Napi::CallbackInfo& info);
  Napi::Value merge(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);
  Napi::Value state(const Napi::CallbackInfo& info);
  Napi::Value restore(const Napi::CallbackInfo& info);
  Napi::Value rows(const Napi::CallbackInfo& info);
  Napi::Value array(const Napi::CallbackInfo& info);
  Napi::Value examples(const Napi::CallbackInfo& info);
  Napi::Value group_rows(const Napi::CallbackInfo& info);
  Napi::Value group_sums(const Napi::CallbackInfo& info);

  std::shared_ptr<SharedStats> shared_;
};

}  // namespace personascope::addon
