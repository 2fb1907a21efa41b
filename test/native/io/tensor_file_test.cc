#include "native/io/tensor_file.h"

#include <cstdio>
#include <fstream>

#include <random>

#include "native/core/error.h"

#include "test/native/check.h"
#include "test/native/io/archive.h"
#include "test/native/io/files.h"

using namespace personascope;
using namespace archive;
using namespace std::string_literals;

namespace {

TensorFile open(const std::string& bytes) {
  return open_tensor_file(TemporaryFile(bytes).path);
}

bool refused(const std::string& bytes, const std::string& message) {
  return refuses([&] { open(bytes); }, message);
}

const std::string kSix = archive::values<float>({0, 1, 2, 3, 4, 5});

std::string torch(const std::string& body, const std::vector<Entry>& more = {}) {
  std::vector<Entry> entries = {{"ae/data.pkl", pickle(body)}, {"ae/data/0", kSix}, {"ae/version", "3\n"}};
  entries.insert(entries.end(), more.begin(), more.end());
  return zip(entries);
}
// 'w' of these six values, viewed as asked.
std::string six(std::uint32_t offset, const std::string& shape, const std::string& strides,
                std::uint32_t size = 6) {
  return torch("}(" + unicode("w") + tensor("FloatStorage", "0", size, offset, shape, strides) + "u");
}

}  // namespace

TEST(torch_tensors_keep_their_strides) {
  const auto plain = open(six(0, "K\x02K\x03\x86", "K\x03K\x01\x86"));
  CHECK(plain.format == TensorFile::Format::pt);
  CHECK_EQ(plain.tensors.size(), 1u);
  CHECK(plain.tensors[0].name == "w");
  CHECK(read(plain.tensors[0].tensor) == (std::vector<float>{0, 1, 2, 3, 4, 5}));
  const auto transposed = open(six(0, "K\x03K\x02\x86", "K\x01K\x03\x86"));
  CHECK(read(transposed.tensors[0].tensor) == (std::vector<float>{0, 3, 1, 4, 2, 5}));
  const auto shifted = open(six(3, "K\x02\x85", "K\x02\x85"));
  CHECK(read(shifted.tensors[0].tensor) == (std::vector<float>{3, 5}));
  CHECK(open(six(0, "K\x00K\x09\x86"s, "K\x09K\x01\x86")).tensors[0].tensor.elements() == 0);
  CHECK(read(open(six(2, ")", ")")).tensors[0].tensor) == std::vector<float>{2});
}

TEST(nested_values_are_named_by_the_way_to_them) {
  const auto file =
      open(torch(global("collections", "OrderedDict") + ")R(" + unicode("ae") + "}" + unicode("w") +
                 tensor("HalfStorage", "0", 12, 0, "K\x0c\x85", "K\x01\x85") + "s" + unicode("list") +
                 "](K\x07" + unicode("seven") + "G\x40\x1c" + std::string(6, '\0') + "e" + unicode("k") +
                 "M\x00\x01"s + unicode("off") + "\x89" + unicode("none") + "N" + unicode("size") +
                 global("torch", "Size") + "K\x05\x85\x85R" + unicode("dtype") + global("torch", "bfloat16") +
                 unicode("big") + "\x8a\x02\xff\xff" + "u}" + unicode("_metadata") + "}sb"));
  CHECK_EQ(file.tensors.size(), 1u);
  CHECK(file.tensors[0].name == "ae/w");
  CHECK(file.tensors[0].tensor.dtype == Dtype::f16);
  const auto value = [&](const std::string& name) {
    for (const auto& scalar : file.scalars)
      if (scalar.name == name) return scalar.value;
    check::report(__FILE__, __LINE__, "no scalar " + name);
    return file.scalars[0].value;
  };
  CHECK(value("list/0") == decltype(value("")){std::int64_t{7}});
  CHECK(value("list/1") == decltype(value("")){std::string("seven")});
  CHECK(value("list/2") == decltype(value("")){7.0});
  CHECK(value("k") == decltype(value("")){std::int64_t{256}});
  CHECK(value("off") == decltype(value("")){false});
  CHECK(value("none") == decltype(value("")){std::monostate{}});
  CHECK(value("size/0") == decltype(value("")){std::int64_t{5}});
  CHECK(value("dtype") == decltype(value("")){std::string("torch.bfloat16")});
  CHECK(value("big") == decltype(value("")){std::int64_t{-1}});
}

