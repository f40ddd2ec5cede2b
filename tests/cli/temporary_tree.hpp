// SPDX-License-Identifier: Apache-2.0
//
// A directory that lives as long as the object, laid out by the test: a configuration file, or the /sys and /proc of a host
// that does not exist. One thread.

#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace tidemark::cli::test {

class temporary_tree {
 public:
  temporary_tree() {
    auto name = (std::filesystem::temp_directory_path() / "tidemark-cli-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make " + name);
    root_ = name;
  }
  temporary_tree(const temporary_tree&) = delete;
  ~temporary_tree() { std::filesystem::remove_all(root_); }

  const std::filesystem::path& root() const { return root_; }

  /// Paths are as on the host that the tree stands for: "/proc/cmdline".
  std::string file(const std::string& path, const std::string& text) {
    const auto place = make_room(path);
    std::ofstream(place, std::ios::binary) << text;
    return place.string();
  }
  void directory(const std::string& path) { std::filesystem::create_directories(make_room(path)); }
  void link(const std::string& path, const std::string& target) { std::filesystem::create_symlink(target, make_room(path)); }

 private:
  std::filesystem::path make_room(const std::string& path) {
    auto place = root_ / std::filesystem::path(path).relative_path();
    std::filesystem::create_directories(place.parent_path());
    return place;
  }

  std::filesystem::path root_;
};

}  // namespace tidemark::cli::test
