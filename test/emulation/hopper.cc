#include "test/emulation/hopper.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <variant>
#include <vector>

#include "test/emulation/machine.h"
#include "test/emulation/memory.h"
#include "test/emulation/tensor_core.h"

namespace emulation {

namespace {

// ---- state -----------------------------------------------------------------------------------------------

struct Mbarrier {
  unsigned phase = 0, expected = 0, pending = 0;
  std::int64_t bytes = 0;  // still to come in this phase
  bool fenced = false;     // copies and other blocks know of it
};

struct Map {
  const char* base;
  std::uint64_t bytes, rows, stride;  // of the matrix
  std::uint32_t box_bytes, box_rows;
  std::uint32_t swizzled;
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

struct BulkCopy {
  Map map;
  std::int32_t byte, row;
  std::vector<char*> to;
  std::vector<const void*> barriers;
};

struct Product {
  void* sums;
  std::uint64_t a, b;
  bool add;
};
// A thread's products under way, group by group; the last one is open.
struct Products {
  bool fenced = false;
  std::vector<std::vector<Product>> groups = std::vector<std::vector<Product>>(1);
  // What lies in the registers of sums that are under way, and how many products are to come.
  struct Sums {
    std::variant<std::vector<float>, std::vector<std::int32_t>> values;
    unsigned products = 0;
  };
  std::map<void*, Sums> sums;
};

// Of the cluster that runs. A launch runs at a time (runtime.cc).
std::map<const void*, Mbarrier> s_barriers;
std::vector<BulkCopy> s_copies;
std::map<unsigned, Products> s_products;

// ---- barriers --------------------------------------------------------------------------------------------

Mbarrier& barrier_of(const void* at) {
  const auto found = s_barriers.find(at);
  if (found == s_barriers.end()) defect("a barrier that was not initialised");
  return found->second;
}

void look_at_phase(Mbarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  barrier.phase ^= 1;
  barrier.pending = barrier.expected;
}

void arrive(Mbarrier& barrier, unsigned bytes) {
  barrier.bytes += bytes;
  if (barrier.pending == 0) defect("more threads arrive at a barrier than it waits for");
  --barrier.pending;
  look_at_phase(barrier);
}

// The same place in another block of the cluster.
char* place_in(const void* at, unsigned rank) {
  char* base = shared_window(rank);
  if (!base)
    defect("shared memory of block " + std::to_string(rank) + " of the cluster, which has left or never was");
  return base + shared_address(at);
}

// ---- swizzling -------------------------------------------------------------------------------------------

// 128-byte swizzling: of an address, the 16-byte unit (bits 4 to 6) is exchanged by the number of the row of
// 128 bytes (bits 7 to 9).
std::uintptr_t swizzled(std::uintptr_t address) {
  return address ^ (address >> 7 & 7) << 4;
}

// ---- bulk copies -----------------------------------------------------------------------------------------

CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                      const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                      const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                      CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
  const auto address = reinterpret_cast<std::uintptr_t>(base);
  const bool sound =
      reinterpret_cast<std::uintptr_t>(map) % 64 == 0 && type == CU_TENSOR_MAP_DATA_TYPE_UINT8 && rank == 2 &&
      address % 16 == 0 && on_device(base) && extents[0] >= 1 && extents[0] <= std::uint64_t{1} << 32 &&
      extents[1] >= 1 && extents[1] <= std::uint64_t{1} << 32 && strides[0] % 16 == 0 &&
      strides[0] < std::uint64_t{1} << 40 && strides[0] >= extents[0] && box[0] >= 1 && box[0] <= 256 &&
      box[0] % 16 == 0 && box[1] >= 1 && box[1] <= 256 && steps[0] == 1 && steps[1] == 1 &&
      interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE &&
      (swizzle != CU_TENSOR_MAP_SWIZZLE_128B || box[0] <= 128);
  if (!sound) return CUDA_ERROR_INVALID_VALUE;
  const Map made = {static_cast<const char*>(base),       extents[0], extents[1], strides[0], box[0], box[1],
                    swizzle == CU_TENSOR_MAP_SWIZZLE_128B};
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &made, sizeof made);
  return CUDA_SUCCESS;
}

std::string complete(const BulkCopy& copy) {
  const Map& map = copy.map;
  const std::size_t size = static_cast<std::size_t>(map.box_bytes) * map.box_rows;
  for (std::size_t target = 0; target < copy.to.size(); ++target) {
    for (std::uint32_t row = 0; row < map.box_rows; ++row)
      for (std::uint32_t byte = 0; byte < map.box_bytes; byte += 16) {
        const auto linear = reinterpret_cast<std::uintptr_t>(copy.to[target]) +
                            static_cast<std::uintptr_t>(row) * map.box_bytes + byte;
        char* to = reinterpret_cast<char*>(map.swizzled ? swizzled(linear) : linear);
        // Beyond the matrix there are zeros.
        char unit[16] = {};
        const std::int64_t from_row = copy.row + static_cast<std::int64_t>(row),
                           from_byte = copy.byte + static_cast<std::int64_t>(byte);
        for (std::int64_t i = 0; i < 16; ++i) {
          if (from_row < 0 || from_row >= static_cast<std::int64_t>(map.rows) || from_byte + i < 0 ||
              from_byte + i >= static_cast<std::int64_t>(map.bytes))
            continue;
          const char* from = map.base + static_cast<std::uint64_t>(from_row) * map.stride +
                             static_cast<std::uint64_t>(from_byte + i);
          const std::string wrong = unreadable(from, 1);
          if (!wrong.empty()) return "a bulk copy reads " + wrong;
          unit[i] = *from;
        }
        std::memcpy(to, unit, sizeof unit);
      }
    const std::string wrong = arrived(copy.to[target], size);
    if (!wrong.empty()) return "a bulk copy writes " + wrong;
    Mbarrier& barrier = s_barriers.at(copy.barriers[target]);
    barrier.bytes -= static_cast<std::int64_t>(size);
    look_at_phase(barrier);
  }
  return "";
}

// ---- products --------------------------------------------------------------------------------------------

// 32 bytes of each row of an operand.
template <class T>
struct Rows {
  static constexpr int kDepth = 32 / sizeof(T);
  T values[256][kDepth];
  // An operand that is contiguous along k, swizzled by 128 bytes: groups of eight rows of 128 bytes.
  void load(std::uint64_t descriptor, int first, int count) {
    const std::uint64_t start = (descriptor & 0x3FFF) << 4, group = (descriptor >> 32 & 0x3FFF) << 4;
    if (descriptor >> 62 != 1) defect("an operand of a product without 128-byte swizzling");
    // A pattern that begins elsewhere would need a base offset, which nobody gives here.
    if ((descriptor >> 49 & 7) != 0 || (start >> 7 & 7) != 0)
      defect("an operand whose pattern does not begin at a multiple of 1024 bytes");
    for (int row = first; row < first + count; ++row)
      for (int unit = 0; unit < 2; ++unit) {
        const std::uint64_t address = start + static_cast<std::uint64_t>(row / 8) * group +
                                      static_cast<std::uint64_t>(row % 8) * 128 +
                                      static_cast<std::uint64_t>(unit) * 16;
        const char* at = shared_window(cluster_rank()) + swizzled(address);
        const std::string wrong = unreadable(at, 16);
        if (!wrong.empty()) defect("a product reads " + wrong);
        std::memcpy(reinterpret_cast<char*>(values[row - first]) + 16 * unit, at, 16);
      }
  }
};

float add_products(float sum, const Rows<std::uint16_t>& a, const Rows<std::uint16_t>& b, int row, int column,
                   const Rounding& rounding) {
  return rounding.add(sum, a.values[row], b.values[column]);
}
std::int32_t add_products(std::int32_t sum, const Rows<std::int8_t>& a, const Rows<std::int8_t>& b, int row,
                          int column, const Rounding&) {
  for (int k = 0; k < 32; ++k) sum += a.values[row][k] * b.values[column][k];
  return sum;
}

template <class Sum, class T>
void multiply(void* const* lanes, std::size_t index, int warp) {
  const Product& first = static_cast<Products*>(lanes[0])->groups.front()[index];
  static Rows<T> a, b;
  a.load(first.a, 16 * warp, 16);
  b.load(first.b, 0, 256);
  const Rounding rounding(Rows<T>::kDepth == 16 ? 16 : 0);
  for (int lane = 0; lane < 32; ++lane) {
    Products& own = *static_cast<Products*>(lanes[lane]);
    const Product& product = own.groups.front()[index];
    if (product.a != first.a || product.b != first.b || product.add != first.add)
      defect("lanes of a warp give a product of different operands");
    Products::Sums& sums = own.sums.at(product.sums);
    auto& values = std::get<std::vector<Sum>>(sums.values);
    // d0 d1 | d2 d3: rows lane / 4 and 8 further; then the next 8 columns.
    for (int i = 0; i < 128; ++i) {
      const int row = (lane >> 2) + (i % 4 < 2 ? 0 : 8), column = i / 4 * 8 + lane % 4 * 2 + (i & 1);
      values[static_cast<std::size_t>(i)] = add_products(
          product.add ? values[static_cast<std::size_t>(i)] : Sum{0}, a, b, row, column, rounding);
    }
    if (--sums.products == 0) {
      std::memcpy(product.sums, values.data(), 128 * sizeof(Sum));
      own.sums.erase(product.sums);
    }
  }
}

// The oldest group of every lane.
void finish_group(void* const* lanes) {
  const std::size_t count = static_cast<Products*>(lanes[0])->groups.front().size();
  for (int lane = 0; lane < 32; ++lane)
    if (static_cast<Products*>(lanes[lane])->groups.front().size() != count)
      defect("lanes of a warp have started different products");
  const int warp = static_cast<int>(thread_index().x) / 32 % 4;
  for (std::size_t i = 0; i < count; ++i) {
    Products& any = *static_cast<Products*>(lanes[0]);
    const auto& sums = any.sums.at(any.groups.front()[i].sums).values;
    if (std::holds_alternative<std::vector<float>>(sums))
      multiply<float, std::uint16_t>(lanes, i, warp);
    else
      multiply<std::int32_t, std::int8_t>(lanes, i, warp);
  }
  for (int lane = 0; lane < 32; ++lane) {
    auto& groups = static_cast<Products*>(lanes[lane])->groups;
    groups.erase(groups.begin());
  }
}

template <class Sum>
void start_product(Sum (&sums)[128], std::uint64_t a, std::uint64_t b, bool add, Sum garbage) {
  const Outside outside;
  Products& own = s_products[thread_key()];
  if (own.sums.empty() && !own.fenced) defect("a product of a warp group without a fence before it");
  const auto [found, fresh] = own.sums.try_emplace(sums);
  if (fresh) {
    found->second.values = std::vector<Sum>(sums, sums + 128);
    for (Sum& value : sums) value = garbage;  // nobody may look before the wait
  }
  ++found->second.products;
  own.groups.back().push_back({sums, a, b, add});
}

}  // namespace

