// SPDX-License-Identifier: Apache-2.0
//
// `tidemark bench map`: what its patterns ask for, that a run tells all figures and leaves nothing behind, and how it is
// told. What times it measures is nobody's business here.

#include "cli/map_bench.hpp"

#include <linux/vfio.h>
#include <tidemark/kernel_model.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cerrno>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "cli/map_bench_script.hpp"
#include "kernel/passing.hpp"

using namespace tidemark;
using namespace tidemark::cli;
namespace json = boost::json;

namespace {

/// The smallest of everything, and all of it.
map_bench_request small_request() {
  map_bench_request request;
  request.config = defaults().value();
  request.config.bench_memory_bytes = 4 << 20;
  request.config.bench_operations = 64;
  request.config.bench_in_flight = 8;
  request.config.bench_held = 2000;
  request.device = "0000:00:04.0";
  request.patterns = {map_pattern::regions, map_pattern::viommu,     map_pattern::viommu_depth1,
                      map_pattern::burst,   map_pattern::burst_each, map_pattern::churn};
  return request;
}

/// On a model: how much was still mapped whenever a group left its container. It may run out of memory to pin after so many
/// maps.
class watched_model final : public kernel::passing {
 public:
  explicit watched_model(std::size_t maps_left = std::numeric_limits<std::size_t>::max())
      : watched_model(std::make_unique<kernel::model>(), maps_left) {}

  const kernel::model& model() const noexcept { return *model_; }
  std::size_t left_mapped() const noexcept { return left_mapped_; }
  std::size_t containers() const noexcept { return containers_; }

  using files::ioctl;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    if (request == VFIO_IOMMU_MAP_DMA && maps_left_-- == 0) {
      maps_left_ = 0;
      return -ENOMEM;
    }
    if (request == VFIO_GROUP_UNSET_CONTAINER) {
      ++containers_;
      left_mapped_ += model_->mapping_count();
    }
    return passing::ioctl(fd, request, argument);
  }

 private:
  watched_model(std::unique_ptr<kernel::model> below, std::size_t maps_left)
      : passing(*below), model_(std::move(below)), maps_left_(maps_left) {}

  std::unique_ptr<kernel::model> model_;
  std::atomic<std::size_t> maps_left_;
  std::size_t left_mapped_ = 0;
  std::size_t containers_ = 0;
};

void nothing_is_left(const kernel::model& model) {
  BOOST_TEST(model.mapping_count() == 0u);
  BOOST_TEST(model.open_descriptors() == 0u);
  BOOST_TEST(model.pinned_pages() == 0u);
}

/// What is mapped when the phase has ended, if its visits are made one after the other; an overlap is an error.
void play(const phase& what, std::map<std::uint64_t, std::uint64_t>& mapped) {
  if (what.beside.size != 0) BOOST_TEST(mapped.emplace(what.beside.iova, what.beside.size).second);
  for (const auto& [at, kind] : what.visits) {
    if (kind != visit::kind::unmap) BOOST_TEST(mapped.emplace(at.iova, at.size).second);
    if (kind == visit::kind::map) continue;
    const auto end = mapped.lower_bound(at.iova + at.size);
    BOOST_TEST((mapped.lower_bound(at.iova) != end));
    mapped.erase(mapped.lower_bound(at.iova), end);
  }
}

