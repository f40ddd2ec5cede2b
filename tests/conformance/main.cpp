// SPDX-License-Identifier: Apache-2.0
//
// conformance --kernel=model|linux [--version=6.18] [--case=TEXT]
//
// Runs every case of VFIO's answers against the model or against the kernel this program runs on. On Linux it needs root
// and the test devices (tests/vm). --version is the model's; --case picks the cases whose name contains the text.
// One line a case; the status is 0 when none failed.

#include <cstdio>
#include <string>
#include <string_view>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

struct settings {
  bool on_model = true;
  kernel::kernel_version version{6, 1};
  std::string pick;
};

struct tally {
  int passed = 0;
  int failed = 0;
  int skipped = 0;
};

bool shows(kernel::kernel_version version, const test_case& what) { return version >= what.from && version < what.before; }

kernel::kernel_version version_for(const test_case& what, kernel::kernel_version wanted) {
  return shows(wanted, what) ? wanted : what.from;
}

topology groups_of(const kernel::model_options& options) {
  topology groups;
  for (const kernel::model_group& group : options.groups) {
    const group_name name{group.number, group.devices.front()};
    if (group.iommu_backed) {
      groups.backed = name;
    } else {
      groups.emulated.push_back(name);
    }
  }
  return groups;
}

void run_on_model(const test_case& what, kernel::kernel_version wanted) {
  kernel::model_options options;
  options.version = version_for(what, wanted);
  if (what.memlock_pages > 0) options.memlock_pages = what.memlock_pages;
  if (what.shape) what.shape(options);
  kernel::model model(options);
  bench world(model, options.version, groups_of(options));
  what.run(world);
  expect(model.open_descriptors(), 0, "descriptors left open");
  expect(model.pinned_pages(), 0, "pages left pinned");
  expect(model.live_containers(), 0, "containers left");
}

void run_on_linux(const test_case& what) {
  static const topology groups = discover();
  static const kernel::kernel_version version = running_version();
  if (!what.model_only.empty()) throw skipped(what.model_only);
  if (version < what.from)
    throw skipped("needs Linux " + std::to_string(what.from.major) + "." + std::to_string(what.from.minor));
  if (version >= what.before) {
    throw skipped("needs Linux before " + std::to_string(what.before.major) + "." + std::to_string(what.before.minor));
  }
  std::optional<memlock_limit> limit;
  if (what.memlock_pages > 0) limit.emplace(what.memlock_pages);
  bench world(kernel::host_kernel(), version, groups);
  what.run(world);
}

void run(const test_case& what, const settings& how, tally& count) {
  try {
    if (how.on_model) {
      run_on_model(what, how.version);
    } else {
      run_on_linux(what);
    }
    ++count.passed;
    std::printf("ok      %s\n", what.name.c_str());
  } catch (const skipped& reason) {
    ++count.skipped;
    std::printf("skipped %s (%s)\n", what.name.c_str(), reason.what());
  } catch (const std::exception& reason) {
    ++count.failed;
    std::printf("FAILED  %s: %s\n", what.name.c_str(), reason.what());
  }
  std::fflush(stdout);  // a kernel that dies should leave the last line
}

bool parse(std::string_view argument, settings& into) {
  if (argument == "--kernel=model" || argument == "--kernel=linux") {
    into.on_model = argument == "--kernel=model";
    return true;
  }
  if (argument.substr(0, 7) == "--case=") {
    into.pick = argument.substr(7);
    return true;
  }
  return std::sscanf(std::string(argument).c_str(), "--version=%u.%u", &into.version.major, &into.version.minor) == 2;
}

int run_all(const settings& how) {
  tally count;
  for (const auto& cases : {container_cases(), group_cases(), device_cases(), info_cases(), map_cases(), unmap_cases(),
                            dirty_cases(), bitmap_cases()}) {
    for (const test_case& what : cases) {
      if (what.name.find(how.pick) != std::string::npos) run(what, how, count);
    }
  }
  std::printf("%d passed, %d failed, %d skipped\n", count.passed, count.failed, count.skipped);
  return count.failed == 0 && count.passed > 0 ? 0 : 1;
}

}  // namespace
}  // namespace tidemark::conformance

int main(int count, char** arguments) {
  tidemark::conformance::settings how;
  for (int i = 1; i < count; ++i) {
    if (!tidemark::conformance::parse(arguments[i], how)) {
      std::fprintf(stderr, "usage: %s --kernel=model|linux [--version=MAJOR.MINOR] [--case=TEXT]\n", arguments[0]);
      return 2;
    }
  }
  return tidemark::conformance::run_all(how);
}
