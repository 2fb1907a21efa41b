#include "test/emulation/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <vector>

#include "test/emulation/fibre.h"
#include "test/emulation/hopper.h"
#include "test/emulation/memory.h"

namespace emulation {

namespace {

constexpr std::size_t kMostShared = 227 * 1024, kShared = 48 * 1024;
constexpr unsigned kMostCluster = 8;

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

struct Block;
struct Thread {
  Fibre fibre;
  Block* block = nullptr;
  unsigned number = 0;
  uint3 index = {};
  Actor actor = {};
  bool done = false;
  const char* waits_for = nullptr;               // null while it can run
  const std::function<bool()>* ready = nullptr;  // of wait_until
  std::vector<std::vector<Copy>> groups;         // of copies under way; the last one is open
};

// A rendezvous of some lanes.
struct Together {
  unsigned mask, arrived;
  const char* what;
  void* operands[32];
};
struct Warp {
  std::vector<Together> open;
  std::uint32_t phase = 0;
};
struct Barrier {
  unsigned expected = 0;
  std::vector<Thread*> here;
};
struct Block {
  uint3 index = {};
  unsigned rank = 0;  // in its cluster
  unsigned alive = 0;
  char *window = nullptr, *shared = nullptr;  // what it has of shared memory, and where that begins
  std::size_t shared_used = 0;
  std::map<const void*, char*> shared_names;
  std::vector<Warp> warps;
  std::map<int, Barrier> barriers;
};

struct Machine {
  const Grid* grid = nullptr;
  Fibre scheduler;
  std::vector<Block> blocks;  // that run now: one cluster
  std::vector<Thread> threads;
  std::deque<Thread*> runnable;
  std::vector<Thread*> polling;
  std::vector<Thread*> at_cluster_barrier;
  Thread* running = nullptr;
  std::string defect;
};
__thread Machine* machine = nullptr;

std::uint64_t number_of(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::uint32_t mixed(std::uint64_t value) {
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
  value = (value ^ value >> 27) * 0x94d049bb133111ebu;
  return static_cast<std::uint32_t>(value >> 32);
}

void make_ready(Thread& thread) {
  thread.waits_for = nullptr;
  // Who was woken first need not go on first.
  if (chance() & 1)
    machine->runnable.push_front(&thread);
  else
    machine->runnable.push_back(&thread);
}

void go_to_scheduler(bool last = false) {
  Thread& self = *machine->running;
  switch_fibre(self.fibre, machine->scheduler, last);
}

void wait_as(const char* what) {
  machine->running->waits_for = what;
  go_to_scheduler();
}

std::string who(const Thread& thread) {
  const uint3& block = thread.block->index;
  return "thread " + std::to_string(thread.number) + " of block " + std::to_string(block.x) +
         (block.y ? ", " + std::to_string(block.y) : "");
}

void thread_body() {
  entered(machine->scheduler);
  Thread& self = *machine->running;
  actor = &self.actor;
  machine->grid->body(machine->grid->call.get());
  const Outside outside;
  self.done = true;
  --self.block->alive;
  const Warp& warp = self.block->warps[self.number / 32];
  for (const Together& open : warp.open)
    if (open.mask >> self.number % 32 & 1)
      defect(who(self) + " leaves while lanes of its warp wait for it at " + open.what);
  for (const auto& [number, barrier] : self.block->barriers)
    if (!barrier.here.empty() && barrier.expected > self.block->alive)
      defect(who(self) + " leaves while " + std::to_string(barrier.here.size()) + " threads wait for it at " +
             barrier.here[0]->waits_for);
  go_to_scheduler(true);
}

char* shared_memory() {
  static char* const memory = static_cast<char*>(allocate(kMostCluster * kSharedWindow, -1));
  return memory;
}

void start_cluster(std::uint64_t first_block, std::uint32_t launch) {
  Machine& m = *machine;
  const Grid& grid = *m.grid;
  const unsigned count = grid.threads.x;
  start_hopper();
  const std::size_t shared_begin = seed() ? chance() % 8 * 128 : 0;  // the same in all blocks
  m.blocks.assign(grid.cluster, {});
  m.threads.assign(static_cast<std::size_t>(grid.cluster) * count, {});
  m.polling.clear();
  m.at_cluster_barrier.clear();
  m.runnable.clear();
  for (unsigned b = 0; b < grid.cluster; ++b) {
    Block& block = m.blocks[b];
    const std::uint64_t number = first_block + b;
    block.index = {static_cast<unsigned>(number % grid.blocks.x),
                   static_cast<unsigned>(number / grid.blocks.x % grid.blocks.y),
                   static_cast<unsigned>(number / grid.blocks.x / grid.blocks.y)};
    block.rank = b;
    block.alive = count;
    block.warps.assign((count + 31) / 32, {});
    block.window = shared_memory() + b * kSharedWindow;
    // Any multiple of 128 bytes may be the first: compilers put their own before it.
    block.shared = block.window + shared_begin;
    block.shared_used = (grid.shared_bytes + 127) / 128 * 128;
    clear_shared(block.shared, grid.shared_bytes);
    for (unsigned t = 0; t < count; ++t) {
      Thread& thread = m.threads[b * count + t];
      thread.block = &block;
      thread.number = t;
      thread.index = {t, 0, 0};
      prepare(thread.fibre, b * count + t, thread_body);
      thread.actor = {thread.fibre.low,
                      thread.fibre.low + thread.fibre.bytes,
                      launch,
                      static_cast<std::uint32_t>(number),
                      t,
                      0,
                      &block.warps[t / 32].phase};
      m.runnable.push_back(&thread);
    }
  }
  if (seed() != 0)
    for (std::size_t i = m.runnable.size(); i > 1; --i)
      std::swap(m.runnable[i - 1], m.runnable[chance() % i]);
}

// Those whose condition holds by now can run.
bool poll() {
  bool any = false;
  auto& polling = machine->polling;
  for (std::size_t i = 0; i < polling.size();) {
    if (!(*polling[i]->ready)()) {
      ++i;
      continue;
    }
    make_ready(*polling[i]);
    polling.erase(polling.begin() + static_cast<std::ptrdiff_t>(i));
    any = true;
  }
  return any;
}

std::string waits_without_end() {
  std::map<std::string, unsigned> waits;
  const Thread* first = nullptr;
  for (const Thread& thread : machine->threads)
    if (!thread.done) {
      if (!first) first = &thread;
      ++waits[thread.waits_for ? thread.waits_for : "nothing"];
    }
  if (!first) return "";
  std::string text = "nobody can go on:";
  for (const auto& [what, count] : waits)
    text += " " + std::to_string(count) + " threads wait at " + what + ",";
  text += " among them " + who(*first);
  return text;
}

void run_cluster() {
  Machine& m = *machine;
  for (;;) {
    const bool idle = m.runnable.empty();
    if (idle && std::all_of(m.threads.begin(), m.threads.end(), [](const Thread& t) { return t.done; })) {
      m.defect = unfinished();
      return;
    }
    if (idle && !poll() && !finish_pending()) {
      m.defect = waits_without_end();
      return;
    }
    if (!m.defect.empty()) return;
    if (m.runnable.empty()) continue;
    m.running = m.runnable.front();
    m.runnable.pop_front();
    switch_fibre(m.scheduler, m.running->fibre);
    actor = nullptr;
    m.running = nullptr;
    if (!m.defect.empty()) return;
    if (seed() != 0 && chance() % 64 == 0) {
      finish_pending();
      poll();
    }
  }
}

std::map<const void*, int>& shared_limits() {
  static std::map<const void*, int> limits;
  return limits;
}

}  // namespace

std::uint64_t seed() {
  static const std::uint64_t value = number_of("PERSONASCOPE_EMULATION_SEED", 0);
  return value;
}

std::uint32_t chance() {
  static std::uint64_t asked = 0;
  return seed() ? mixed(seed() * 0x9e3779b97f4a7c15u + ++asked) : 0;
}

uint3 thread_index() {
  return machine->running->index;
}
uint3 block_index() {
  return machine->running->block->index;
}
dim3 block_size() {
  return machine->grid->threads;
}
dim3 grid_size() {
  return machine->grid->blocks;
}
std::uint8_t* dynamic_shared() {
  return reinterpret_cast<std::uint8_t*>(machine->running->block->shared);
}

void* static_shared(const void* name, std::size_t bytes) {
  const Outside outside;
  Block& block = *machine->running->block;
  char*& place = block.shared_names[name];
  if (!place) {
    place = block.shared + block.shared_used;
    block.shared_used += (bytes + 127) / 128 * 128;
    const bool allowed = shared_limits().count(machine->grid->kernel) > 0;
    if (block.shared_used > (allowed ? kMostShared : kShared))
      defect("a kernel has " + std::to_string(block.shared_used) + " bytes of shared memory");
    clear_shared(place, bytes);
  }
  return place;
}

void defect(const std::string& what) {
  if (!machine || !machine->running) {
    std::fprintf(stderr, "emulation: %s\n", what.c_str());
    std::abort();
  }
  actor = nullptr;
  machine->defect = what;
  go_to_scheduler(true);
  __builtin_unreachable();
}

void report(const std::string& what) {
  machine->defect = what;
}

unsigned cluster_rank() {
  return machine->running->block->rank;
}

unsigned thread_key() {
  return cluster_rank() * 1024 + machine->running->number;
}

void cluster_barrier() {
  const Outside outside;
  Machine& m = *machine;
  Thread& self = *m.running;
  if (m.at_cluster_barrier.size() + 1 < m.threads.size()) {
    m.at_cluster_barrier.push_back(&self);
    wait_as("the cluster's barrier");
    return;
  }
  for (Thread* other : m.at_cluster_barrier) {
    ++other->actor.phase;
    make_ready(*other);
  }
  ++self.actor.phase;
  m.at_cluster_barrier.clear();
}

std::uint32_t shared_address(const void* at) {
  const std::ptrdiff_t offset = static_cast<const char*>(at) - machine->running->block->window;
  if (offset < 0 || static_cast<std::size_t>(offset) >= kSharedWindow) defect("no address of shared memory");
  return static_cast<std::uint32_t>(offset);
}

char* shared_window(unsigned rank) {
  if (rank >= machine->blocks.size() || machine->blocks[rank].alive == 0) return nullptr;
  return machine->blocks[rank].window;
}

void wait_until(const char* what, const std::function<bool()>& ready) {
  const Outside outside;
  if (ready()) return;
  machine->running->ready = &ready;
  machine->polling.push_back(machine->running);
  wait_as(what);
}

void block_barrier(int number, unsigned threads) {
  static const char* const kNames[16] = {"__syncthreads", "barrier 1",  "barrier 2",  "barrier 3",
                                         "barrier 4",     "barrier 5",  "barrier 6",  "barrier 7",
                                         "barrier 8",     "barrier 9",  "barrier 10", "barrier 11",
                                         "barrier 12",    "barrier 13", "barrier 14", "barrier 15"};
  const Outside outside;
  Thread& self = *machine->running;
  Block& block = *self.block;
  const unsigned all = machine->grid->threads.x;
  const unsigned expected = threads ? threads : all;
  if (expected > block.alive)
    defect(who(self) + " comes to " + kNames[number] + " of " + std::to_string(expected) + " threads, but " +
           std::to_string(all - block.alive) + " of the block's have left");
  Barrier& barrier = block.barriers[number];
  if (barrier.here.empty()) barrier.expected = expected;
  if (barrier.expected != expected)
    defect(who(self) + " waits for " + std::to_string(expected) + " threads at " + kNames[number] +
           ", others for " + std::to_string(barrier.expected));
  if (barrier.here.size() + 1 < expected) {
    barrier.here.push_back(&self);
    wait_as(kNames[number]);
    return;
  }
  std::vector<Thread*> here;
  here.swap(barrier.here);
  for (Thread* other : here) {
    ++other->actor.phase;
    make_ready(*other);
  }
  ++self.actor.phase;
}

void warp_together(unsigned mask, const char* what, void* operand, Combine combine) {
  const Outside outside;
  Thread& self = *machine->running;
  Warp& warp = self.block->warps[self.number / 32];
  const unsigned lane = self.number % 32, own = 1u << lane;
  if (!(mask & own)) defect(who(self) + " is not in its own mask at " + what);
  const unsigned warp_begin = self.number - lane;
  Together* open = nullptr;
  for (Together& one : warp.open)
    if (one.mask & own) open = &one;
  if (!open) {
    // Lanes that have left never come.
    const Thread* threads = &self - lane;
    for (unsigned other = 0; other < 32; ++other)
      if ((mask >> other & 1) && (warp_begin + other >= machine->grid->threads.x || threads[other].done))
        defect(who(self) + " waits at " + what + " for lane " + std::to_string(other) + ", which " +
               (warp_begin + other >= machine->grid->threads.x ? "is not there" : "has left"));
    open = &warp.open.emplace_back();
    open->mask = mask;
    open->arrived = 0;
    open->what = what;
    if (mask != 0xffffffffu) std::fill_n(open->operands, 32, nullptr);
  }
  if (open->mask != mask || open->what != what)
    defect(who(self) + " is at " + what + ", other lanes of its warp at " + open->what);
  open->operands[lane] = operand;
  open->arrived |= own;
  if (open->arrived != mask) {
    wait_as(what);
    return;
  }
  if (combine) combine(open->operands);
  if (open != &warp.open.back()) *open = warp.open.back();
  warp.open.pop_back();
  // Shuffles and products order no memory.
  if (!combine) ++warp.phase;
  Thread* threads = &self - lane;
  for (unsigned other = 0; other < 32; ++other)
    if ((mask >> other & 1) && other != lane) make_ready(threads[other]);
}

void shuffle(void* const* operands) {
  std::uint64_t before[32] = {};
  for (int lane = 0; lane < 32; ++lane)
    if (operands[lane]) before[lane] = static_cast<Shuffled*>(operands[lane])->value;
  for (int lane = 0; lane < 32; ++lane) {
    if (!operands[lane]) continue;
    Shuffled& own = *static_cast<Shuffled*>(operands[lane]);
    if (!operands[own.from])
      defect("a shuffle reads lane " + std::to_string(own.from) + ", outside of its mask");
    own.value = before[own.from];
  }
}

void ballot(void* const* operands) {
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (operands[lane] && static_cast<Ballot*>(operands[lane])->yes) votes |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane)
    if (operands[lane]) static_cast<Ballot*>(operands[lane])->votes = votes;
}

void copy_async(void* shared, const void* global, std::size_t bytes) {
  access(shared, bytes, Access::write);  // from here on nobody else may use the place
  const Outside outside;
  Thread& self = *machine->running;
  if (self.groups.empty()) self.groups.emplace_back();
  forget(shared, bytes);
  self.groups.back().push_back({shared, global, bytes});
}

void copy_commit() {
  const Outside outside;
  Thread& self = *machine->running;
  if (self.groups.empty()) self.groups.emplace_back();
  self.groups.emplace_back();
}

void copy_wait(unsigned pending) {
  const Outside outside;
  Thread& self = *machine->running;
  while (self.groups.size() > pending + 1) {
    for (const Copy& copy : self.groups.front()) {
      actor = &self.actor;
      access(copy.from, copy.bytes, Access::read);
      access(copy.to, copy.bytes, Access::write);
      actor = nullptr;
      copy_unseen(copy.to, copy.from, copy.bytes);
    }
    self.groups.erase(self.groups.begin());
  }
}

cudaError_t allow_shared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<std::size_t>(bytes) > kMostShared) return cudaErrorInvalidValue;
  shared_limits()[kernel] = bytes;
  return cudaSuccess;
}

