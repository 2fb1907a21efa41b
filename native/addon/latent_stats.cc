// LatentStats and their difference for JavaScript.
#include "native/addon/latent_stats.h"

#include <algorithm>
#include <string>

#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/addon/sae.h"
#include "native/kernels/latent_stats/difference.h"

namespace personascope::addon {

namespace {

// Marks our objects, so that a foreign one is refused instead of misread.
constexpr napi_type_tag kStatsTag = {0x70657273'6c617465, 0x6e745374'61747301};

}  // namespace

HeldStats::HeldStats(std::shared_ptr<SharedStats> shared) : shared_(std::move(shared)) {
  require(!shared_->held.exchange(true), ErrorCode::invalid_argument,
          "the statistics are in use by another call; wait for its promise");
}

HeldStats::~HeldStats() {
  shared_->held = false;
}

Napi::Function LatentStatsClass::define(Napi::Env env) {
  return DefineClass(
      env, "LatentStats",
      {InstanceMethod("add", &LatentStatsClass::add), InstanceMethod("merge", &LatentStatsClass::merge),
       InstanceMethod("rows", &LatentStatsClass::rows), InstanceMethod("array", &LatentStatsClass::array),
       InstanceMethod("examples", &LatentStatsClass::examples),
       InstanceMethod("groupRows", &LatentStatsClass::group_rows),
       InstanceMethod("groupSums", &LatentStatsClass::group_sums)});
}

LatentStatsClass::LatentStatsClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] {
    const auto given = object(info[0], "options");
    LatentStatsOptions options;
    options.latents = whole_number(given.Get("latents"), "latents", 1, 0xFFFFFFFFull);
    options.examples = whole_number(given.Get("examples"), "examples", 0, 4096);
    options.distinct_groups = given.Get("distinctGroups").ToBoolean();
    options.per_group = given.Get("perGroup").ToBoolean();
    shared_ = std::make_shared<SharedStats>(options);
    info.This().As<Napi::Object>().TypeTag(&kStatsTag);
  });
}

std::shared_ptr<SharedStats> LatentStatsClass::of(const Napi::Value& value, const char* argument) {
  require(value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kStatsTag), ErrorCode::invalid_argument,
          std::string(argument) + ": expected latent statistics");
  return Unwrap(value.As<Napi::Object>())->shared();
}

// add({indices, values, offsets}, groups | undefined, ids | undefined, options)
Napi::Value LatentStatsClass::add(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const CodesView codes = codes_view(info[0], "codes");
    const auto given = info[0].As<Napi::Object>();
    const auto groups = optional_typed_array<std::uint32_t>(info[1], "groups", codes.tokens);
    const auto ids = optional_typed_array<double>(info[2], "ids", codes.tokens);
    auto held = std::make_shared<HeldStats>(shared_);
    return start_job(env, info[3],
                     {given.Get("indices"), given.Get("values"), given.Get("offsets"), info[1], info[2]},
                     [held, codes, groups, ids](JobContext& job) -> Finish {
                       job.check();
                       held->stats().add(codes, groups.data, ids.data);
                       return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
                     });
  });
}

// merge(other)
Napi::Value LatentStatsClass::merge(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto other = of(info[0], "other");
    const HeldStats mine(shared_);
    if (other == shared_) {
      const LatentStats copy = other->stats;
      mine.stats().merge(copy);
    } else {
      const HeldStats theirs(other);
      mine.stats().merge(theirs.stats());
    }
    return info.Env().Undefined();
  });
}

Napi::Value LatentStatsClass::rows(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const HeldStats held(shared_);
    return Napi::Number::New(info.Env(), static_cast<double>(held.stats().rows()));
  });
}

// array('sum' | 'sumOfSquares' | 'activeCount' | 'max'): a copy, one value a latent
Napi::Value LatentStatsClass::array(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const HeldStats held(shared_);
    const std::string name = text(info[0], "name");
    if (name == "max") return to_typed_array(info.Env(), std::vector<float>(held.stats().max()));
    if (name == "sum") return to_typed_array(info.Env(), std::vector<double>(held.stats().sum()));
    if (name == "sumOfSquares")
      return to_typed_array(info.Env(), std::vector<double>(held.stats().sum_of_squares()));
    require(name == "activeCount", ErrorCode::invalid_argument, "latent statistics have no '" + name + "'");
    return to_typed_array(info.Env(), std::vector<double>(held.stats().active_count()));
  });
}

