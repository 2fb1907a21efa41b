// LatentStats and their difference for JavaScript.
#include "native/addon/latent_stats.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/addon/sae.h"
#include "native/addon/tensor.h"
#include "native/kernels/latent_stats/difference.h"
#include "native/kernels/latent_stats/ranking.h"

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
       InstanceMethod("release", &LatentStatsClass::release),
       InstanceMethod("state", &LatentStatsClass::state),
       InstanceMethod("restore", &LatentStatsClass::restore), InstanceMethod("rows", &LatentStatsClass::rows),
       InstanceMethod("array", &LatentStatsClass::array),
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
    const Napi::Value watched = given.Get("exampleLatents");
    if (!watched.IsUndefined()) {
      const auto latents = typed_array<std::uint32_t>(watched, "exampleLatents");
      require(latents.size > 0, ErrorCode::invalid_argument,
              "exampleLatents: empty; leave it out for all latents");
      options.example_latents.assign(latents.data, latents.data + latents.size);
    }
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

// merge(other, options)
Napi::Value LatentStatsClass::merge(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto other = of(info[0], "other");
    auto mine = std::make_shared<HeldStats>(shared_);
    auto theirs = other == shared_ ? mine : std::make_shared<HeldStats>(other);
    return start_job(env, info[1], {}, [mine, theirs](JobContext& job) -> Finish {
      job.check();
      mine->stats().merge(theirs->stats());
      return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
    });
  });
}

// release(): gives the memory back now, not when the object is collected. What is left has no rows.
Napi::Value LatentStatsClass::release(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const HeldStats held(shared_);
    LatentStatsOptions options;
    options.latents = 1;
    held.stats() = LatentStats(options);
    return info.Env().Undefined();
  });
}

namespace {

// Calls visit(name, vector) for every array of a state; the names are those of native.ts.
template <class State, class Visit>
void each_array(State& state, const Visit& visit) {
  visit("sum", state.sum);
  visit("squares", state.squares);
  visit("active", state.active);
  visit("max", state.max);
  visit("wideLatents", state.wide_latents);
  visit("wideSums", state.wide_sums);
  visit("wideSquares", state.wide_squares);
  visit("groups", state.groups);
  visit("groupRows", state.group_rows);
  visit("partBegin", state.part_begin);
  visit("partGroups", state.part_groups);
  visit("parts", state.parts);
  visit("exampleCounts", state.example_counts);
  visit("exampleValues", state.example_values);
  visit("exampleGroups", state.example_groups);
  visit("exampleIds", state.example_ids);
}

// A state and the rounded sums, which stay native: what JavaScript holds is given back when it collects
// garbage, and this may be most of the memory.
struct Snapshot {
  explicit Snapshot(const LatentStats& stats) : state(stats.state()) {
    for (std::size_t l = 0; l < stats.options().latents; ++l) {
      rounded_sum.push_back(stats.sum(l));
      rounded_squares.push_back(stats.sum_of_squares(l));
    }
  }
  LatentStatsState state;
  std::vector<double> rounded_sum, rounded_squares;
};

template <class Visit>
void each_saved_array(const Snapshot& snapshot, const Visit& visit) {
  visit("roundedSum", snapshot.rounded_sum);
  visit("roundedSquares", snapshot.rounded_squares);
  each_array(snapshot.state, visit);
}

template <class T>
void read(const std::vector<T>& values, std::size_t first, Span<T> into) {
  std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(first), into.size, into.data);
}
template <class T>
void read(const Columns<T>& values, std::size_t first, Span<T> into) {
  const Column<T> part = values.slice(first, into.size);
  std::copy(part.begin(), part.end(), into.data);
}