TEST(pickles_that_import_are_refused_by_name) {
  CHECK(refused(torch(global("os", "system") + unicode("true") + "\x85R"), "import 'os.system'"));
  CHECK(refused(torch(global("builtins", "eval") + unicode("1") + "\x85R"), "'builtins.eval'"));
  CHECK(refused(torch(unicode("posix") + unicode("system") + "\x93"), "'posix.system'"));
  CHECK(refused(torch(global("torch", "load")), "'torch.load'"));
  CHECK(refused(torch(global("torch._utils", "_rebuild_tensor_v2.__globals__")),
                "_rebuild_tensor_v2.__globals__'"));
  CHECK(refused(torch("(ios\nsystem\n"), "makes an object of a class"));
  CHECK(refused(torch(global("collections", "OrderedDict") + ")\x81"), "makes an object of a class"));
  CHECK(refused(torch("\x82\x01"), "registry"));
  // Allowed names do nothing where they do not belong.
  CHECK(refused(torch(global("torch", "Size") + ")R"), "a call of 'torch.Size'"));
  CHECK(refused(torch(global("torch", "FloatStorage") + ")R"), "a call of 'torch.FloatStorage'"));
  CHECK(refused(torch(global("collections", "OrderedDict") + "]\x85R"), "made with arguments"));
  CHECK(refused(torch(unicode("x") + ")R"), "no global"));
  CHECK(refused(torch("K\x01}b"), "expected an ordered dictionary"));
}

TEST(tensors_that_reach_beyond_their_storage_are_refused) {
  CHECK(refused(six(0, "K\x02K\x04\x86", "K\x04K\x01\x86"), "reaches beyond its storage of 6"));
  CHECK(refused(six(1, "K\x06\x85", "K\x01\x85"), "reaches beyond"));
  CHECK(refused(six(0, "K\x02\x85", "K\x06\x85"), "reaches beyond"));
  CHECK(refused(six(7, ")", ")"), "reaches beyond"));
  CHECK(refused(six(0, "K\x06\x85", "K\x01\x85", 7), "holds 24 bytes, expected 7 values"));
  // A stride of 0 would make a huge tensor of little.
  CHECK(refused(six(0, "J\xff\xff\xff\x7f\x85", "K\x00\x85"s), "reaches beyond"));
  CHECK(refused(six(0, "J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x87", "K\x00K\x00K\x00\x87"s),
                "overflows"));
  CHECK(refused(
      six(0, "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"),
      "overflows"));
  CHECK(refused(six(0, "J\xff\xff\xff\xff\x85", "K\x01\x85"), "whole numbers"));
  CHECK(refused(six(0, "K\x06\x85", "J\xff\xff\xff\xff\x85"), "whole numbers"));
  CHECK(refused(six(0, "K\x06\x85", ")"), "but 0 strides"));
  CHECK(refused(six(0, "]", "]"), "no tuple"));
  CHECK(refused(torch(tensor("FloatStorage", "1", 6, 0, ")", ")")), "storage '1' is missing"));
  CHECK(refused(torch("(" + unicode("storage") + "tQ"), "a storage without a tensor"));
}

TEST(pickles_that_would_grow_without_end_are_refused) {
  // Ten lists, each of ten references to the one before.
  std::string lists =
      "]K\x01"
      "aq";
  lists += std::string(1, '\0');
  for (char level = 1; level < 10; ++level) {
    lists += "](";
    for (int i = 0; i < 10; ++i) lists += "h" + std::string(1, static_cast<char>(level - 1));
    lists += "eq" + std::string(1, level);
  }
  CHECK(refused(torch("(" + lists + "t"), "more than 200000 values"));
  // A list within itself.
  CHECK(refused(torch("]q\0h\0a"s), "nested deeper"));
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += "]";
  for (int i = 0; i < 999; ++i) deep += "a";
  CHECK(refused(torch(deep), "nested deeper"));
  // One tuple of many, copied by each call.
  std::string calls = "(";
  for (int i = 0; i < 1000; ++i) calls += "N";
  calls += "tq\0"s;
  for (int i = 0; i < 9000; ++i) calls += std::string("0", i > 0) + global("torch", "Size") + "h\0R"s;
  CHECK(refused(torch(calls), "grow too large"));
}

