#include "native/io/torch_file.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "native/core/error.h"
#include "native/io/json.h"
#include "native/io/pickle.h"

namespace personascope {
namespace {

using Kind = PickleValue::Kind;

constexpr std::uint64_t kMaxPickle = std::uint64_t{1} << 24;
constexpr std::size_t kMaxLeaves = 200'000, kMaxDepth = 64, kMaxRank = 32, kMaxNames = std::size_t{1} << 26;
constexpr std::string_view kPickle = "/data.pkl";

constexpr char kTensor[] = "torch._utils._rebuild_tensor_v2",
               kParameter[] = "torch._utils._rebuild_parameter";
constexpr char kSize[] = "torch.Size", kDevice[] = "torch.device";

struct StorageType {
  const char* name;
  Dtype dtype;
};
constexpr StorageType kStorages[] = {
    {"torch.FloatStorage", Dtype::f32}, {"torch.DoubleStorage", Dtype::f64},
    {"torch.HalfStorage", Dtype::f16},  {"torch.BFloat16Storage", Dtype::bf16},
    {"torch.LongStorage", Dtype::i64},  {"torch.IntStorage", Dtype::i32},
    {"torch.ShortStorage", Dtype::i16}, {"torch.CharStorage", Dtype::i8},
    {"torch.ByteStorage", Dtype::u8},   {"torch.BoolStorage", Dtype::boolean},
};
constexpr const char* kDtypes[] = {"torch.float32", "torch.float64", "torch.float16", "torch.bfloat16",
                                   "torch.int64",   "torch.int32",   "torch.int16",   "torch.int8",
                                   "torch.uint8",   "torch.bool"};

std::optional<Dtype> storage_dtype(const std::string& name) {
  for (const auto& row : kStorages)
    if (name == row.name) return row.dtype;
  return std::nullopt;
}

bool allowed(const std::string& name) {
  if (name == kTensor || name == kParameter || name == kSize || name == kDevice) return true;
  if (storage_dtype(name)) return true;
  return std::any_of(std::begin(kDtypes), std::end(kDtypes),
                     [&](const char* known) { return name == known; });
}

const ZipEntry* find_pickle(const std::vector<ZipEntry>& entries) {
  const ZipEntry* found = nullptr;
  for (const ZipEntry& entry : entries) {
    const std::string_view name = entry.name;
    if (name.size() <= kPickle.size() || !name.ends_with(kPickle)) continue;
    if (name.substr(0, name.size() - kPickle.size()).find('/') != std::string_view::npos) continue;
    if (found != nullptr) return nullptr;
    found = &entry;
  }
  return found;
}

class TorchReader {
 public:
  explicit TorchReader(TensorFile& out) : out_(out), path_(out.file->path()) {
    for (const ZipEntry& entry : out.entries) entries_.emplace(entry.name, &entry);
  }

  void read() {
    const ZipEntry* pickle = find_pickle(out_.entries);
    if (pickle == nullptr) refuse("found no single data.pkl");
    prefix_ = pickle->name.substr(0, pickle->name.size() - kPickle.size()) + "/";
    if (entries_.contains(prefix_ + "constants.pkl"))
      refuse("a TorchScript program, expected tensors saved by torch.save");
    if (const auto order = entries_.find(prefix_ + "byteorder"); order != entries_.end()) {
      const auto text = content(*order->second);
      if (text != "little") refuse("byte order " + quoted(text) + ", expected little");
    }
    if (pickle->size > kMaxPickle)
      refuse("a pickle of " + std::to_string(pickle->size) + " bytes, expected at most " +
             std::to_string(kMaxPickle));
    const auto bytes = content(*pickle);
    pickle_ = parse_pickle(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), path_, allowed);
    walk(pickle_.root, "", 0);
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    fail(ErrorCode::format, path_ + ": torch file: " + problem);
  }

  // The bytes of a stored entry in the mapping.
  std::string_view content(const ZipEntry& entry) const {
    if (entry.deflated) refuse("entry " + quoted(entry.name) + " is compressed; torch.save writes it stored");
    return {reinterpret_cast<const char*>(out_.file->data() + entry.begin),
            static_cast<std::size_t>(entry.size)};
  }

