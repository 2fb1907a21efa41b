// The CPU's encoder on the cases that it shares with other devices.
#include "test/native/kernels/encode_cases.h"
#include "test/native/check.h"

using namespace personascope;

TEST(cases_shared_with_other_devices) {
  const auto cases = encode_cases::all();
  CHECK(cases.size() > 20);
  for (const encode_cases::Case& c : cases) {
    EncoderWeights encoder(c.view(), c.bias.data(), c.centre.empty() ? nullptr : c.centre.data(),
                           c.selection());
    encoder.refresh();
    std::vector<std::vector<Code>> codes(c.tokens);
    EncodeArgs args;
    args.encoder = &encoder;
    args.x = c.x.data();
    args.tokens = c.tokens;
    args.x_stride = c.stride;
    args.k = c.k;
    args.codes = codes.data();
    encode(args);
    const std::string difference = encode_cases::difference(codes, encode_cases::expected(c));
    if (!difference.empty()) check::report(__FILE__, __LINE__, c.name + ": " + difference);
  }
}
