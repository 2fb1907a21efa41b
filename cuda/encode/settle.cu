// Settling the lists after a wave: one block a token. Thresholds rise to the k-th largest lower bound, what
// cannot reach them is dropped, and canonical products decide where bounds cannot.
//
// A threshold may be any lower bound of the k-th largest score over all latents; the k-th largest over any
// part of them is one. So what a block does to its list never depends on the order in which the list was
// filled, except for which latents are rescored when, and codes come out the same.
#include "cuda/device/block.cuh"
#include "cuda/device/canonical.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/ptx.cuh"
#include "cuda/encode/kernels.h"
#include "cuda/shared/order.h"

namespace personascope::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kOctets = kThreads / kCanonicalLanes;
constexpr std::size_t kMostSharedRow = 96 * 1024;  // bytes of a token kept in shared memory

struct Scratch {
  std::uint32_t buckets[256];
  std::uint32_t ranks[kWarps];
  std::uint32_t queue[kThreads];
  std::uint32_t found, above;
};

// One token's list.
struct TokenList {
  float *upper, *lower, *value;
  std::uint32_t* index;
  __device__ TokenList(const Lists& lists, std::uint32_t token) {
    const std::size_t at = static_cast<std::size_t>(token) * lists.capacity;
    upper = lists.upper + at;
    lower = lists.lower + at;
    value = lists.value == lists.upper ? upper : lists.value + at;
    index = lists.index + at;
  }
  __device__ bool open(std::uint32_t i) const { return lower[i] != upper[i]; }
  __device__ std::uint64_t key(std::uint32_t i) const { return choice_key(lower[i], index[i]); }
};

// The k-th largest of key(0), ..., key(count - 1); 1 <= k <= count. Every thread gets it.
template <class Key, class KeyOf>
__device__ Key kth_largest(std::uint32_t count, std::uint32_t k, Scratch& scratch, const KeyOf& key) {
  DigitSearch<Key> search(k);
  for (int digit = 0; digit < DigitSearch<Key>::kDigits; ++digit) {
    __syncthreads();
    scratch.buckets[threadIdx.x] = 0;
    __syncthreads();
    for (std::uint32_t i = threadIdx.x; i < count; i += kThreads) {
      const Key one = key(i);
      if (search.counts(one, digit)) atomicAdd(&scratch.buckets[DigitSearch<Key>::bucket(one, digit)], 1u);
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      // Lane l owns buckets 8 l ... 8 l + 7; those of higher lanes lie above.
      const int lane = threadIdx.x;
      std::uint32_t own[8], total = 0;
#pragma unroll
      for (int b = 0; b < 8; ++b) total += own[b] = scratch.buckets[8 * lane + b];
      std::uint32_t above = 0;
      for (int other = 0; other < 32; ++other) {
        const std::uint32_t theirs = __shfl_sync(kWholeWarp, total, other);
        if (other > lane) above += theirs;
      }
#pragma unroll
      for (int b = 7; b >= 0; --b) {
        if (above < search.rank && above + own[b] >= search.rank) {
          scratch.found = 8 * lane + b;
          scratch.above = above;
        }
        above += own[b];
      }
    }
    __syncthreads();
    search.take(static_cast<int>(scratch.found), scratch.above, digit);
  }
  __syncthreads();
  return search.prefix;
}

// Keeps the entries for which keep(i); returns how many. Each is read before its place is written: an entry
// never moves to a higher place.
template <class Keep>
__device__ std::uint32_t keep_only(const TokenList& list, std::uint32_t count, Scratch& scratch,
                                   const Keep& keep) {
  const bool apart = list.value != list.upper;
  std::uint32_t kept = 0;
  for (std::uint32_t base = 0; base < count; base += kThreads) {
    const std::uint32_t i = base + threadIdx.x;
    const bool there = i < count;
    const bool stays = there && keep(i);
    float upper = 0, lower = 0, value = 0;
    std::uint32_t index = 0;
    if (stays) {
      upper = list.upper[i], lower = list.lower[i], index = list.index[i];
      if (apart && !list.open(i)) value = list.value[i];
    }
    const Rank rank = block_rank<kThreads>(stays, scratch.ranks);  // a barrier: all have read
    if (stays) {
      const std::uint32_t to = kept + rank.before;
      list.upper[to] = upper, list.lower[to] = lower, list.index[to] = index;
      if (apart) list.value[to] = value;
    }
    kept += rank.all;
  }
  __syncthreads();
  return kept;
}

