// SPDX-License-Identifier: Apache-2.0

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "cli/doctor.hpp"
#include "cli/group_json.hpp"
#include "cli/options.hpp"

namespace tidemark::cli {
namespace {

namespace json = boost::json;

struct look {
  std::string_view word;
  std::string_view colour;
};
constexpr std::array looks{look{"ok", "\033[32m"}, look{"note", "\033[36m"}, look{"warning", "\033[33m"},
                           look{"missing", "\033[31m"}};
constexpr std::size_t word_width = 7;

look look_of(finding_status status) { return looks[static_cast<std::size_t>(status)]; }

std::string padded(std::string_view text, std::size_t width) {
  std::string cell(text);
  cell.resize(std::max(width, text.size()), ' ');
  return cell;
}

std::string line_of(const finding& f, std::size_t what_width, bool colour) {
  const auto [word, begin] = look_of(f.status);
  const auto status = padded(word, word_width);
  return padded(f.what, what_width) + "  " + (colour ? std::string(begin) + status + "\033[0m" : status) + "  " + f.says +
         "\n";
}

json::object json_of(const finding& f) {
  return {{"what", f.what},
          {"status", look_of(f.status).word},
          {"says", f.says},
          {"mend", json::array(f.mend.begin(), f.mend.end())}};
}

json::object json_of(const iommu_group& group) {
  json::array devices;
  for (const auto& d : group.devices) devices.push_back(json_of(d));
  return {{"group", group.number},
          {"iommu", name_of(group.iommu)},
          {"viable", group.viable()},
          {"ready", group.ready()},
          {"devices", std::move(devices)}};
}

}  // namespace

std::string as_text(const diagnosis& found, bool colour, bool all) {
  std::size_t width = 0;
  for (const auto& f : found.findings) width = std::max(width, f.what.size());
  const std::string indent(width + word_width + 4, ' ');
  std::string text;
  bool notes_left_out = false;
  for (const auto& f : found.findings) {
    text += line_of(f, width, colour);
    const bool left_out = f.status == finding_status::note && !all;
    notes_left_out = notes_left_out || (left_out && !f.mend.empty());
    if (left_out) continue;
    for (const auto& command : f.mend) text += indent + "$ " + command + "\n";
  }
  text += "\nmodel demo:   ";
  text += found.model_demo ? "can run here: tidemark demo\n" : "cannot run here, because io_uring is not usable\n";
  text += "real devices: ";
  text += found.why_no_real_devices.empty() ? "available here\n"
                                            : "not available here, because " + found.why_no_real_devices + "\n";
  if (notes_left_out) text += "Commands for the notes: tidemark doctor --all\n";
  return text;
}

std::string as_json(const diagnosis& found) {
  json::array findings;
  for (const auto& f : found.findings) findings.push_back(json_of(f));
  json::array groups;
  for (const auto& g : found.groups) groups.push_back(json_of(g));
  const auto& why = found.why_no_real_devices;
  return json::serialize(json::object{{"findings", std::move(findings)},
                                      {"groups", std::move(groups)},
                                      {"model_demo", found.model_demo},
                                      {"real_devices", why.empty()},
                                      {"why_no_real_devices", why.empty() ? json::value(nullptr) : json::value(why)}}) +
         "\n";
}

int run_doctor(const doctor_request& request) {
  const auto found = diagnose(host_tree(), ask_system());
  const bool colour = ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
  std::fputs((request.json ? as_json(found) : as_text(found, colour, request.all)).c_str(), stdout);
  return found.model_demo ? 0 : exit_failed;
}

}  // namespace tidemark::cli
