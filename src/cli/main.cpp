// SPDX-License-Identifier: Apache-2.0

#include <cstdio>
#include <variant>

#include "cli/demo.hpp"
#include "cli/devices.hpp"
#include "cli/doctor.hpp"
#include "cli/log.hpp"
#include "cli/map_bench.hpp"
#include "cli/migrate.hpp"
#include "cli/options.hpp"
#include "cli/receive.hpp"

namespace {

using namespace tidemark::cli;

int run(const answer& only) {
  std::fputs(only.out.c_str(), stdout);
  if (!only.err.empty()) std::fprintf(stderr, "%s\n", only.err.c_str());
  return only.status;
}

int run(const demo_request& request) {
  start_log(request.config.level);
  return run_demo(request);
}

int run(const migrate_request& request) {
  start_log(request.config.level);
  return run_migrate(request);
}

int run(const receive_request& request) {
  start_log(request.config.level);
  return run_receive(request);
}

int run(const map_bench_request& request) {
  start_log(request.config.level);
  return run_map_bench(request);
}

int run(const devices_request& request) { return run_devices(request); }

int run(const doctor_request& request) { return run_doctor(request); }

}  // namespace

int main(int argc, char** argv) {
  return std::visit([](const auto& request) { return run(request); }, parse_command_line(argc, argv));
}