void mbarrier_init(const void* barrier, unsigned arrivals) {
  access(barrier, 8, Access::write);
  const Outside outside;
  if (arrivals == 0) defect("a barrier for nobody");
  s_barriers[barrier] = {0, arrivals, arrivals, 0, false};
}

void mbarrier_init_fence() {
  const Outside outside;
  for (auto& [at, barrier] : s_barriers)
    if (shared_window(cluster_rank()) <= at && at < shared_window(cluster_rank()) + kSharedWindow)
      barrier.fenced = true;
}

void mbarrier_arrive(const void* barrier, unsigned bytes) {
  const Outside outside;
  arrive(barrier_of(barrier), bytes);
}

void mbarrier_arrive_at(const void* barrier, unsigned rank) {
  const Outside outside;
  Mbarrier& remote = barrier_of(place_in(barrier, rank));
  if (rank != cluster_rank() && !remote.fenced) defect("a barrier of another block that was not fenced");
  arrive(remote, 0);
}

void mbarrier_wait(const void* barrier, unsigned parity) {
  const Outside outside;
  const Mbarrier& own = barrier_of(barrier);
  wait_until("an mbarrier", [&] { return own.phase != parity; });
}

void* tensor_map_encoder() {
  return reinterpret_cast<void*>(encode_tiled);
}

