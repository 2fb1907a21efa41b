// Hopper's part of the machine: bulk copies, barriers in shared memory, products of warp groups, clusters; as
// the PTX manual describes them ("mbarrier", "cp.async.bulk.tensor", "wgmma.mma_async", "Swizzling modes").
#pragma once
#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulation {

// ---- barriers in shared memory ---------------------------------------------------------------------------

void mbarrier_init(const void* barrier, unsigned arrivals);
void mbarrier_init_fence();
// Expects so many bytes more in this phase, and arrives.
void mbarrier_arrive(const void* barrier, unsigned bytes = 0);
// At the barrier of that place in another block of the cluster.
void mbarrier_arrive_at(const void* barrier, unsigned rank);
void mbarrier_wait(const void* barrier, unsigned parity);

// ---- bulk copies -----------------------------------------------------------------------------------------

// cuTensorMapEncodeTiled.
void* tensor_map_encoder();
// A box to the same place of every block whose bit is set; each barrier is told of its bytes. Until then
// nobody may read there.
void copy_box(void* to, const CUtensorMap* map, std::int32_t byte, std::int32_t row, const void* barrier,
              unsigned blocks);

// ---- products --------------------------------------------------------------------------------------------

void product_fence();
// sums (64 x 256, this thread's 128 of them) = or += A B, 32 bytes of k; from the wait on, not before.
void product(float (&sums)[128], std::uint64_t a, std::uint64_t b, bool add);
void product(std::int32_t (&sums)[128], std::uint64_t a, std::uint64_t b, bool add);
void product_commit();
void product_wait(unsigned pending);

// ---- for the machine -------------------------------------------------------------------------------------

// A cluster begins.
void start_hopper();
// Ends one of the bulk copies under way; false: there is none.
bool finish_pending();
// "" or what is still under way though everybody has left.
std::string unfinished();

}  // namespace emulation