  // Names every tensor and scalar below a value by the keys on the way to it.
  void walk(std::uint32_t index, const std::string& path, std::size_t depth) {
    if (depth > kMaxDepth) refuse("nested deeper than " + std::to_string(kMaxDepth) + " levels");
    const PickleValue& value = pickle_[index];
    switch (value.kind) {
      case Kind::dict:
        for (std::size_t i = 0; i + 1 < value.items.size(); i += 2)
          walk(value.items[i + 1], joined(path, key_text(pickle_[value.items[i]])), depth + 1);
        if (value.items.empty()) count(path);
        return;
      case Kind::list:
      case Kind::tuple:
        for (std::size_t i = 0; i < value.items.size(); ++i)
          walk(value.items[i], joined(path, std::to_string(i)), depth + 1);
        if (value.items.empty()) count(path);
        return;
      case Kind::call:
        if (value.text == kTensor) {
          const std::string& name = count(path.empty() ? "tensor" : path);
          out_.tensors.push_back({name, tensor(value, path_ + ": tensor " + quoted(name))});
          return;
        }
        if (value.text == kDevice) return scalar(path, first_text(value));
        if ((value.text == kParameter || value.text == kSize) && !value.items.empty())
          return walk(value.items[0], path, depth + 1);
        refuse(quoted(path) + ": a call of " + quoted(value.text));
      case Kind::none:
        return scalar(path, std::monostate{});
      case Kind::boolean:
        return scalar(path, value.integer != 0);
      case Kind::integer:
        return scalar(path, value.integer);
      case Kind::big:
        return scalar(path, std::string("an integer beyond 64 bits"));
      case Kind::real:
        return scalar(path, value.real);
      case Kind::text:
      case Kind::global:
        return scalar(path, value.text);
      case Kind::persistent:
        refuse(quoted(path) + ": a storage without a tensor");
    }
  }

  // Each leaf has a name of its own, and there is an end to them: shared containers could multiply without
  // one.
  const std::string& count(const std::string& path) {
    names_size_ += path.size() + 1;
    if (names_.size() == kMaxLeaves || names_size_ > kMaxNames)
      refuse("more than " + std::to_string(kMaxLeaves) + " values");
    const auto [place, fresh] = names_.insert(path);
    if (!fresh) refuse("key " + quoted(path) + " appears twice");
    return *place;
  }
  template <class Value>
  void scalar(const std::string& path, Value&& value) {
    out_.scalars.push_back({count(path.empty() ? "value" : path), std::forward<Value>(value)});
  }

  static std::string joined(const std::string& path, const std::string& key) {
    return path.empty() ? key : path + "/" + key;
  }
  std::string key_text(const PickleValue& key) const {
    if (key.kind == Kind::text) return key.text;
    if (key.kind == Kind::integer || key.kind == Kind::boolean) return std::to_string(key.integer);
    refuse("a dictionary whose key is neither text nor number");
  }
  std::string first_text(const PickleValue& call) const {
    if (call.items.empty() || pickle_[call.items[0]].kind != Kind::text)
      refuse("a call of " + quoted(call.text) + " without a text");
    return pickle_[call.items[0]].text;
  }