// {rows, sizes: {sum: …}, read(name, first, into), release()}
Napi::Value snapshot_object(Napi::Env env, std::shared_ptr<Snapshot> snapshot) {
  auto result = Napi::Object::New(env), sizes = Napi::Object::New(env);
  each_saved_array(*snapshot, [&](const char* name, const auto& values) {
    sizes.Set(name, static_cast<double>(values.size()));
  });
  result.Set("rows", static_cast<double>(snapshot->state.rows));
  result.Set("sizes", sizes);
  const auto held = std::make_shared<std::shared_ptr<Snapshot>>(std::move(snapshot));
  result.Set("read", Napi::Function::New(env, [held](const Napi::CallbackInfo& info) {
               guarded(info.Env(), [&] {
                 require(*held != nullptr, ErrorCode::invalid_argument, "the state was released");
                 const std::string wanted = text(info[0], "name");
                 bool found = false;
                 each_saved_array(**held, [&](const char* name, const auto& values) {
                   if (name != wanted) return;
                   found = true;
                   using Value = typename std::decay_t<decltype(values)>::value_type;
                   const auto into = typed_array<Value>(info[2], "into");
                   const std::size_t first = whole_number(info[1], "first", 0, values.size());
                   require(into.size <= values.size() - first, ErrorCode::invalid_argument,
                           wanted + ": found " + std::to_string(values.size()) + " values, expected " +
                               std::to_string(into.size) + " from " + std::to_string(first) + " on");
                   read(values, first, into);
                 });
                 require(found, ErrorCode::invalid_argument, "latent statistics have no '" + wanted + "'");
               });
             }));
  result.Set("release", Napi::Function::New(env, [held](const Napi::CallbackInfo&) { *held = nullptr; }));
  return result;
}

// Copies an array into a state, off the event loop.
template <class T>
std::function<void()> from_array(const Napi::Value& value, const char* name, std::vector<T>& values) {
  const auto array = typed_array<T>(value, name);
  return [&values, array] { values.assign(array.data, array.data + array.size); };
}
// A tensor of a mapped file stays where it lies.
template <class T>
std::function<void()> from_array(const Napi::Value& value, const char* name, Columns<T>& values) {
  if (value.IsTypedArray()) {
    const auto array = typed_array<T>(value, name);
    return [&values, array] { values = std::vector<T>(array.data, array.data + array.size); };
  }
  const Tensor tensor = TensorClass::of(value, name);
  require(tensor.dtype == (std::is_same_v<T, float> ? Dtype::f32 : Dtype::u32) && is_contiguous(tensor),
          ErrorCode::invalid_argument, std::string(name) + ": found a tensor of " + dtype_name(tensor.dtype));
  return [&values, tensor] {
    const std::size_t size = tensor.elements();
    if (reinterpret_cast<std::uintptr_t>(tensor.data) % alignof(T) == 0) {
      values = Column<T>(reinterpret_cast<const T*>(tensor.data), size, tensor.owner);
      return;
    }
    std::vector<T> copy(size);
    std::memcpy(copy.data(), tensor.data, size * sizeof(T));
    values = std::move(copy);
  };
}

}  // namespace

// state(options): everything as it is now, see snapshot_object
Napi::Value LatentStatsClass::state(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto held = std::make_shared<HeldStats>(shared_);
    return start_job(env, info[0], {}, [held](JobContext& job) -> Finish {
      job.check();
      auto snapshot = std::make_shared<Snapshot>(held->stats());
      return [snapshot](Napi::Env end) { return snapshot_object(end, snapshot); };
    });
  });
}

// restore(state, options): becomes what the arrays of state() say; the options given to the constructor must
// be those it had
Napi::Value LatentStatsClass::restore(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto given = object(info[0], "state");
    auto state = std::make_shared<LatentStatsState>();
    state->rows = whole_number(given.Get("rows"), "rows", 0, 1ull << 53);
    std::vector<Napi::Value> keep;
    std::vector<std::function<void()>> copies;  // into *state, off the event loop
    each_array(*state, [&](const char* name, auto& values) {
      keep.push_back(given.Get(name));
      copies.push_back(from_array(keep.back(), name, values));
    });
    auto held = std::make_shared<HeldStats>(shared_);
    return start_job(env, info[1], keep, [held, state, copies](JobContext& job) -> Finish {
      job.check();
      for (const auto& copy : copies) copy();
      held->stats() = LatentStats(held->stats().options(), std::move(*state));
      return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
    });
  });
}

Napi::Value LatentStatsClass::rows(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const HeldStats held(shared_);
    return Napi::Number::New(info.Env(), static_cast<double>(held.stats().rows()));
  });
}

