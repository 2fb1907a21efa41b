// Asynchronous jobs: work runs on a thread of its own, never on libuv's pool nor on the event loop, and
// settles a promise.
//
//   return start_job(env, info[2], {info.This(), info[0]}, [=](JobContext& job) -> Finish {
//     ...native work; job.check() now and then; job.progress(done, total)...
//     return [result](Napi::Env env) -> Napi::Value { return ...; };   // on the event loop
//   });
//
// `options` is undefined or {control?: Int32Array(1), onProgress?: (done, total) => void}; JavaScript raises
// control[0] to abort. `keep` lists the JavaScript values whose memory the work uses: they are referenced
// until the promise settles, so that garbage collection cannot take them from a running job.
//
// Handing a job over to another thread and back costs more than a tiny job does. A job that says how many
// element operations it takes at the most runs at once, in the calling thread, if they are so few that the
// event loop does not notice; the promise it returns is settled already.
#pragma once
#include <napi.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <type_traits>
#include <vector>

#include "native/core/error.h"
#include "native/core/lost_pages.h"

namespace personascope::addon {

struct Job;

class JobContext {
 public:
  explicit JobContext(Job& job) : job_(job) {}
  bool aborted() const;
  // Throws Error(aborted) once the caller has aborted, and io where a mapped file could not be read.
  void check() const;
  const MappedReads& reads() const { return reads_; }
  // Hands (done, total) to onProgress, at most 20 times a second; the last call (done == total) always goes.
  void progress(double done, double total);

 private:
  Job& job_;
  const MappedReads reads_;
  std::chrono::steady_clock::time_point last_{};
};

using Finish = std::function<Napi::Value(Napi::Env)>;
using Work = std::function<Finish(JobContext&)>;

// Element operations of a job that nobody has counted, and the most (about 10 microseconds' worth) for which
// the event loop may wait.
constexpr double kUncounted = 1e300, kTinyJob = 1e5;

Napi::Promise start_job(Napi::Env env, const Napi::Value& options, const std::vector<Napi::Value>& keep,
                        Work work, double operations = kUncounted);

// A JavaScript Error with `code` set to the name of the error's code.
Napi::Error to_js_error(Napi::Env env, const Error& error);

// Runs `body`, turning a core Error (or any std::exception) into a thrown JavaScript Error with a code. What
// it read of a mapped file that could not be read is an error too; jobs that it started see to that
// themselves.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  using Result = decltype(body());
  const MappedReads reads;
  try {
    if constexpr (std::is_void_v<Result>) {
      body();
      reads.check();
    } else {
      Result result = body();
      bool job = false;
      if constexpr (std::is_base_of_v<Napi::Value, Result>) job = result.IsPromise();
      if (!job) reads.check();
      return result;
    }
  } catch (const Error& error) {
    throw to_js_error(env, reads.lost() ? reads.error() : error);
  } catch (const std::bad_alloc&) {
    throw to_js_error(env, Error(ErrorCode::out_of_memory, "out of memory"));
  }
}

// To be called once when the addon is loaded into an environment.
void initialise_jobs(Napi::Env env);

}  // namespace personascope::addon