// Rescores the open entries whose lower bound reaches `least`; returns how many.
template <class Reader>
__device__ std::uint32_t rescore(const SettleArgs& args, const TokenList& list, std::uint32_t count,
                                 const float* token, float least, Scratch& scratch) {
  const std::size_t padded = padded_width(args.width);
  const int octet = threadIdx.x / kCanonicalLanes;
  std::uint32_t rescored = 0;
  for (std::uint32_t base = 0; base < count; base += kThreads) {
    const std::uint32_t i = base + threadIdx.x;
    const bool wanted = i < count && list.open(i) && list.lower[i] >= least;
    const Rank rank = block_rank<kThreads>(wanted, scratch.ranks);
    if (wanted) scratch.queue[rank.before] = i;
    __syncthreads();
    for (std::uint32_t first = 0; first < rank.all; first += kOctets) {
      // Octets without work repeat the last one's: shuffles need whole warps.
      const std::uint32_t mine = min(first + octet, rank.all - 1);
      const std::uint32_t place = scratch.queue[mine];
      const std::uint32_t latent = list.index[place];
      const float product =
          canonical_product<Reader>(args.rows + (latent - args.first) * args.row_stride, token, padded);
      if (first + octet < rank.all && threadIdx.x % kCanonicalLanes == 0) {
        const Scored scored = score_of(args.selection, args.bias, latent, product);
        list.upper[place] = scored.score;
        list.lower[place] = scored.score;
        if (list.value != list.upper) list.value[place] = scored.value;
      }
    }
    rescored += rank.all;
    __syncthreads();
  }
  return rescored;
}

// Raises the threshold to the k-th largest lower bound, if that is higher.
__device__ float raised(const TokenList& list, std::uint32_t count, std::uint32_t k, float threshold,
                        Scratch& scratch) {
  if (count < k) return threshold;
  const std::uint32_t key =
      kth_largest<std::uint32_t>(count, k, scratch, [&](std::uint32_t i) { return ordered(list.lower[i]); });
  return fmaxf(threshold, from_ordered(key));
}

__device__ std::uint32_t drop_below(const TokenList& list, std::uint32_t count, float threshold,
                                    Scratch& scratch) {
  return keep_only(list, count, scratch, [&](std::uint32_t i) { return list.upper[i] >= threshold; });
}

// Everything is rescored: keeps the k best codes, or all of them.
__device__ std::uint32_t keep_codes(const TokenList& list, std::uint32_t count, std::uint32_t k,
                                    Scratch& scratch) {
  count = keep_only(list, count, scratch, [&](std::uint32_t i) { return list.lower[i] > 0; });
  if (k == 0 || count <= k) return count;
  const std::uint64_t least =
      kth_largest<std::uint64_t>(count, k, scratch, [&](std::uint32_t i) { return list.key(i); });
  return keep_only(list, count, scratch, [&](std::uint32_t i) { return list.key(i) >= least; });
}

template <class Reader>
__global__ void __launch_bounds__(kThreads) settle_kernel(const SettleArgs args, bool shared_row) {
  float* row = dynamic_shared<float>();
  Scratch& scratch = static_shared<Scratch>();
  const std::uint32_t token = blockIdx.x;
  const TokenList list(args.lists, token);
  const std::size_t padded = padded_width(args.width);
  const float* own = args.token_rows + token * padded;
  if (shared_row) {
    for (std::size_t i = threadIdx.x; i < padded; i += kThreads) row[i] = own[i];
    own = row;
  }
  __syncthreads();
  std::uint32_t count = args.lists.count[token];
  const std::uint32_t fresh = count - args.lists.kept[token], k = args.k;
  float threshold = args.lists.threshold[token];
  std::uint32_t rescored = 0;
  bool certain = args.mode == SettleMode::resolve;
  if (k > 0) {
    threshold = raised(list, count, k, threshold, scratch);
    count = drop_below(list, count, threshold, scratch);
    if (args.mode != SettleMode::trim) {
      rescored += rescore<Reader>(args, list, count, own, threshold, scratch);
      threshold = raised(list, count, k, threshold, scratch);
      count = drop_below(list, count, threshold, scratch);
    }
    // Mass ties, or bounds too wide to choose by.
    certain = certain || count > args.lists.capacity / 2;
  } else {
    certain = true;
  }
  if (certain) {
    rescored += rescore<Reader>(args, list, count, own, -INFINITY, scratch);
    if (k > 0) threshold = raised(list, count, k, threshold, scratch);
    count = keep_codes(list, count, k, scratch);
  }
  if (threadIdx.x != 0) return;
  args.lists.count[token] = count;
  args.lists.kept[token] = count;
  args.lists.threshold[token] = threshold;
  atomicMax(&args.status->held, count);
  atomicMax(&args.status->codes, args.code_counts[token] + count);
  atomicAdd(&args.status->screened, static_cast<unsigned long long>(fresh));
  atomicAdd(&args.status->rescored, static_cast<unsigned long long>(rescored));
}

