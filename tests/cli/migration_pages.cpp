// SPDX-License-Identifier: Apache-2.0
//
// migration_pages FOLDER: writes pages of made-up migrations, for migration_page_test.py and for whoever wants to look at
// them.

#include <cstdio>
#include <fstream>
#include <string>

#include "cli/migration_html.hpp"
#include "cli/told_migrations.hpp"

using namespace tidemark;
using namespace tidemark::cli;

namespace {

migration_record hostile() {
  auto what = told::subject();
  what.target = "</title><script>alert(1)</script>";
  what.destination_host = "\"'><img src=x onerror=alert(2)>";
  what.began = "now & ]]> then";
  what.blocks = {{"<script>alert(3)</script>", 4096}, {std::string("nul\0 escape\x1b[2J \xff", 17), 4096}};
  auto record = told::of({.gives_up_at = std::chrono::milliseconds(900)}, what);
  auto failure = told::broken();
  failure.detail = "peer said: <b>&nope;</b>";
  failure.undone = "the guest </h1> runs on here";
  record.fail(failure);
  return record;
}

/// Thousands of rounds and hundreds of blocks.
migration_record vast() {
  auto what = told::subject();
  for (int i = 0; i < 300; ++i) what.blocks.push_back({"dimm" + std::to_string(i), told::gib});
  told::plan busy{.bytes = 64 * told::mib, .dirtied = 3.58 * static_cast<double>(told::gib)};
  busy.step = std::chrono::microseconds(1000);
  busy.downtime_target = std::chrono::milliseconds(1);
  busy.gives_up_at = std::chrono::seconds(60);
  auto record = told::of(busy, what);
  record.fail(told::broken());
  return record;
}

migration_record not_begun() {
  migration_record record;
  record.fail(make_error(operation::connect_peer, errc::closed));
  return record;
}

bool write(const std::string& path, const migration_record& record) {
  std::ofstream file(path, std::ios::binary);
  file << migration_html(record);
  file.close();
  if (!file) std::fprintf(stderr, "migration_pages: cannot write %s\n", path.c_str());
  return static_cast<bool>(file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("migration_pages: give the folder to write to\n", stderr);
    return 2;
  }
  const std::string folder = std::string(argv[1]) + "/";
  const bool written = write(folder + "good.html", told::good()) && write(folder + "eventful.html", told::eventful()) &&
                       write(folder + "failed.html", told::failed()) && write(folder + "hostile.html", hostile()) &&
                       write(folder + "vast.html", vast()) && write(folder + "empty.html", migration_record()) &&
                       write(folder + "not_begun.html", not_begun());
  return written ? 0 : 1;
}