map_report report_of_two_runs() {
  map_report report;
  report.request = small_request();
  report.device = "a<&>b";
  const measured fast{std::chrono::microseconds(100), 4, 1, {1000, 2000, 3000, 4000}};
  const measured slow{std::chrono::microseconds(400), 4, 4, {9000, 9000, 9000, 9000}};
  report.patterns = {compare(map_pattern::viommu, {fast, fast, slow}, {slow, slow, slow})};
  return report;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(map_bench)

BOOST_AUTO_TEST_CASE(patterns_unmap_all_they_map_within_the_memory) {
  for (const std::uint64_t memory : {4ull << 20, 66ull << 20, 1ull << 30}) {
    auto chosen = small_request().config;
    chosen.bench_memory_bytes = memory;
    for (const auto which : small_request().patterns) {
      std::map<std::uint64_t, std::uint64_t> mapped;
      for (const auto& part : make_script(which, chosen).phases) {
        play(part, mapped);
        for (const auto& [at, kind] : part.visits) {
          BOOST_TEST(at.iova >= bench_iova);
          BOOST_TEST(at.iova + at.size <= bench_iova + memory);
          BOOST_TEST(at.size % 4096 == 0u);
        }
      }
      BOOST_TEST(mapped.empty(), name_of(which));
    }
  }
}

BOOST_AUTO_TEST_CASE(clients_in_flight_share_no_page) {
  for (const auto which : {map_pattern::viommu, map_pattern::churn}) {
    const auto busy = make_script(which, small_request().config).phases.front();
    BOOST_TEST(busy.in_flight == 8u);
    std::map<std::uint64_t, std::size_t> client_of;
    for (std::size_t i = 0; i < busy.visits.size(); ++i) {
      const auto& at = busy.visits[i].at;
      BOOST_TEST(client_of.emplace(at.iova, i % busy.in_flight).first->second == i % busy.in_flight);
      BOOST_TEST((at.iova >= busy.beside.iova + busy.beside.size || busy.beside.size == 0));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_burst_is_512_neighbours_that_may_become_one) {
  const auto made = make_script(map_pattern::burst, small_request().config);
  BOOST_TEST(made.unit == 2u << 20);
  const auto& maps = made.phases.front();
  BOOST_TEST(maps.in_one_call);
  BOOST_TEST(!make_script(map_pattern::burst_each, small_request().config).phases.front().in_one_call);
  BOOST_TEST(maps.visits.size() == 512u);
  BOOST_TEST(maps.in_flight == 512u);
  for (std::size_t i = 1; i < maps.visits.size(); ++i)
    BOOST_TEST(maps.visits[i].at.iova == maps.visits[i - 1].at.iova + maps.visits[i - 1].at.size);
}

BOOST_AUTO_TEST_CASE(a_run_has_all_figures_and_leaves_nothing) {
  watched_model kernel;
  const auto report = measure_maps(kernel, small_request());
  BOOST_REQUIRE(report.has_value());
  const auto told = json::parse(as_json(*report));
  const std::set<std::string> figures{
      "overhead_ns_per_op", "viommu_vs_raw",      "viommu_depth1_vs_raw",       "burst_vs_raw",
      "burst_ioctls",       "loop_stall_us_p100", "loop_stall_idle_us_p100",    "plan_scale",
      "bytes_per_mapping",  "burst_each_vs_raw",  "loop_stall_in_place_us_p100"};
  BOOST_TEST(told.at("figures").as_object().size() == figures.size());
  for (const auto& name : figures) BOOST_TEST(told.at("figures").at(name).is_number(), name);
  BOOST_TEST(told.at("patterns").as_array().size() == 6u);
  BOOST_TEST(kernel.containers() > 0u);
  BOOST_TEST(kernel.left_mapped() == 0u);
  nothing_is_left(kernel.model());
}

BOOST_AUTO_TEST_CASE(the_plain_loop_makes_one_ioctl_an_operation_and_the_engine_no_more) {
  watched_model kernel;
  auto request = small_request();
  request.stall = request.planner = false;
  const auto report = measure_maps(kernel, request);
  BOOST_REQUIRE(report.has_value());
  for (const auto& p : report->patterns) {
    BOOST_TEST(p.plain.ioctls_per_operation == 1.0);
    BOOST_TEST(p.engine.ioctls_per_operation <= 1.0);
    BOOST_TEST(p.engine.ioctls_per_operation > 0.0);
  }
}

BOOST_AUTO_TEST_CASE(figures_not_asked_for_are_null) {
  watched_model kernel;
  auto request = small_request();
  request.patterns = {map_pattern::viommu};
  request.stall = request.planner = false;
  const auto report = measure_maps(kernel, request);
  BOOST_REQUIRE(report.has_value());
  const auto told = json::parse(as_json(*report));
  for (const auto& [name, value] : told.at("figures").as_object())
    BOOST_TEST(value.is_null() == (std::string(name) != "viommu_vs_raw"), std::string(name));
}

// Early, the plain loop meets it; later, the engine with requests under way.
BOOST_AUTO_TEST_CASE(a_refused_map_ends_the_run_and_leaves_nothing) {
  for (const auto which : small_request().patterns) {
    for (const std::size_t maps : std::vector<std::size_t>{0, 1, 2, 3, 17, 33, 40, 50, 520, 600}) {
      watched_model kernel(maps);
      auto request = small_request();
      request.patterns = {which};
      request.planner = request.stall = false;
      const auto report = measure_maps(kernel, request);
      if (report.has_error()) BOOST_TEST(report.error().code.value() == ENOMEM);
      BOOST_TEST((report.has_error() || maps > 2), name_of(which));
      nothing_is_left(kernel.model());
    }
  }
}

BOOST_AUTO_TEST_CASE(a_refused_large_map_ends_the_run_and_leaves_nothing) {
  for (const std::size_t maps : std::vector<std::size_t>{0, 1, 2, 3}) {
    watched_model kernel(maps);
    auto request = small_request();
    request.patterns.clear();
    request.planner = false;
    const auto report = measure_maps(kernel, request);
    BOOST_REQUIRE(report.has_error());
    BOOST_TEST(report.error().code.value() == ENOMEM);
    nothing_is_left(kernel.model());
  }
}

BOOST_AUTO_TEST_CASE(a_device_that_is_not_there_is_an_error) {
  kernel::model kernel;
  auto request = small_request();
  request.device = "0000:77:00.0";
  BOOST_TEST(!measure_maps(kernel, request).has_value());
  nothing_is_left(kernel);
}

BOOST_AUTO_TEST_CASE(a_median_is_the_middle) {
  BOOST_TEST(median_of({3, 1, 2}) == 2.0);
  BOOST_TEST(median_of({4, 1, 2, 3}) == 2.5);
  BOOST_TEST(median_of({7}) == 7.0);
}

BOOST_AUTO_TEST_CASE(throughput_is_of_the_middle_run_and_percentiles_of_all) {
  const auto report = report_of_two_runs();
  const auto& p = report.patterns.front();
  BOOST_TEST(p.engine.operations_per_s == 40000.0);
  BOOST_TEST(p.engine.p50_us == 3.0);
  BOOST_TEST(p.engine.p99_us == 9.0);
  BOOST_TEST(p.engine.ioctls_per_operation == 0.5);
  BOOST_TEST(p.time_vs_plain == 0.25);
}

BOOST_AUTO_TEST_CASE(table_and_picture_name_both_sides) {
  const auto report = report_of_two_runs();
  const auto table = as_text(report);
  for (const auto* word : {"viommu", "engine", "plain", "40000", "time 0.25 of plain"})
    BOOST_TEST(table.find(word) != std::string::npos, word);
  const auto picture = as_svg(report);
  BOOST_TEST(picture.ends_with("</svg>\n"));
  for (const auto* word : {"a&lt;&amp;&gt;b", "prefers-color-scheme: dark", "viommu", "40.0 k/s"})
    BOOST_TEST(picture.find(word) != std::string::npos, word);
  BOOST_TEST(picture.find("nan") == std::string::npos);
  BOOST_TEST(picture.find("inf") == std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
