// Makes an SAE and activations for the benches.
//
// usage: sae_data <folder> gaussian|sae-like <latents> <width> <k> <tokens> f32|bf16 with-decoder|no-decoder
//
// Writes <folder>/sae: a folder in sparsify's layout (cfg.json; sae.safetensors with encoder.weight
// [latents, width], encoder.bias, W_dec, b_dec), which keeps an encoder row together; <folder>/x.f32, the
// activations [tokens, width]; <folder>/centre.f32 [width], their mean. Without decoder W_dec is a hole of
// zeros, which takes no place on the disk.
//
//   gaussian   Rows of the encoder are normal and then of unit length; activations are normal, of no relation
//              to them. No structure to exploit: the hard case for screening.
//   sae-like   As a large SAE sees a residual stream. Latents come in families of eight near one direction
//              (feature splitting: cosine 0.86 to it). An activation is the mean, plus 48 directions drawn
//              with a bias towards the first ones, of sizes 0.3 to 1.3, plus noise of length 0.7. Four
//              dimensions are massive: their mean is 30 times the root mean square of the rest, and varies by
//              3 %. b_dec is 0 and the encoder's bias takes the mean back (b = -w . mean - 0.1), so that
//              quantising the activations needs centring, which nothing in the SAE says.
//
// Normal values are quantiles of the normal distribution at 65536 places, drawn by Philox: the same data for
// any number of threads.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "bench/native/files.h"
#include "native/core/half.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"

using namespace personascope;