__global__ void __launch_bounds__(kThreads) inspect_kernel(const SettleArgs args) {
  const std::uint32_t token = blockIdx.x * kThreads + threadIdx.x;
  if (token >= args.tokens) return;
  const std::uint32_t count = args.lists.count[token];
  atomicMax(&args.status->fresh, count - args.lists.kept[token]);
  if (count > args.lists.capacity) atomicAdd(&args.status->overflowed, 1u);
}

__global__ void __launch_bounds__(kThreads) give_back_kernel(const SettleArgs args) {
  Scratch& scratch = static_shared<Scratch>();
  const std::uint32_t token = blockIdx.x;
  const TokenList list(args.lists, token);
  const std::uint32_t count = min(args.lists.count[token], args.lists.capacity);
  float threshold = args.lists.threshold[token];
  if (args.k > 0) threshold = raised(list, count, args.k, threshold, scratch);
  if (threadIdx.x != 0) return;
  args.lists.threshold[token] = threshold;
  args.lists.count[token] = args.lists.kept[token];
}

__global__ void __launch_bounds__(kThreads)
    start_kernel(Lists lists, std::uint32_t tokens, std::uint32_t padded, float threshold) {
  const std::uint32_t token = blockIdx.x * kThreads + threadIdx.x;
  if (token < padded) lists.threshold[token] = token < tokens ? threshold : INFINITY;
  if (token < tokens) lists.count[token] = lists.kept[token] = 0;
}

