// SPDX-License-Identifier: Apache-2.0

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "cli/devices.hpp"
#include "cli/group_json.hpp"

namespace tidemark::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t columns = 5;
using table_row = std::array<std::string, columns>;

const table_row heading{"DEVICE", "GROUP", "IOMMU", "DRIVER", "STATE"};

table_row row_of(const listed_device& d) {
  return {d.device.name, d.group, std::string(name_of(d.iommu)), d.device.driver.empty() ? "-" : d.device.driver, d.says};
}

std::array<std::size_t, columns> widths_of(const device_list& list) {
  std::array<std::size_t, columns> widths{};
  const auto widen = [&](const table_row& row) {
    for (std::size_t i = 0; i < columns; ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  widen(heading);
  for (const auto& d : list.devices) widen(row_of(d));
  return widths;
}

/// The last column has no blanks at its end.
std::string line_of(const table_row& row, const std::array<std::size_t, columns>& widths) {
  std::string line;
  for (std::size_t i = 0; i + 1 < columns; ++i) line.append(row[i]).append(widths[i] + 2 - row[i].size(), ' ');
  return line + row.back() + "\n";
}

/// The commands for a group, below its last device: most of them are for several of its devices.
std::string commands_below(const std::vector<std::string>& commands) {
  std::string text;
  for (const auto& command : commands) text += "    $ " + command + "\n";
  return text;
}

void add_new(std::vector<std::string>& commands, const std::vector<std::string>& more) {
  for (const auto& command : more) {
    if (std::find(commands.begin(), commands.end(), command) == commands.end()) commands.push_back(command);
  }
}

std::string table_of(const device_list& list) {
  const auto widths = widths_of(list);
  auto text = line_of(heading, widths);
  std::vector<std::string> commands;
  for (auto d = list.devices.begin(); d != list.devices.end(); ++d) {
    text += line_of(row_of(*d), widths);
    add_new(commands, d->mend);
    if (const auto next = d + 1; next != list.devices.end() && next->group == d->group) continue;
    text += commands_below(commands);
    commands.clear();
  }
  return text;
}

bool any_is(const device_list& list, device_state state) {
  return std::any_of(list.devices.begin(), list.devices.end(), [&](const auto& d) { return d.state == state; });
}

std::string no_devices(std::size_t can_be_given) {
  if (can_be_given == 0) return "No VFIO devices here, and none that could be given to VFIO: tidemark doctor says why\n";
  return "No VFIO devices here, but " + std::to_string(can_be_given) +
         " that could be given to VFIO: tidemark devices --all lists them, tidemark doctor says what else is missing\n";
}

json::value or_null(const std::string& text) { return text.empty() ? json::value(nullptr) : json::value(text); }

json::array json_of(const std::vector<holder>& holders) {
  json::array all;
  for (const auto& h : holders) all.push_back(json::object{{"process", h.process}, {"pid", h.pid}});
  return all;
}

json::object json_of(const listed_device& d) {
  constexpr std::array<std::string_view, 7> states{"attachable",  "attached",  "no_iommu",    "not_viable",
                                                   "cannot_open", "not_bound", "not_for_vfio"};
  auto object = json_of(d.device);
  object["path"] = d.path;
  object["vendor"] = or_null(d.vendor_id);
  object["device"] = or_null(d.device_id);
  object["class"] = or_null(d.class_id);
  object["group"] = d.group;
  object["group_file"] = d.group_file;
  object["iommu"] = name_of(d.iommu);
  object["state"] = states[static_cast<std::size_t>(d.state)];
  object["says"] = d.says;
  object["attached_by"] = json_of(d.holders);
  object["mend"] = json::array(d.mend.begin(), d.mend.end());
  return object;
}

}  // namespace

std::string as_text(const device_list& list) {
  if (list.devices.empty()) return no_devices(list.can_be_given);
  auto text = table_of(list);
  if (!list.why_not_all_processes.empty() && any_is(list, device_state::attachable))
    text += "\nNot every process could be looked into: " + list.why_not_all_processes + ".\n";
  if (list.can_be_given != 0)
    text += "\n" + std::to_string(list.can_be_given) + " more could be given to VFIO: tidemark devices --all\n";
  return text;
}

std::string as_json(const device_list& list) {
  json::array devices;
  for (const auto& d : list.devices) devices.push_back(json_of(d));
  const auto& why = list.why_not_all_processes;
  return json::serialize(json::object{{"devices", std::move(devices)},
                                      {"can_be_given", list.can_be_given},
                                      {"all_processes", why.empty()},
                                      {"why_not_all_processes", or_null(why)}}) +
         "\n";
}

int run_devices(const devices_request& request) {
  const host_tree host;
  const auto list = list_devices(host, read_iommu_groups(host), ::getuid(), request.all);
  std::fputs((request.json ? as_json(list) : as_text(list)).c_str(), stdout);
  return 0;
}

}  // namespace tidemark::cli
