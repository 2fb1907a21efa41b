#include "native/addon/job.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "native/core/thread_pool.h"

namespace personascope::addon {

namespace {

// Per environment (the main thread and each worker_thread has its own).
struct Environment {
  Napi::ThreadSafeFunction loop;  // no JavaScript function of its own: carries closures to the event loop
  int pending = 0;                // jobs in flight; keeps the event loop alive while > 0
  std::mutex mutex;
  std::condition_variable ended;
  std::set<Job*> running;  // guarded by mutex
};

// Runner threads are kept for the next job; a job never waits for another one to end.
class Runners {
 public:
  void run(std::function<void()> task) {
    std::unique_lock lock(mutex_);
    tasks_.push_back(std::move(task));
    if (idle_ < tasks_.size()) {
      std::thread([this] { loop(); }).detach();
    } else {
      lock.unlock();
      wake_.notify_one();
    }
  }

 private:
  void loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (tasks_.empty()) {
        ++idle_;
        wake_.wait(lock, [&] { return !tasks_.empty(); });
        --idle_;
      }
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      lock.lock();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::size_t idle_ = 0;
};

Runners& runners() {
  static auto* leaked = new Runners;  // its threads outlive static destruction
  return *leaked;
}

}  // namespace

struct Job {
  Job(Napi::Env env, Environment& owner) : environment(owner), deferred(Napi::Promise::Deferred::New(env)) {}

  Environment& environment;
  Napi::Promise::Deferred deferred;
  std::vector<Napi::Reference<Napi::Value>> kept;
  Napi::FunctionReference on_progress;
  std::atomic<std::int32_t>* control = nullptr;  // JavaScript's abort flag, in memory that `kept` holds
  std::atomic<bool> stop{false};                 // the environment is going away
  Work work;
  Finish finish;
  std::unique_ptr<Error> error;

  void execute() {
    JobContext context(*this);
    try {
      finish = work(context);
    } catch (const Error& failure) {
      error = std::make_unique<Error>(failure);
    } catch (const std::bad_alloc&) {
      error = std::make_unique<Error>(ErrorCode::out_of_memory, "out of memory");
    } catch (const std::exception& failure) {
      error = std::make_unique<Error>(ErrorCode::internal, failure.what());
    }
    // Whatever came of it, it may be of zeros that stand for a file's pages.
    if (context.reads().lost()) error = std::make_unique<Error>(context.reads().error());
    work = nullptr;
  }

  // On a runner's thread.
  void run() {
    execute();
    Environment& owner = environment;
    const auto status = owner.loop.NonBlockingCall(this, [](Napi::Env env, Napi::Function, Job* job) {
      if (env != nullptr) job->settle(env);
    });
    (void)status;  // closing: the environment's end has no one left to tell
    std::lock_guard lock(owner.mutex);
    owner.running.erase(this);
    owner.ended.notify_all();
  }

  void settle(Napi::Env env) {
    std::unique_ptr<Job> self(this);
    Napi::HandleScope scope(env);
    if (--environment.pending == 0) environment.loop.Unref(env);
    {
      std::unique_lock lock(environment.mutex);
      environment.ended.wait(lock, [&] { return environment.running.count(this) == 0; });
    }
    resolve(env);
  }

  void resolve(Napi::Env env) {
    if (error) {
      deferred.Reject(to_js_error(env, *error).Value());
      return;
    }
    try {
      deferred.Resolve(finish(env));
    } catch (const Napi::Error& failure) {
      deferred.Reject(failure.Value());
    } catch (const Error& failure) {
      deferred.Reject(to_js_error(env, failure).Value());
    } catch (const std::exception& failure) {
      deferred.Reject(Napi::Error::New(env, failure.what()).Value());
    }
  }
};

bool JobContext::aborted() const {
  return job_.stop.load(std::memory_order_relaxed) ||
         (job_.control && job_.control->load(std::memory_order_relaxed) != 0);
}

void JobContext::check() const {
  if (aborted()) fail(ErrorCode::aborted, "the operation was aborted");
  reads_.check();
}

void JobContext::progress(double done, double total) {
  if (job_.on_progress.IsEmpty()) return;
  const auto now = std::chrono::steady_clock::now();
  if (done < total && now - last_ < std::chrono::milliseconds(50)) return;
  last_ = now;
  struct Report {
    Job* job;
    double done, total;
  };
  auto* report = new Report{&job_, done, total};
  const auto status = job_.environment.loop.NonBlockingCall(report, [](Napi::Env env, Napi::Function,
                                                                       Report* received) {
    std::unique_ptr<Report> owned(received);
    if (env == nullptr) return;
    Napi::HandleScope scope(env);
    // Reports are queued before the job's end, so the job is still there.
    owned->job->on_progress.Call({Napi::Number::New(env, owned->done), Napi::Number::New(env, owned->total)});
  });
  if (status != napi_ok) delete report;
}

Napi::Promise start_job(Napi::Env env, const Napi::Value& options, const std::vector<Napi::Value>& keep,
                        Work work, double operations) {
  auto* environment = env.GetInstanceData<Environment>();
  auto job = std::make_unique<Job>(env, *environment);
  if (options.IsObject()) {
    const auto object = options.As<Napi::Object>();
    const Napi::Value control = object.Get("control");
    if (control.IsTypedArray()) {
      const auto array = control.As<Napi::TypedArray>();
      if (array.TypedArrayType() != napi_int32_array || array.ElementLength() < 1)
        throw Napi::TypeError::New(env, "control: expected an Int32Array of length 1");
      job->control = reinterpret_cast<std::atomic<std::int32_t>*>(control.As<Napi::Int32Array>().Data());
      job->kept.push_back(Napi::Persistent(control));
    }
    const Napi::Value on_progress = object.Get("onProgress");
    if (on_progress.IsFunction()) job->on_progress = Napi::Persistent(on_progress.As<Napi::Function>());
  }
  for (const auto& value : keep)
    if (value.IsObject()) job->kept.push_back(Napi::Persistent(value));
  job->work = std::move(work);
  const auto promise = job->deferred.Promise();
  if (operations <= kTinyJob && job->on_progress.IsEmpty()) {
    const Serial alone;
    job->execute();
    job->resolve(env);
    return promise;
  }
  if (environment->pending++ == 0) environment->loop.Ref(env);
  Job* raw = job.release();
  {
    std::lock_guard lock(environment->mutex);
    environment->running.insert(raw);
  }
  runners().run([raw] { raw->run(); });
  return promise;
}

Napi::Error to_js_error(Napi::Env env, const Error& error) {
  auto made = Napi::Error::New(env, error.what());
  made.Set("code", Napi::String::New(env, error_code_name(error.code())));
  return made;
}

void initialise_jobs(Napi::Env env) {
  auto* environment = new Environment;
  environment->loop = Napi::ThreadSafeFunction::New(env, Napi::Function(), "personascope", 0, 1);
  environment->loop.Unref(env);
  env.SetInstanceData<Environment>(environment);
  // When the environment ends, running jobs are told to stop and waited for: they use its memory.
  env.AddCleanupHook(
      [](Environment* ending) {
        std::unique_lock lock(ending->mutex);
        for (Job* job : ending->running) job->stop = true;
        ending->ended.wait(lock, [&] { return ending->running.empty(); });
      },
      environment);
}

}  // namespace personascope::addon