__global__ void __launch_bounds__(kThreads) emit_kernel(Lists lists, CodeStore store) {
  const std::uint32_t token = blockIdx.x;
  const TokenList list(lists, token);
  const std::uint32_t count = lists.count[token], have = store.counts[token];
  const std::size_t to = static_cast<std::size_t>(token) * store.pitch + have;
  for (std::uint32_t i = threadIdx.x; i < count; i += kThreads) {
    store.latents[to + i] = list.index[i];
    store.values[to + i] = list.value[i];
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  store.counts[token] = have + count;
  lists.count[token] = lists.kept[token] = 0;
}

// One block; tokens a batch are few.
__global__ void __launch_bounds__(kThreads)
    offsets_kernel(const std::uint32_t* counts, std::uint32_t tokens, std::uint64_t* offsets) {
  auto& sums = static_shared<std::uint64_t[kThreads]>();
  const std::uint32_t share = (tokens + kThreads - 1) / kThreads;
  const std::uint32_t begin = min(tokens, threadIdx.x * share), end = min(tokens, begin + share);
  std::uint64_t sum = 0;
  for (std::uint32_t i = begin; i < end; ++i) sum += counts[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  std::uint64_t at = 0;
  for (unsigned i = 0; i < threadIdx.x; ++i) at += sums[i];
  for (std::uint32_t i = begin; i < end; ++i) {
    offsets[i] = at;
    at += counts[i];
  }
  if (threadIdx.x == kThreads - 1) offsets[tokens] = at;
}

// Sorts a token's codes by output_key: a bitonic network over a power of two of places.
__global__ void __launch_bounds__(kThreads)
    pack_kernel(CodeStore store, const std::uint64_t* offsets, std::uint64_t* all_keys,
                std::uint32_t key_pitch, std::uint32_t* indices, float* values) {
  const std::uint32_t token = blockIdx.x, count = store.counts[token];
  std::uint64_t* keys = all_keys + static_cast<std::size_t>(token) * key_pitch;
  const std::size_t from = static_cast<std::size_t>(token) * store.pitch;
  std::uint32_t places = 1;
  while (places < count) places *= 2;
  for (std::uint32_t i = threadIdx.x; i < places; i += kThreads)
    keys[i] = i < count ? output_key(store.values[from + i], store.latents[from + i]) : ~0ull;
  __syncthreads();
  for (std::uint32_t length = 2; length <= places; length *= 2)
    for (std::uint32_t step = length / 2; step > 0; step /= 2) {
      for (std::uint32_t i = threadIdx.x; i < places / 2; i += kThreads) {
        const std::uint32_t low = i / step * 2 * step + i % step, high = low + step;
        const std::uint64_t a = keys[low], b = keys[high];
        if ((a > b) == ((low & length) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      __syncthreads();
    }
  for (std::uint32_t i = threadIdx.x; i < count; i += kThreads) {
    indices[offsets[token] + i] = output_latent(keys[i]);
    values[offsets[token] + i] = output_value(keys[i]);
  }
}

template <class Reader>
__global__ void __launch_bounds__(kThreads) products_kernel(const ProductsArgs args) {
  const std::size_t padded = padded_width(args.width);
  const std::uint64_t pairs = static_cast<std::uint64_t>(args.tokens) * args.count;
  const std::uint64_t pair = static_cast<std::uint64_t>(blockIdx.x) * kOctets + threadIdx.x / kCanonicalLanes;
  const std::uint64_t mine = pair < pairs ? pair : pairs - 1;
  const std::uint32_t latent = args.chosen[mine % args.count];
  const float product = canonical_product<Reader>(args.rows + latent * args.row_stride,
                                                  args.token_rows + mine / args.count * padded, padded);
  if (pair < pairs && threadIdx.x % kCanonicalLanes == 0) args.out[pair] = product + args.bias[latent];
}

}  // namespace

void inspect(const SettleArgs& args, cudaStream_t stream) {
  launch("inspect", inspect_kernel, {(args.tokens + kThreads - 1) / kThreads, kThreads}, stream, args);
}

void give_back(const SettleArgs& args, cudaStream_t stream) {
  launch("give_back", give_back_kernel, {args.tokens, kThreads}, stream, args);
}

void settle(const SettleArgs& args, cudaStream_t stream) {
  const std::size_t bytes = padded_width(args.width) * sizeof(float);
  const bool shared_row = bytes <= kMostSharedRow;
  with_reader(args.dtype, [&](auto reader) {
    const auto kernel = settle_kernel<decltype(reader)>;
    allow_shared("settle", kernel, kMostSharedRow);
    launch("settle", kernel, {args.tokens, kThreads, shared_row ? bytes : 0}, stream, args, shared_row);
  });
}

void start_lists(const Lists& lists, std::uint32_t tokens, std::uint32_t padded, float threshold,
                 cudaStream_t stream) {
  launch("start_lists", start_kernel, {(padded + kThreads - 1) / kThreads, kThreads}, stream, lists, tokens,
         padded, threshold);
}

void emit(const Lists& lists, const CodeStore& store, std::uint32_t tokens, cudaStream_t stream) {
  launch("emit", emit_kernel, {tokens, kThreads}, stream, lists, store);
}

void make_offsets(const std::uint32_t* counts, std::uint32_t tokens, std::uint64_t* offsets,
                  cudaStream_t stream) {
  launch("make_offsets", offsets_kernel, {1, kThreads}, stream, counts, tokens, offsets);
}

void pack_codes(const CodeStore& store, std::uint32_t tokens, const std::uint64_t* offsets,
                std::uint64_t* keys, std::uint32_t key_pitch, std::uint32_t* indices, float* values,
                cudaStream_t stream) {
  launch("pack_codes", pack_kernel, {tokens, kThreads}, stream, store, offsets, keys, key_pitch, indices,
         values);
}

void products(const ProductsArgs& args, cudaStream_t stream) {
  const std::uint64_t pairs = static_cast<std::uint64_t>(args.tokens) * args.count;
  if (pairs == 0) return;
  const auto blocks = static_cast<unsigned>((pairs + kOctets - 1) / kOctets);
  with_reader(args.dtype, [&](auto reader) {
    launch("products", products_kernel<decltype(reader)>, {blocks, kThreads}, stream, args);
  });
}

}  // namespace personascope::cuda
