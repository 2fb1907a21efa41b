#include "native/core/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "native/core/error.h"

namespace personascope {

namespace {

thread_local int t_index = 0;
thread_local bool t_inside = false;

int default_thread_count() {
  if (const char* text = std::getenv("PERSONASCOPE_THREADS"); text && *text) {
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    require(*end == 0 && value >= 1 && value <= 1024, ErrorCode::invalid_argument,
            std::string("PERSONASCOPE_THREADS=") + text + ": expected a whole number from 1 to 1024");
    return static_cast<int>(value);
  }
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    const int count = CPU_COUNT(&set);
    if (count > 0) return count;
  }
  return 1;
}

struct Region {
  std::size_t count = 0, grain = 1;
  const std::function<void(std::size_t, std::size_t)>* body = nullptr;
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // written once, by the thread that set `failed`

  void work() {
    t_inside = true;
    while (!failed.load(std::memory_order_relaxed)) {
      const std::size_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) break;
      const std::size_t end = count - begin < grain ? count : begin + grain;
      try {
        (*body)(begin, end);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
    t_inside = false;
  }
};

class Pool {
 public:
  explicit Pool(int threads) {
    for (int index = 1; index < threads; ++index) workers_.emplace_back([this, index] { run(index); });
  }
  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  void run_region(Region& region) {
    {
      std::lock_guard lock(mutex_);
      region_ = &region;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    region.work();
    // Workers that have not come yet are not waited for; those inside must leave before the region's memory
    // goes.
    std::unique_lock lock(mutex_);
    region_ = nullptr;
    left_.wait(lock, [&] { return inside_ == 0; });
  }

 private:
  // A worker spins this often before it sleeps: long enough to bridge the gap between two small kernels.
  static constexpr int kSpins = 20000;

  void run(int index) {
    t_index = index;
    unsigned seen = 0;
    for (;;) {
      for (int spins = 0; generation_.load(std::memory_order_acquire) == seen && spins < kSpins; ++spins)
        __builtin_ia32_pause();
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      Region* region = region_;
      if (!region) continue;
      ++inside_;
      lock.unlock();
      region->work();
      lock.lock();
      if (--inside_ == 0) left_.notify_all();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, left_;
  std::atomic<unsigned> generation_{0};
  Region* region_ = nullptr;  // guarded by mutex_, like the two below
  int inside_ = 0;
  bool stopping_ = false;
};

struct Global {
  std::mutex regions;  // one region at a time
  int threads = default_thread_count();
  Pool* pool = nullptr;
};

// Leaked on purpose: workers may still run while static destructors do.
Global& global() {
  static Global* state = [] {
    auto* made = new Global;
    // A child of fork has no workers; it makes its own pool at its first region.
    pthread_atfork([] { global().regions.lock(); }, [] { global().regions.unlock(); },
                   [] {
                     global().pool = nullptr;
                     global().regions.unlock();
                   });
    return made;
  }();
  return *state;
}

}  // namespace

int thread_count() {
  return global().threads;
}

void set_thread_count(int count) {
  require(count >= 1 && count <= 1024, ErrorCode::invalid_argument,
          "threads: found " + std::to_string(count) + ", expected 1 to 1024");
  Global& state = global();
  std::lock_guard lock(state.regions);
  if (count == state.threads) return;
  delete state.pool;
  state.pool = nullptr;
  state.threads = count;
}

void parallel_for(std::size_t count, std::size_t grain,
                  const std::function<void(std::size_t, std::size_t)>& body) {
  if (count == 0) return;
  if (grain == 0) grain = 1;
  Global& state = global();
  if (t_inside || count <= grain || state.threads == 1) {
    for (std::size_t begin = 0; begin < count; begin += grain)
      body(begin, count - begin < grain ? count : begin + grain);
    return;
  }
  std::lock_guard lock(state.regions);
  if (!state.pool) state.pool = new Pool(state.threads);
  Region region;
  region.count = count;
  region.grain = grain;
  region.body = &body;
  state.pool->run_region(region);
  if (region.failed) std::rethrow_exception(region.error);
}

Serial::Serial() : before_(t_inside) {
  t_inside = true;
}

Serial::~Serial() {
  t_inside = before_;
}

int thread_index() {
  return t_index;
}

}  // namespace personascope
