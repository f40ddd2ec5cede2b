// SPDX-License-Identifier: Apache-2.0
//
// conformance --kernel=model|linux [--version=6.18] [--case=TEXT] [--rows]
//
// Runs every case of VFIO's answers against the model or against the kernel this program runs on. On Linux it needs root
// and the test devices (tests/vm). --version is the model's; --case picks the cases whose name contains the text.
// One line a case; the status is 0 when none failed.
//
// --rows prints for programs (tools/conformance): first "version", a tab and the version, then a line a case, of three
// fields with tabs between them: the name; ok, failed or skipped; and the answers observed, or the reason.

#include <cstdio>
#include <string>
#include <string_view>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

struct settings {
  bool on_model = true;
  bool rows = false;
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

void run_on_model(const test_case& what, kernel::kernel_version wanted) {
  kernel::model_options options;
  options.version = version_for(what, wanted);
  options.groups = modelled_guest_groups();
  if (what.memlock_pages > 0) options.memlock_pages = what.memlock_pages;
  if (what.shape) what.shape(options);
  kernel::model model(options);
  bench world(model, options.version, groups_of(options));
  what.run(world);
  const bool nothing_left = model.open_descriptors() + model.pinned_pages() + model.live_containers() == 0;
  if (!nothing_left) throw failure("descriptors, pinned pages or containers are left");
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

void report_row(const test_case& what, const char* how, const std::string& said) {
  std::printf("%s\t%s\t%s\n", what.name.c_str(), how, said.c_str());
}

void run(const test_case& what, const settings& how, tally& count) {
  take_transcript();
  try {
    if (how.on_model) {
      run_on_model(what, how.version);
    } else {
      run_on_linux(what);
    }
    ++count.passed;
    how.rows ? report_row(what, "ok", take_transcript()) : void(std::printf("ok      %s\n", what.name.c_str()));
  } catch (const skipped& reason) {
    ++count.skipped;
    how.rows ? report_row(what, "skipped", reason.what())
             : void(std::printf("skipped %s (%s)\n", what.name.c_str(), reason.what()));
  } catch (const std::exception& reason) {
    ++count.failed;
    how.rows ? report_row(what, "failed", take_transcript() + " (" + reason.what() + ")")
             : void(std::printf("FAILED  %s: %s\n", what.name.c_str(), reason.what()));
  }
  std::fflush(stdout);  // a kernel that dies should leave the last line
}

bool parse(std::string_view argument, settings& into) {
  if (argument == "--kernel=model" || argument == "--kernel=linux") {
    into.on_model = argument == "--kernel=model";
    return true;
  }
  if (argument == "--rows") {
    into.rows = true;
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
  const kernel::kernel_version version = how.on_model ? how.version : running_version();
  if (how.rows) std::printf("version\t%u.%u\n", version.major, version.minor);
  for (const auto& cases : {container_rows(), unmap_rows(), container_cases(), group_cases(), topology_cases(),
                            device_cases(), pci_cases(), migration_cases(), log_cases(), kvm_cases(), info_cases(),
                            map_cases(), unmap_cases(), dirty_cases(), bitmap_cases(), spapr_cases(), noiommu_cases()}) {
    for (const test_case& what : cases) {
      if (what.name.find(how.pick) != std::string::npos) run(what, how, count);
    }
  }
  if (!how.rows) std::printf("%d passed, %d failed, %d skipped\n", count.passed, count.failed, count.skipped);
  return count.failed == 0 && count.passed > 0 ? 0 : 1;
}

}  // namespace
}  // namespace tidemark::conformance

int main(int count, char** arguments) {
  tidemark::conformance::settings how;
  for (int i = 1; i < count; ++i) {
    if (!tidemark::conformance::parse(arguments[i], how)) {
      std::fprintf(stderr, "usage: %s --kernel=model|linux [--version=MAJOR.MINOR] [--case=TEXT] [--rows]\n", arguments[0]);
      return 2;
    }
  }
  return tidemark::conformance::run_all(how);
}