bool sound(const Grid& grid) {
  const auto limit = shared_limits().find(grid.kernel);
  const std::size_t most =
      limit == shared_limits().end() ? kShared : std::max(kShared, static_cast<std::size_t>(limit->second));
  return grid.blocks.x >= 1 && grid.blocks.x < 1u << 31 && grid.blocks.y >= 1 && grid.blocks.y < 65536 &&
         grid.blocks.z == 1 && grid.threads.x >= 1 && grid.threads.x <= 1024 && grid.threads.y == 1 &&
         grid.threads.z == 1 && grid.shared_bytes <= most && grid.cluster >= 1 &&
         grid.cluster <= kMostCluster && grid.blocks.x % grid.cluster == 0;
}

std::string run(const Grid& grid) {
  static std::uint32_t launches = 0;
  Machine made;
  machine = &made;
  made.grid = &grid;
  ++launches;
  set_arguments(grid.call.get(), grid.call_bytes);
  set_shared(shared_memory(), kMostCluster * kSharedWindow);
  const std::uint64_t clusters = static_cast<std::uint64_t>(grid.blocks.x) * grid.blocks.y / grid.cluster;
  // Blocks may run in any order: backwards for odd seeds.
  for (std::uint64_t c = 0; c < clusters && made.defect.empty(); ++c) {
    const std::uint64_t cluster = seed() % 2 ? clusters - 1 - c : c;
    start_cluster(cluster * grid.cluster, launches);
    run_cluster();
  }
  actor = nullptr;
  machine = nullptr;
  return made.defect;
}

}  // namespace emulation
