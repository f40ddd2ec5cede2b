// SPDX-License-Identifier: Apache-2.0
//
// What a host says of itself in files, below a root: "/" for this host, a directory for a test's. Reads only; a file that
// cannot be read is as one that is not there. Paths are as on the host, "/proc/cmdline". Any thread.

#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace tidemark::cli {

class host_tree {
 public:
  explicit host_tree(std::filesystem::path root = "/") : root_(std::move(root)) {}

  bool exists(std::string_view path) const;

  /// All of a file, without blanks at its end.
  std::optional<std::string> text(std::string_view path) const;

  /// The number that a file holds.
  std::optional<long> number(std::string_view path) const;

  /// The last part of what a symbolic link points to; empty when there is none. The driver of a device is such a link.
  std::string link_name(std::string_view path) const;

  /// All of what a symbolic link points to, with why it cannot be read.
  std::string link(std::string_view path, std::error_code& failure) const;

  /// Names in a directory, numbers by value, then the rest by letters.
  std::vector<std::string> names(std::string_view directory) const;

  /// The same, with why it is not all of them.
  std::vector<std::string> names(std::string_view directory, std::error_code& failure) const;

  /// 0 when this process may read and write the file, else the errno.
  int access_errno(std::string_view path) const;

 private:
  std::filesystem::path at(std::string_view path) const;

  std::filesystem::path root_;
};

}  // namespace tidemark::cli