namespace {

// Acklam's approximation of the normal quantile, |relative error| < 1.2e-9.
double normal_quantile(double p) {
  const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                      1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                      6.680131188771972e+01, -1.328068155288572e+01};
  const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                      -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  const double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                      3.754408661907416e+00};
  if (p > 0.5) return -normal_quantile(1 - p);
  if (p < 0.02425) {
    const double q = std::sqrt(-2 * std::log(p));
    return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
           ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
  }
  const double q = p - 0.5, r = q * q;
  return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
         (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

class Normal {
 public:
  Normal() : table_(65536) {
    for (std::size_t i = 0; i < table_.size(); ++i)
      table_[i] = static_cast<float>(normal_quantile((static_cast<double>(i) + 0.5) / 65536));
  }
  // out [width] += scale * row number `row` of the field `seed`.
  void add(std::uint64_t seed, std::uint64_t row, float scale, std::size_t width, float* out) const {
    const Philox random(seed, row);
    for (std::size_t i = 0; i < width; i += 8) {
      const auto words = random.words(i / 8);
      for (std::size_t j = 0; j < 8 && i + j < width; ++j)
        out[i + j] += scale * table_[words[j / 2] >> (16 * (j % 2)) & 0xffffu];
    }
  }

 private:
  std::vector<float> table_;
};

constexpr std::uint64_t kLatents = 1, kFamilies = 2, kMean = 3, kNoise = 4, kChoice = 5, kMassive = 6;
constexpr std::size_t kFamily = 8, kActive = 48, kMassiveDimensions = 4;

float length(const float* row, std::size_t width) {
  double sum = 0;
  for (std::size_t i = 0; i < width; ++i) sum += static_cast<double>(row[i]) * row[i];
  return static_cast<float>(std::sqrt(sum));
}

void rescale(float* row, std::size_t width, float to) {
  const float by = to / length(row, width);
  for (std::size_t i = 0; i < width; ++i) row[i] *= by;
}

class Data {
 public:
  Data(bool sae_like, std::size_t latents, std::size_t width)
      : sae_like_(sae_like), latents_(latents), width_(width), mean_(width, 0.0f) {
    if (!sae_like) return;
    normal_.add(kMean, 0, 1, width, mean_.data());
    rescale(mean_.data(), width, 1);
    // The rest of an activation has squared length 48 (0.3^2 + 0.3 + 1/3) + 0.49 = 35.
    for (std::size_t m = 0; m < kMassiveDimensions; ++m)
      mean_[massive(m)] = massive_size() * (m % 2 ? -1.0f : 1.0f);
  }
  const std::vector<float>& mean() const { return mean_; }

  void latent(std::size_t l, float* row) const {
    std::fill_n(row, width_, 0.0f);
    const float unit = 1 / std::sqrt(static_cast<float>(width_));
    if (sae_like_) normal_.add(kFamilies, l / kFamily, unit, width_, row);
    normal_.add(kLatents, l, sae_like_ ? 0.6f * unit : unit, width_, row);
    rescale(row, width_, 1);
  }

  float bias(const float* row) const {
    if (!sae_like_) return 0;
    double product = 0;
    for (std::size_t i = 0; i < width_; ++i) product += static_cast<double>(row[i]) * mean_[i];
    return static_cast<float>(-product - 0.1);
  }

  void activation(std::size_t t, float* x) const {
    std::copy(mean_.begin(), mean_.end(), x);
    const float unit = 1 / std::sqrt(static_cast<float>(width_));
    normal_.add(kNoise, t, sae_like_ ? 0.7f * unit : 1, width_, x);
    if (!sae_like_) return;
    const Philox choice(kChoice, t), massive_change(kMassive, t);
    const double families = std::ceil(static_cast<double>(latents_) / kFamily);
    for (std::size_t a = 0; a < kActive; ++a) {
      const double u = choice.uniform(2 * a);
      const auto family = static_cast<std::uint64_t>(u * u * families);
      const auto size = static_cast<float>(0.3 + choice.uniform(2 * a + 1));
      normal_.add(kFamilies, family, size * unit, width_, x);
    }
    for (std::size_t m = 0; m < kMassiveDimensions; ++m)
      x[massive(m)] += 0.03f * massive_size() * static_cast<float>(massive_change.gaussian(m));
  }

 private:
  std::size_t massive(std::size_t m) const { return (m * width_ / kMassiveDimensions + 3) % width_; }
  float massive_size() const { return 30 * std::sqrt(35.0f / static_cast<float>(width_)); }

  bool sae_like_;
  std::size_t latents_, width_;
  Normal normal_;
  std::vector<float> mean_;
};

// A safetensors file of known size, mapped for writing.
class Output {
 public:
  Output(const std::string& path, std::string header, std::size_t data) : path_(path) {
    header.append((8 - header.size() % 8) % 8, ' ');
    start_ = 8 + header.size();
    size_ = start_ + data;
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || ::ftruncate(file, static_cast<off_t>(size_)) != 0) bench::die("could not write " + path);
    void* map = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    if (map == MAP_FAILED) bench::die("could not map " + path);
    bytes_ = static_cast<char*>(map);
    const std::uint64_t length = header.size();
    std::memcpy(bytes_, &length, 8);
    std::memcpy(bytes_ + 8, header.data(), header.size());
  }
  ~Output() { ::munmap(bytes_, size_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  char* data() { return bytes_ + start_; }

 private:
  std::string path_;
  char* bytes_ = nullptr;
  std::size_t start_ = 0, size_ = 0;
};

void store(const float* values, std::size_t count, bool bf16, char* out) {
  if (!bf16) {
    std::memcpy(out, values, count * 4);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t bits = f32_to_bf16(values[i]);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) {
    std::fprintf(stderr,
                 "usage: sae_data <folder> gaussian|sae-like <latents> <width> <k> <tokens> f32|bf16 "
                 "with-decoder|no-decoder\n");
    return 2;
  }
  const std::string folder = argv[1], kind = argv[2], dtype = argv[7];
  const std::size_t n = std::strtoull(argv[3], nullptr, 10), d = std::strtoull(argv[4], nullptr, 10),
                    k = std::strtoull(argv[5], nullptr, 10), tokens = std::strtoull(argv[6], nullptr, 10);
  if ((kind != "gaussian" && kind != "sae-like") || (dtype != "f32" && dtype != "bf16") || n == 0 || d == 0)
    bench::die("sae_data: unknown kind of data or dtype, or no latents");
  const bool bf16 = dtype == "bf16", decoder = std::string(argv[8]) == "with-decoder";
  const Data data(kind == "sae-like", n, d);

  const std::string sae = folder + "/sae";
  ::mkdir(sae.c_str(), 0755);
  const std::size_t matrix = n * d * (bf16 ? 2 : 4);
  std::string header = "{";
  std::size_t end = 0;
  const auto tensor = [&](const char* name, const char* type, const std::string& shape, std::size_t bytes) {
    header += (end ? ",\"" : "\"") + std::string(name) + "\":{\"dtype\":\"" + type + "\",\"shape\":[" +
              shape + "],\"data_offsets\":[" + std::to_string(end) + "," + std::to_string(end + bytes) + "]}";
    end += bytes;
    return end - bytes;
  };
  const std::string shape = std::to_string(n) + "," + std::to_string(d);
  const char* type = bf16 ? "BF16" : "F32";
  const std::size_t w_enc = tensor("encoder.weight", type, shape, matrix);
  const std::size_t w_dec = tensor("W_dec", type, shape, matrix);
  const std::size_t b_enc = tensor("encoder.bias", "F32", std::to_string(n), 4 * n);
  tensor("b_dec", "F32", std::to_string(d), 4 * d);  // zeros
  Output out(sae + "/sae.safetensors", header + "}", end);
  parallel_for(n, 256, [&](std::size_t begin, std::size_t stop) {
    std::vector<float> row(d);
    for (std::size_t l = begin; l < stop; ++l) {
      data.latent(l, row.data());
      const std::size_t at = l * d * (bf16 ? 2 : 4);
      store(row.data(), d, bf16, out.data() + w_enc + at);
      if (decoder) store(row.data(), d, bf16, out.data() + w_dec + at);
      // Of the row as it is stored: screening and peers see no other.
      if (bf16)
        for (float& value : row) value = bf16_to_f32(f32_to_bf16(value));
      const float bias = data.bias(row.data());
      std::memcpy(out.data() + b_enc + 4 * l, &bias, 4);
    }
  });
  std::ofstream(sae + "/cfg.json")
      << "{\"activation\": \"topk\", \"expansion_factor\": 32, \"normalize_decoder\": "
         "true, \"num_latents\": "
      << n << ", \"k\": " << k
      << ", \"multi_topk\": false, \"skip_connection\": false, \"transcode\": false, "
         "\"d_in\": "
      << d << "}\n";

  std::vector<float> x(tokens * d);
  parallel_for(tokens, 8, [&](std::size_t begin, std::size_t stop) {
    for (std::size_t t = begin; t < stop; ++t) data.activation(t, x.data() + t * d);
  });
  bench::write_array(folder + "/x.f32", x.data(), x.size());
  bench::write_array(folder + "/centre.f32", data.mean().data(), d);
  return 0;
}
