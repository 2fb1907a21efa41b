#include "native/sae/device_stats.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "native/core/error.h"
#include "native/kernels/latent_stats/difference.h"

namespace personascope {

DeviceLatentStats::DeviceLatentStats(const DeviceChoice& device, std::size_t latents)
    : device_(device), latents_(latents) {
  if (!device.cuda) {
    host_ = std::make_unique<LatentStats>(LatentStatsOptions{latents});
    return;
  }
  const DevicePlugin& plugin = plugin_of(device);
  DeviceStats* made = nullptr;
  check_device(plugin, plugin.stats_create(device.index, latents, &made));
  stats_ = {made, plugin.stats_destroy};
}

std::uint64_t DeviceLatentStats::rows() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

void DeviceLatentStats::add(const DeviceSparseCodes& codes) {
  require(codes.latents() == latents_, ErrorCode::invalid_argument,
          "statistics of " + std::to_string(latents_) + " latents cannot take codes of " +
              std::to_string(codes.latents()));
  require(codes.device() == device_, ErrorCode::invalid_argument,
          "statistics on " + device_name(device_) + " cannot take codes that lie on " +
              device_name(codes.device()));
  const std::lock_guard lock(mutex_);
  // Beyond that, sums could leave their window (LatentStats has the same bound).
  require(codes.tokens() <= (std::uint64_t{1} << 40) - rows_, ErrorCode::invalid_argument,
          "latent statistics: more than 2^40 rows");
  if (host_) {
    host_->add(codes.host().view(), nullptr, nullptr);
  } else {
    const DevicePlugin& plugin = plugin_of(device_);
    check_device(plugin, plugin.stats_add(stats_.get(), codes.handle()));
  }
  rows_ += codes.tokens();
}

LatentStats DeviceLatentStats::read() const {
  const std::lock_guard lock(mutex_);
  if (host_) return *host_;
  const DevicePlugin& plugin = plugin_of(device_);
  LatentStatsState state = LatentStats(LatentStatsOptions{latents_}).state();
  DeviceTotals totals = {
      0, state.sum.data(), state.squares.data(), state.active.data(), state.max.data(), 0, nullptr, nullptr};
  check_device(plugin, plugin.stats_read(stats_.get(), &totals));
  std::vector<std::uint32_t> latents(totals.spilled);
  std::vector<float> values(totals.spilled);
  if (totals.spilled) {
    totals.spilled_latents = latents.data();
    totals.spilled_values = values.data();
    check_device(plugin, plugin.stats_read(stats_.get(), &totals));
  }
  state.rows = totals.rows;
  // Values outside the window of the totals go where LatentStats keeps its own.
  std::map<std::uint32_t, std::pair<WideSum, WideSum>> wide;
  for (std::size_t i = 0; i < latents.size(); ++i) {
    auto& [sum, squares] = wide[latents[i]];
    add_value(sum, values[i]);
    add_square(squares, values[i]);
  }
  for (const auto& [latent, sums] : wide) {
    state.wide_latents.push_back(latent);
    state.wide_sums.insert(state.wide_sums.end(), sums.first.limbs.begin(), sums.first.limbs.end());
    state.wide_squares.insert(state.wide_squares.end(), sums.second.limbs.begin(), sums.second.limbs.end());
  }
  return LatentStats(LatentStatsOptions{latents_}, std::move(state));
}

void DeviceLatentStats::read_into(LatentStats& stats) const {
  require(stats.options().latents == latents_ && stats.options().examples == 0 && !stats.options().per_group,
          ErrorCode::invalid_argument,
          "statistics on a device know neither examples nor groups: they cannot be added to statistics of " +
              std::to_string(stats.options().latents) + " latents with " +
              std::to_string(stats.options().examples) + " examples" +
              (stats.options().per_group ? " and sums per group" : ""));
  stats.merge(read());
}

void DeviceLatentStats::difference(const DeviceLatentStats& before, const DeviceLatentStats& after,
                                   double* delta, double* effect_size) {
  require(before.latents_ == after.latents_ && before.device_ == after.device_, ErrorCode::invalid_argument,
          "diff: statistics of " + std::to_string(before.latents_) + " latents on " +
              device_name(before.device_) + " and of " + std::to_string(after.latents_) + " on " +
              device_name(after.device_) + " cannot be compared");
  require(before.rows() > 0 && after.rows() > 0, ErrorCode::invalid_argument,
          "diff: statistics over no rows");
  if (before.stats_) {
    std::unique_lock first(before.mutex_, std::defer_lock), second(after.mutex_, std::defer_lock);
    if (&before == &after)
      first.lock();
    else
      std::lock(first, second);
    const DevicePlugin& plugin = plugin_of(before.device_);
    const int status = plugin.stats_difference(before.stats_.get(), after.stats_.get(), delta, effect_size);
    // Refused where values lie outside the window: the host has them.
    if (status != 1 + static_cast<int>(ErrorCode::invalid_argument)) return check_device(plugin, status);
  }
  const LatentStats first = before.read(), second = after.read();
  LatentDiffOptions options;
  options.resamples = 0;
  const LatentDiff found = diff_latents(first, {&second}, options);
  std::copy(found.delta.begin(), found.delta.end(), delta);
  std::copy(found.effect_size.begin(), found.effect_size.end(), effect_size);
}

}  // namespace personascope