TEST(malformed_pickles_are_refused) {
  CHECK(refused(torch("K"), "truncated"));
  CHECK(refused(torch(""), "a value is missing"));
  CHECK(refused(torch("NN"), "left over"));
  CHECK(refused(torch("(N"), "left over"));
  CHECK(refused(torch("N."), "bytes after its end"));
  CHECK(refused(torch("t"), "a mark is missing"));
  CHECK(refused(torch("}(K\x01u"), "key without a value"));
  CHECK(refused(torch("}])Ns"), "expected a dictionary"));
  CHECK(refused(torch("NNa"), "expected a list"));
  CHECK(refused(torch("h\x05"), "memo 5 is empty"));
  CHECK(refused(torch("(q\x01"), "nothing to remember"));
  CHECK(refused(torch("}NNs"), "neither text nor number"));
  CHECK(refused(torch("}(" + unicode("a") + "N" + unicode("a") + "Nu"), "'a' appears twice"));
  CHECK(refused(torch("I1\n"), "none that torch.save writes"));
  CHECK(refused(zip({{"a/data.pkl", "(lp0\n."}}), "protocol 2 or later"));
  CHECK(refused(zip({{"a/data.pkl", "\x80\x09N."}}), "protocol 9"));
  CHECK(refused(zip({{"a/data.pkl", pickle("N")}, {"b/data.pkl", pickle("N")}}), "no single data.pkl"));
  CHECK(refused(torch("N", {{"ae/constants.pkl", ""}}), "TorchScript"));
  CHECK(refused(torch("N", {{"ae/byteorder", "big"}}), "byte order 'big'"));
  CHECK(refused(zip({{.name = "ae/data.pkl", .content = "xx", .method = 8}}), "is compressed"));
  CHECK(refused("\x80\x02\x8a\x0a" + std::string(40, 'l'), "as torch wrote before 1.6"));
}

TEST(npz_arrays_stored_and_packed) {
  const std::string array = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", kSix);
  auto file = open(zip({{"W_enc.npy", array}, {.name = "b.npy", .content = array, .method = 8}}));
  CHECK(file.format == TensorFile::Format::npz);
  CHECK_EQ(file.tensors.size(), 1u);
  CHECK(file.tensors[0].name == "W_enc");
  CHECK_EQ(file.packed.size(), 1u);
  const auto content = std::make_shared<const std::vector<std::uint8_t>>(array.begin(), array.end());
  file.unpack(0, content);
  CHECK(file.tensors[1].name == "b");
  CHECK(read(file.tensors[1].tensor) == (std::vector<float>{0, 1, 2, 3, 4, 5}));
  CHECK_THROWS(file.unpack(1, content), ErrorCode::invalid_argument);
  auto wrong = std::make_shared<std::vector<std::uint8_t>>(*content);
  wrong->back() ^= 1;
  CHECK_THROWS(file.unpack(0, wrong), ErrorCode::format);
  wrong->pop_back();
  CHECK_THROWS(file.unpack(0, wrong), ErrorCode::format);
  CHECK(refused(zip({{"W_enc.npy", array}, {"readme.txt", "x"}}), "entry 'readme.txt'"));
  CHECK(refused(zip({{"W_enc.npy", array.substr(0, 40)}}), "tensor 'W_enc'"));
  CHECK(refused(zip({}), "an empty zip archive"));
}

TEST(damage_is_found_on_demand) {
  const std::string array = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", kSix);
  std::uint64_t seen = 0;
  open(zip({{"a.npy", array}})).verify([&](std::uint64_t done) { seen = done; });
  CHECK_EQ(seen, array.size());
  CHECK_THROWS(open(zip({{.name = "a.npy", .content = array, .damage = 1}})).verify([](std::uint64_t) {}),
               ErrorCode::format);
}

TEST(other_files_are_told_apart) {
  const auto array = open(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", kSix));
  CHECK(array.format == TensorFile::Format::npy && array.tensors[0].name == "array");
  const std::string header =
      R"({"__metadata__":{"k":"v"},"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}})";
  const auto tensors = open(u64(header.size()) + header + kSix);
  CHECK(tensors.format == TensorFile::Format::safetensors);
  CHECK(read(tensors.tensors[0].tensor)[5] == 5);
  CHECK(tensors.scalars[0].name == "k");
  CHECK(refused("", "too few"));
  CHECK(refused("{\"architecture\": \"topk\"}", "not a safetensors file"));
}

TEST(random_damage_never_reads_outside) {
  const std::string whole = six(0, "K\x02K\x03\x86", "K\x03K\x01\x86");
  TemporaryFile file("");
  std::mt19937 random(3);
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = whole;
    for (int flips = 0; flips < 2; ++flips) damaged[random() % damaged.size()] = static_cast<char>(random());
    std::ofstream(file.path, std::ios::binary | std::ios::trunc) << damaged;
    try {
      const auto opened = open_tensor_file(file.path);
      for (const auto& [name, tensor] : opened.tensors)
        if (tensor.dtype == Dtype::f32) read(tensor);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::format);
    }
  }
}
