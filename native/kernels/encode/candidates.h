// The candidates of a block's tokens while latents are screened: bounded lists, thresholds that rise,
// rescoring, and the last choice of codes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/core/aligned.h"
#include "native/kernels/encode/screen.h"

namespace personascope {

// What a threshold begins with: g > 0 for topk and groupmax; a quantity of exactly 0 is no code, but a bound
// of 0 may stand for one.
constexpr float kLeastPositive = 0x1p-149f;

// Lists of `slots` tokens, and the codes that are already certain.
struct Candidates {
  std::uint32_t capacity = 0;
  AlignedBuffer<float> thresholds;
  std::vector<CandidateList> lists;
  std::vector<std::vector<Code>> done;  // [tokens], in any order

  // Empties everything; thresholds of places without a token are +Inf.
  void reset(std::size_t tokens, std::size_t slots, std::uint32_t new_capacity, float threshold);
  // Empties the lists only.
  void restart(std::size_t tokens, float threshold);

 private:
  AlignedBuffer<float> bounds_;
  AlignedBuffer<std::uint32_t> indices_;
};

// Chooses among the candidates of one block of tokens; one a thread.
class Chooser {
 public:
  // rows: x' [tokens, padded] of the block. k: codes a list, 0 where every certain one counts.
  void use(const EncoderWeights& encoder, const EncodeKernels& kernels, const float* rows, std::size_t padded,
           std::size_t k);

  // A list is full: makes room in it (see ScreenArgs::compact).
  void compact(Candidates& candidates, std::size_t token);
  // Rescores what is likeliest of tokens [begin, end), which raises their thresholds.
  void sharpen(Candidates& candidates, std::size_t begin, std::size_t end);
  // Decides tokens [begin, end): their codes go to `done`, their lists are empty then.
  void resolve(Candidates& candidates, std::size_t begin, std::size_t end);

  EncodeCount count;

 private:
  struct Open {
    std::uint32_t latent, token, slot;
  };
  // Raises the threshold as far as the list shows (at most `spare` more than k then lie above it) and drops
  // what cannot be a code.
  void trim(CandidateList& list, float& threshold, std::size_t spare) const;
  static void drop_below(CandidateList& list, float threshold);
  // Puts what of the list is not rescored, and whose lower bound reaches `least`, on the stack of rescoring.
  void open(const CandidateList& list, std::size_t token, float least);
  // Rescores that stack.
  void rescore(Candidates& candidates);
  // The k-th largest rescored score, if there are k above the threshold.
  void raise(const CandidateList& list, float& threshold);
  // Moves the list's codes to `codes`.
  void take(CandidateList& list, std::vector<Code>& codes);

  const EncoderWeights* encoder_ = nullptr;
  const EncodeKernels* kernels_ = nullptr;
  const float* rows_ = nullptr;
  std::size_t padded_ = 0, k_ = 0;
  std::vector<Open> open_, sorted_;
  std::vector<std::uint32_t> latents_, tokens_;
  std::vector<float> products_;
  std::vector<std::uint64_t> keys_;
};

// Sorts codes by value descending, then latent ascending.
void sort_codes(std::vector<Code>& codes);

}  // namespace personascope
