#include "native/io/tensor_file.h"

#include <algorithm>
#include <cstring>

#include "native/core/error.h"
#include "native/io/json.h"
#include "native/io/npy.h"
#include "native/io/safetensors.h"
#include "native/io/torch_file.h"

namespace personascope {
namespace {

constexpr std::string_view kArray = ".npy";

std::string array_name(const ZipEntry& entry) {
  return entry.name.substr(0, entry.name.size() - kArray.size());
}

void read_npz(TensorFile& file) {
  const std::string& path = file.file->path();
  for (const ZipEntry& entry : file.entries) {
    if (!std::string_view(entry.name).ends_with(kArray) || entry.name.size() == kArray.size())
      fail(ErrorCode::format, path + ": a zip archive with entry " + quoted(entry.name) +
                                  ", expected a .npz file (arrays only) or a .pt file (with a data.pkl)");
    if (entry.deflated) {
      file.packed.push_back(entry);
      continue;
    }
    const std::string name = array_name(entry);
    file.tensors.push_back({name, parse_npy(file.file->data() + entry.begin, entry.size,
                                            path + ": tensor " + quoted(name), file.file)});
  }
}

void read_safetensors(TensorFile& file) {
  const MappedFile& mapped = *file.file;
  auto header = parse_safetensors(mapped.data(), mapped.size(), mapped.path());
  for (TensorInfo& info : header.tensors) {
    const std::string name = mapped.path() + ": tensor " + quoted(info.name);
    auto strides = contiguous_strides(info.shape);
    file.tensors.push_back({std::move(info.name),
                            {name, info.dtype, std::move(info.shape), std::move(strides),
                             mapped.data() + info.begin, file.file}});
  }
  for (auto& [key, value] : header.metadata) file.scalars.push_back({std::move(key), std::move(value)});
}

bool begins(const MappedFile& file, std::string_view magic) {
  return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

}  // namespace

const char* tensor_format_name(TensorFile::Format format) {
  switch (format) {
    case TensorFile::Format::safetensors:
      return "safetensors";
    case TensorFile::Format::npy:
      return "npy";
    case TensorFile::Format::npz:
      return "npz";
    case TensorFile::Format::pt:
      return "pt";
  }
  fail(ErrorCode::internal, "a tensor format without a name");
}

TensorFile open_tensor_file(const std::string& path) {
  TensorFile file;
  file.file = std::make_shared<MappedFile>(path);
  const MappedFile& mapped = *file.file;
  if (begins(mapped, "PK\x03\x04") || begins(mapped, "PK\x05\x06")) {
    file.entries = parse_zip(mapped.data(), mapped.size(), path);
    if (file.entries.empty()) fail(ErrorCode::format, path + ": an empty zip archive");
    const bool torch = looks_like_torch(file.entries);
    file.format = torch ? TensorFile::Format::pt : TensorFile::Format::npz;
    torch ? read_torch_file(file) : read_npz(file);
  } else if (looks_like_npy(mapped.data(), mapped.size())) {
    file.format = TensorFile::Format::npy;
    file.tensors.push_back({"array", parse_npy(mapped.data(), mapped.size(), path, file.file)});
  } else if (mapped.size() >= 2 && mapped.data()[0] == 0x80 && mapped.data()[1] >= 2 &&
             mapped.data()[1] <= 5 && !(mapped.size() > 8 && mapped.data()[8] == '{')) {
    fail(ErrorCode::format,
         path +
             ": a pickle without a zip archive around it, as torch wrote before 1.6: not read. Save it again "
             "with torch.save(torch.load(path, weights_only=True), path)");
  } else {
    read_safetensors(file);
  }
  return file;
}

void TensorFile::unpack(std::size_t index, std::shared_ptr<const std::vector<std::uint8_t>> content) {
  require(index < packed.size(), ErrorCode::invalid_argument,
          file->path() + ": array " + std::to_string(index) + " of " + std::to_string(packed.size()));
  const ZipEntry& entry = packed[index];
  const std::string name = array_name(entry);
  const std::string where = file->path() + ": tensor " + quoted(name);
  require(content->size() == entry.size, ErrorCode::format,
          where + ": unpacked to " + std::to_string(content->size()) + " bytes, expected " +
              std::to_string(entry.size));
  require(crc32(content->data(), content->size()) == entry.crc, ErrorCode::format,
          where + ": its content does not have the checksum that the archive states: the file is damaged");
  tensors.push_back({name, parse_npy(content->data(), content->size(), where, content)});
}

void TensorFile::verify(const std::function<void(std::uint64_t done)>& check) const {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 24;
  std::uint64_t done = 0;
  for (const ZipEntry& entry : entries) {
    if (entry.deflated) continue;
    std::uint32_t crc = 0;
    for (std::uint64_t at = 0; at < entry.size; at += kPiece) {
      const std::uint64_t size = std::min(kPiece, entry.size - at);
      crc = crc32(file->data() + entry.begin + at, size, crc);
      done += size;
      check(done);
    }
    require(crc == entry.crc, ErrorCode::format,
            file->path() + ": entry " + quoted(entry.name) +
                " does not have the checksum that the archive states: the file is damaged");
  }
}

}  // namespace personascope
