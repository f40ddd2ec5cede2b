// SPDX-License-Identifier: Apache-2.0

#include "dirty/latency.hpp"

#include <algorithm>
#include <boost/histogram/axis/regular.hpp>
#include <boost/histogram/histogram.hpp>
#include <boost/histogram/make_histogram.hpp>
#include <cmath>
#include <tuple>
#include <vector>

namespace tidemark::dirty {

namespace {

namespace axis = boost::histogram::axis;

using nanoseconds = std::chrono::nanoseconds;

constexpr unsigned class_count = 660;  // 1e2 ns to 1e13.2 ns, by 4 %
constexpr double shortest = 1e2;
constexpr double longest = 1.6e13;

using log_axis = axis::regular<double, axis::transform::log>;
using counts = boost::histogram::histogram<std::tuple<log_axis>, boost::histogram::dense_storage<std::uint64_t>>;

}  // namespace

struct latency::classes {
  counts of{std::make_tuple(log_axis(class_count, shortest, longest)), boost::histogram::dense_storage<std::uint64_t>()};

  /// The middle of the class in which the value of this rank is, ranks from 1 on; `longest` if it is above them all.
  double value_at(std::uint64_t rank) const {
    const auto& bounds = of.axis(0);
    std::uint64_t seen = of.at(-1);
    if (seen >= rank) return shortest;
    for (int i = 0; i < bounds.size(); ++i) {
      seen += of.at(i);
      if (seen >= rank) return bounds.bin(i).center();
    }
    return longest;
  }
};

latency::latency() : classes_(std::make_unique<classes>()) {}
latency::latency(latency&&) noexcept = default;
latency& latency::operator=(latency&&) noexcept = default;
latency::~latency() = default;

void latency::add(nanoseconds duration) {
  classes_->of(static_cast<double>(duration.count()));
  min_ = count_ == 0 ? duration : std::min(min_, duration);
  max_ = std::max(max_, duration);
  sum_ += duration;
  ++count_;
}

latency_statistics latency::statistics() const {
  latency_statistics told;
  if (count_ == 0) return told;
  const auto percentile = [&](double share) {
    const auto rank = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count_)));
    const auto middle = classes_->value_at(std::max<std::uint64_t>(rank, 1));
    return middle == longest ? max_ : std::clamp(nanoseconds(static_cast<std::int64_t>(middle)), min_, max_);
  };
  told.count = count_;
  told.min = min_;
  told.mean = sum_ / static_cast<std::int64_t>(count_);
  told.p50 = percentile(0.5);
  told.p90 = percentile(0.9);
  told.p99 = percentile(0.99);
  told.p999 = percentile(0.999);
  told.max = max_;
  return told;
}

}  // namespace tidemark::dirty