// examples(latent): {values, ids, groups}, best first
Napi::Value LatentStatsClass::examples(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const HeldStats held(shared_);
    const auto list =
        held.stats().examples(whole_number(info[0], "latent", 0, held.stats().options().latents - 1));
    std::vector<float> values;
    std::vector<double> ids;
    std::vector<std::uint32_t> groups;
    for (const auto& example : list) {
      values.push_back(example.value);
      ids.push_back(example.id);
      groups.push_back(example.group);
    }
    auto result = Napi::Object::New(env);
    result.Set("values", to_typed_array(env, std::move(values)));
    result.Set("ids", to_typed_array(env, std::move(ids)));
    result.Set("groups", to_typed_array(env, std::move(groups)));
    return result;
  });
}

// groupRows(): {groups, rows}
Napi::Value LatentStatsClass::group_rows(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const HeldStats held(shared_);
    std::vector<std::uint32_t> groups;
    std::vector<double> rows;
    for (const auto& [group, count] : held.stats().group_rows()) {
      groups.push_back(group);
      rows.push_back(static_cast<double>(count));
    }
    auto result = Napi::Object::New(env);
    result.Set("groups", to_typed_array(env, std::move(groups)));
    result.Set("rows", to_typed_array(env, std::move(rows)));
    return result;
  });
}

// groupSums(latent): {groups, sums} where the latent was active
Napi::Value LatentStatsClass::group_sums(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const HeldStats held(shared_);
    const auto latent =
        static_cast<std::uint32_t>(whole_number(info[0], "latent", 0, held.stats().options().latents - 1));
    const auto& all = held.stats().group_sums();
    auto entry =
        std::lower_bound(all.begin(), all.end(), latent,
                         [](const GroupSum& sum, std::uint32_t wanted) { return sum.latent < wanted; });
    std::vector<std::uint32_t> groups;
    std::vector<double> sums;
    for (; entry != all.end() && entry->latent == latent; ++entry) {
      groups.push_back(entry->group);
      sums.push_back(entry->sum);
    }
    auto result = Napi::Object::New(env);
    result.Set("groups", to_typed_array(env, std::move(groups)));
    result.Set("sums", to_typed_array(env, std::move(sums)));
    return result;
  });
}

namespace {

// diffLatents(before, after[], {resamples, confidence, seed}, options)
Napi::Value diff(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    require(info[1].IsArray(), ErrorCode::invalid_argument, "after: expected an array of latent statistics");
    const auto given = object(info[2], "settings");
    LatentDiffOptions settings;
    settings.resamples = whole_number(given.Get("resamples"), "bootstrap", 0, 100000);
    settings.confidence = number(given.Get("confidence"), "confidence");
    settings.seed = whole_number(given.Get("seed"), "seed", 0, 1ull << 53);
    std::vector<std::shared_ptr<SharedStats>> all = {LatentStatsClass::of(info[0], "before")};
    const auto list = info[1].As<Napi::Array>();
    for (std::uint32_t i = 0; i < list.Length(); ++i)
      all.push_back(LatentStatsClass::of(list.Get(i), "after"));
    // One may be given more than once; each is held once.
    auto holds = std::make_shared<std::vector<std::unique_ptr<HeldStats>>>();
    for (std::size_t i = 0; i < all.size(); ++i)
      if (std::find(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(i), all[i]) ==
          all.begin() + static_cast<std::ptrdiff_t>(i))
        holds->push_back(std::make_unique<HeldStats>(all[i]));
    return start_job(env, info[3], {}, [all, holds, settings](JobContext& job) mutable -> Finish {
      settings.check = [&job] { job.check(); };
      std::vector<const LatentStats*> after;
      for (std::size_t i = 1; i < all.size(); ++i) after.push_back(&all[i]->stats);
      auto found = std::make_shared<LatentDiff>(diff_latents(all[0]->stats, after, settings));
      return [found](Napi::Env end) -> Napi::Value {
        auto result = Napi::Object::New(end);
        result.Set("delta", to_typed_array(end, std::move(found->delta)));
        result.Set("effectSize", to_typed_array(end, std::move(found->effect_size)));
        result.Set("standardError", to_typed_array(end, std::move(found->standard_error)));
        result.Set("low", to_typed_array(end, std::move(found->low)));
        result.Set("high", to_typed_array(end, std::move(found->high)));
        result.Set("pValue", to_typed_array(end, std::move(found->p_value)));
        result.Set("qValue", to_typed_array(end, std::move(found->q_value)));
        result.Set("descending", to_typed_array(end, std::move(found->descending)));
        result.Set("ascending", to_typed_array(end, std::move(found->ascending)));
        result.Set("groups", static_cast<double>(found->groups));
        result.Set("alive", static_cast<double>(found->alive));
        return result;
      };
    });
  });
}

}  // namespace

void initialise_latent_stats(Napi::Env env, Napi::Object exports) {
  exports.Set("LatentStats", LatentStatsClass::define(env));
  exports.Set("diffLatents", Napi::Function::New(env, diff));
}

}  // namespace personascope::addon