void copy_box(void* to, const CUtensorMap* map, std::int32_t byte, std::int32_t row, const void* barrier,
              unsigned blocks) {
  const Outside outside;
  BulkCopy copy = {};
  std::memcpy(&copy.map, map, sizeof copy.map);
  copy.byte = byte;
  copy.row = row;
  if (shared_address(to) % 128 != 0) defect("a bulk copy to a place that is no multiple of 128 bytes");
  for (unsigned rank = 0; rank < 16; ++rank) {
    if (!(blocks >> rank & 1)) continue;
    copy.to.push_back(place_in(to, rank));
    copy.barriers.push_back(place_in(barrier, rank));
    if (!barrier_of(copy.barriers.back()).fenced) defect("a bulk copy to a barrier that was not fenced");
    const std::string wrong =
        begun(copy.to.back(), static_cast<std::size_t>(copy.map.box_bytes) * copy.map.box_rows);
    if (!wrong.empty()) defect("a bulk copy to " + wrong);
  }
  s_copies.push_back(std::move(copy));
}

void product_fence() {
  const Outside outside;
  s_products[thread_key()].fenced = true;
}

void product(float (&sums)[128], std::uint64_t a, std::uint64_t b, bool add) {
  start_product(sums, a, b, add, __builtin_nanf(""));
}
void product(std::int32_t (&sums)[128], std::uint64_t a, std::uint64_t b, bool add) {
  start_product(sums, a, b, add, std::int32_t{0x55555555});
}

void product_commit() {
  const Outside outside;
  s_products[thread_key()].groups.emplace_back();
}

void product_wait(unsigned pending) {
  const Outside outside;
  Products& own = s_products[thread_key()];
  while (own.groups.size() > pending + 1) warp_together(0xffffffffu, "wgmma.wait_group", &own, finish_group);
  if (own.sums.empty()) own.fenced = false;
}

void start_hopper() {
  s_barriers.clear();
  s_copies.clear();
  s_products.clear();
}

bool finish_pending() {
  if (s_copies.empty()) return false;
  const std::size_t which = chance() % s_copies.size();
  const BulkCopy copy = s_copies[which];
  s_copies.erase(s_copies.begin() + static_cast<std::ptrdiff_t>(which));
  const std::string wrong = complete(copy);
  if (!wrong.empty()) report(wrong);
  return true;
}

std::string unfinished() {
  if (!s_copies.empty()) return "a block leaves while a bulk copy to it is under way";
  for (const auto& [thread, products] : s_products)
    if (!products.sums.empty()) return "a thread leaves with products under way";
  return "";
}

}  // namespace emulation