  // _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks[, metadata])
  Tensor tensor(const PickleValue& call, const std::string& name) const {
    const auto stop = [&](const std::string& problem) { fail(ErrorCode::format, name + ": " + problem); };
    if (call.items.size() < 6 || call.items.size() > 7)
      stop(std::to_string(call.items.size()) + " arguments, expected 6 or 7");
    const PickleValue& persistent = pickle_[call.items[0]];
    if (persistent.kind != Kind::persistent) stop("its storage is no persistent one");
    Tensor tensor;
    tensor.name = name;
    const std::uint64_t stored = storage(pickle_[persistent.items[0]], tensor);
    const PickleValue& offset = pickle_[call.items[1]];
    if (offset.kind != Kind::integer || offset.integer < 0) stop("its offset is no whole number");
    tensor.shape = whole_numbers<std::uint64_t>(pickle_[call.items[2]], name + ": its shape");
    tensor.strides = whole_numbers<std::int64_t>(pickle_[call.items[3]], name + ": its strides");
    if (tensor.shape.size() != tensor.strides.size())
      stop("shape " + shape_text(tensor.shape) + ", but " + std::to_string(tensor.strides.size()) +
           " strides");
    // The last element's place, and the number of elements, must both fit the storage.
    std::uint64_t elements = 1, last = static_cast<std::uint64_t>(offset.integer);
    bool empty = false, overflow = false;
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      if (tensor.shape[i] == 0) {
        empty = true;
        continue;
      }
      std::uint64_t reach = 0;
      overflow = overflow || __builtin_mul_overflow(elements, tensor.shape[i], &elements) ||
                 __builtin_mul_overflow(tensor.shape[i] - 1, static_cast<std::uint64_t>(tensor.strides[i]),
                                        &reach) ||
                 __builtin_add_overflow(last, reach, &last);
    }
    if (overflow) stop("shape " + shape_text(tensor.shape) + " overflows");
    if (empty) {
      tensor.data = out_.file->data();
    } else {
      if (last >= stored || elements > stored)
        stop("shape " + shape_text(tensor.shape) + " reaches beyond its storage of " +
             std::to_string(stored) + " values");
      tensor.data += static_cast<std::uint64_t>(offset.integer) * dtype_size(tensor.dtype);
    }
    tensor.owner = out_.file;
    return tensor;
  }

  // ('storage', type, key, location, elements): sets dtype and data, returns the number of elements.
  std::uint64_t storage(const PickleValue& id, Tensor& tensor) const {
    const auto stop = [&](const std::string& problem) {
      fail(ErrorCode::format, tensor.name + ": " + problem);
    };
    if (id.kind != Kind::tuple || id.items.size() != 5)
      stop("its storage is described by other than 5 values");
    const PickleValue &tag = pickle_[id.items[0]], &type = pickle_[id.items[1]], &key = pickle_[id.items[2]],
                      &elements = pickle_[id.items[4]];
    if (tag.kind != Kind::text || tag.text != "storage" || type.kind != Kind::global ||
        key.kind != Kind::text || elements.kind != Kind::integer || elements.integer < 0)
      stop("its storage is not described as ('storage', type, key, location, size)");
    const auto dtype = storage_dtype(type.text);
    if (!dtype) stop("a storage of type " + quoted(type.text));
    const auto found = entries_.find(prefix_ + "data/" + key.text);
    if (found == entries_.end()) stop("its storage " + quoted(key.text) + " is missing");
    const auto bytes = content(*found->second);
    const auto count = static_cast<std::uint64_t>(elements.integer);
    if (count > bytes.size() / dtype_size(*dtype))
      stop("its storage holds " + std::to_string(bytes.size()) + " bytes, expected " + std::to_string(count) +
           " values of " + dtype_name(*dtype));
    tensor.dtype = *dtype;
    tensor.data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    return count;
  }

  // Of a tuple, or of torch.Size(tuple).
  template <class Number>
  std::vector<Number> whole_numbers(const PickleValue& value, const std::string& what) const {
    if (value.kind == Kind::call && value.text == kSize && value.items.size() == 1 &&
        pickle_[value.items[0]].kind != Kind::call)
      return whole_numbers<Number>(pickle_[value.items[0]], what);
    if (value.kind != Kind::tuple || value.items.size() > kMaxRank)
      fail(ErrorCode::format, what + " is no tuple of at most " + std::to_string(kMaxRank) + " numbers");
    std::vector<Number> numbers;
    for (const std::uint32_t item : value.items) {
      const PickleValue& number = pickle_[item];
      if (number.kind != Kind::integer || number.integer < 0)
        fail(ErrorCode::format, what + " holds something other than whole numbers");
      numbers.push_back(static_cast<Number>(number.integer));
    }
    return numbers;
  }

  TensorFile& out_;
  const std::string& path_;
  std::string prefix_;
  Pickle pickle_;
  std::unordered_map<std::string_view, const ZipEntry*> entries_;
  std::unordered_set<std::string> names_;
  std::size_t names_size_ = 0;
};

}  // namespace

bool looks_like_torch(const std::vector<ZipEntry>& entries) {
  return std::any_of(entries.begin(), entries.end(),
                     [](const ZipEntry& entry) { return entry.name.ends_with(kPickle); });
}

void read_torch_file(TensorFile& file) {
  TorchReader(file).read();
}

}  // namespace personascope
