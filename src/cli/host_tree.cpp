// SPDX-License-Identifier: Apache-2.0

#include "cli/host_tree.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <sstream>
#include <tuple>

namespace tidemark::cli {
namespace {

std::optional<long> whole_number(std::string_view text) {
  long value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool comes_before(const std::string& a, const std::string& b) {
  const auto number_a = whole_number(a);
  const auto number_b = whole_number(b);
  return std::tuple(!number_a, number_a, a) < std::tuple(!number_b, number_b, b);
}

}  // namespace

std::filesystem::path host_tree::at(std::string_view path) const {
  return root_ / std::filesystem::path(path).relative_path();
}

bool host_tree::exists(std::string_view path) const {
  std::error_code failure;
  return std::filesystem::exists(at(path), failure);
}

std::optional<std::string> host_tree::text(std::string_view path) const {
  std::ifstream file(at(path), std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream copy;
  copy << file.rdbuf();  // and not with iterators, from which a read error (a directory, say) comes as an exception
  auto all = copy.str();
  all.erase(all.find_last_not_of(" \t\n") + 1);
  return all;
}

std::optional<long> host_tree::number(std::string_view path) const {
  const auto all = text(path);
  return all ? whole_number(*all) : std::nullopt;
}

std::string host_tree::link_name(std::string_view path) const {
  std::error_code failure;
  return std::filesystem::path(link(path, failure)).filename().string();
}

std::string host_tree::link(std::string_view path, std::error_code& failure) const {
  return std::filesystem::read_symlink(at(path), failure).string();
}

std::vector<std::string> host_tree::names(std::string_view directory) const {
  std::error_code failure;
  return names(directory, failure);
}

std::vector<std::string> host_tree::names(std::string_view directory, std::error_code& failure) const {
  std::vector<std::string> found;
  std::filesystem::directory_iterator entry(at(directory), failure);
  for (; !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure)) {
    found.push_back(entry->path().filename().string());
  }
  std::sort(found.begin(), found.end(), comes_before);
  return found;
}

int host_tree::access_errno(std::string_view path) const { return ::access(at(path).c_str(), R_OK | W_OK) == 0 ? 0 : errno; }

}  // namespace tidemark::cli