// array('sum' | 'sumOfSquares' | 'activeCount' | 'max'): one value a latent
Napi::Value LatentStatsClass::array(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const HeldStats held(shared_);
    const LatentStats& stats = held.stats();
    const std::size_t latents = stats.options().latents;
    const std::string name = text(info[0], "name");
    if (name == "max") {
      std::vector<float> values(latents);
      for (std::size_t l = 0; l < latents; ++l) values[l] = stats.max(l);
      return to_typed_array(info.Env(), std::move(values));
    }
    require(name == "sum" || name == "sumOfSquares" || name == "activeCount", ErrorCode::invalid_argument,
            "latent statistics have no '" + name + "'");
    std::vector<double> values(latents);
    for (std::size_t l = 0; l < latents; ++l)
      values[l] = name == "sum"            ? stats.sum(l)
                  : name == "sumOfSquares" ? stats.sum_of_squares(l)
                                           : stats.active_count(l);
    return to_typed_array(info.Env(), std::move(values));
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
    std::vector<GroupSum> entries;
    if (held.stats().options().per_group) held.stats().group_sums().of(latent, entries);
    std::vector<std::uint32_t> groups;
    std::vector<double> sums;
    for (const GroupSum& entry : entries) {
      groups.push_back(entry.group);
      sums.push_back(entry.sum);
    }
    auto result = Napi::Object::New(env);
    result.Set("groups", to_typed_array(env, std::move(groups)));
    result.Set("sums", to_typed_array(env, std::move(sums)));
    return result;
  });
}

namespace {

DiffTest parse_test(const std::string& name) {
  if (name == "paired") return DiffTest::paired;
  if (name == "welch") return DiffTest::welch;
  require(name == "permutation", ErrorCode::invalid_argument,
          "test: found '" + name + "', expected 'paired', 'welch' or 'permutation'");
  return DiffTest::permutation;
}

// diffLatents(before, after[], {resamples, confidence, seed, test, permutations}, options)
Napi::Value diff(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    require(info[1].IsArray(), ErrorCode::invalid_argument, "after: expected an array of latent statistics");
    const auto given = object(info[2], "settings");
    LatentDiffOptions settings;
    settings.resamples = whole_number(given.Get("resamples"), "bootstrap", 0, 100000);
    settings.confidence = number(given.Get("confidence"), "confidence");
    settings.seed = whole_number(given.Get("seed"), "seed", 0, 1ull << 53);
    settings.test = parse_test(text(given.Get("test"), "test"));
    settings.permutations = whole_number(given.Get("permutations"), "permutations", 1, 1000000);
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
      std::mutex reporting;
      settings.progress = [&](std::size_t done, std::size_t total) {
        job.check();
        const std::lock_guard lock(reporting);
        job.progress(static_cast<double>(done), static_cast<double>(total));
      };
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
        result.Set("meanBefore", to_typed_array(end, std::move(found->mean_before)));
        result.Set("meanAfter", to_typed_array(end, std::move(found->mean_after)));
        result.Set("shareBefore", to_typed_array(end, std::move(found->share_before)));
        result.Set("shareAfter", to_typed_array(end, std::move(found->share_after)));
        result.Set("descending", to_typed_array(end, std::move(found->descending)));
        result.Set("ascending", to_typed_array(end, std::move(found->ascending)));
        result.Set("groups", static_cast<double>(found->groups));
        result.Set("alive", static_cast<double>(found->alive));
        return result;
      };
    });
  });
}

// rankLatents(values: Float64Array, falling, options): Uint32Array
Napi::Value rank(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto values = typed_array<double>(info[0], "values");
    require(values.size <= 0xFFFFFFFFull, ErrorCode::invalid_argument, "values: more than 2^32");
    const bool falling = info[1].ToBoolean();
    return start_job(env, info[2], {info[0]}, [values, falling](JobContext& job) -> Finish {
      job.check();
      auto ranked = std::make_shared<std::vector<std::uint32_t>>(ranking(values.data, values.size, falling));
      return [ranked](Napi::Env end) { return to_typed_array(end, std::move(*ranked)); };
    });
  });
}

}  // namespace

void initialise_latent_stats(Napi::Env env, Napi::Object exports) {
  exports.Set("LatentStats", LatentStatsClass::define(env));
  exports.Set("diffLatents", Napi::Function::New(env, diff));
  exports.Set("rankLatents", Napi::Function::New(env, rank));
}

}  // namespace personascope::addon
