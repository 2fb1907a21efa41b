// The one thread pool of the process.
//
// parallel_for splits [0, count) into chunks that any thread may take; a kernel built on it must compute each
// element of its output in an order that does not depend on the split, so that results are the same for any
// number of threads. A region started while another runs waits for it. A region started inside a region runs
// in the calling thread.
#pragma once
#include <cstddef>
#include <functional>

namespace personascope {

// Threads that take part in a region, the caller included. First use: PERSONASCOPE_THREADS, else the number
// of CPUs this process may run on.
int thread_count();
// 1 <= count <= 1024, else invalid_argument. Waits for a running region.
void set_thread_count(int count);

// Calls body(begin, end) over disjoint chunks that cover [0, count), each of at most `grain` indices (>= 1).
// The first exception thrown by a body is rethrown here after all chunks stopped.
void parallel_for(std::size_t count, std::size_t grain,
                  const std::function<void(std::size_t begin, std::size_t end)>& body);

// While one lives, regions that its thread starts run in that thread alone: they never wait for another
// thread's region. For work that is too small to share, on a thread that must not wait.
class Serial {
 public:
  Serial();
  ~Serial();
  Serial(const Serial&) = delete;
  Serial& operator=(const Serial&) = delete;

 private:
  bool before_;
};

// Index of the calling thread inside a region: 0 for the caller, < thread_count(). For scratch memory only.
int thread_index();

}  // namespace personascope
