// SPDX-License-Identifier: Apache-2.0

#include "cli/demo_view.hpp"

#include <algorithm>
#include <boost/json/object.hpp>
#include <chrono>

#include "cli/human.hpp"

namespace tidemark::cli {

namespace json = boost::json;

namespace {

/// Those that told something, most first: "4.1 MiB pagemap, 2 MiB device log".
std::string told_by(const dirty_statistics& dirty) {
  auto sources = dirty.sources;
  std::sort(sources.begin(), sources.end(), [](const auto& a, const auto& b) { return a.told_pages > b.told_pages; });
  std::string text;
  for (const auto& one : sources)
    if (one.told_pages != 0) text += (text.empty() ? "" : ", ") + human_bytes(one.told_bytes()) + " " + one.name;
  return text.empty() ? "nobody" : text;
}

json::object sources_event(const dirty_statistics& dirty) {
  json::object sources;
  for (const auto& one : dirty.sources) sources[one.name] = one.told_bytes();
  return sources;
}

own_summary summary_of(const source_outcome& source, const std::optional<destination_outcome>& destination) {
  const auto cpu_bytes = source.activity.cpu_pages * page_bytes;
  const auto device_bytes = source.activity.device_pages * page_bytes;
  own_summary own;
  own.rows = {
      {"dirtied", human_bytes(cpu_bytes) + " by the CPU, " + human_bytes(device_bytes) + " by the device (" +
                      std::to_string(source.activity.refused_dma) + " writes refused: region away)"},
      {"told by", told_by(source.dirty)},
      {"regions", std::to_string(source.activity.region_changes) + " added or removed meanwhile"},
      {"peak memory", "source " + human_bytes(source.memory_peak_bytes) +
                          (destination ? ", destination " + human_bytes(destination->memory_peak_bytes) : std::string())}};
  own.fields = {{"cpu_dirtied_bytes", cpu_bytes},
                {"device_dirtied_bytes", device_bytes},
                {"told_bytes_by", sources_event(source.dirty)},
                {"refused_dma", source.activity.refused_dma},
                {"region_changes", source.activity.region_changes},
                {"source_memory_peak_bytes", source.memory_peak_bytes},
                {"identical", source.migration.compared}};
  if (destination) own.fields["destination_memory_peak_bytes"] = destination->memory_peak_bytes;
  return own;
}

}  // namespace

demo_view::demo_view(const demo_request& request)
    : json_(request.json), migration_(request.json, std::chrono::milliseconds(request.config.downtime_ms)) {}

void demo_view::begin(const demo_request& request, unsigned group) {
  const auto& chosen = request.config;
  const auto* kernel = chosen.kernel == kernel_choice::model ? "model" : "linux";
  if (json_)
    return migration_.put(json::object{{"event", "begin"},
                                       {"memory_bytes", chosen.memory_bytes},
                                       {"blocks", chosen.blocks},
                                       {"kernel", kernel},
                                       {"device", request.device},
                                       {"group", group}});
  migration_.put("Migrating " + human_bytes(chosen.memory_bytes) + " in " + std::to_string(chosen.blocks) + " RAM blocks; " +
                 request.device + " (group " + std::to_string(group) + ", " + kernel + " kernel) dirties " +
                 human_rate(chosen.device_rate_bytes) + ", a CPU " + human_rate(chosen.cpu_rate_bytes));
}

void demo_view::summary(const source_outcome& source, const std::optional<destination_outcome>& destination) {
  migration_.summary(source.migration, summary_of(source, destination));
}

void demo_view::listening(const std::string& host, unsigned port) {
  const auto address = host + ":" + std::to_string(port);
  if (json_) return migration_.put(json::object{{"event", "listening"}, {"address", address}});
  migration_.put("Listening at " + address + "; start the source with: tidemark demo --role source --address " + address);
}

void demo_view::received(const destination_outcome& outcome) {
  if (json_)
    return migration_.put(json::object{{"event", "received"},
                                       {"received_bytes", outcome.received_bytes},
                                       {"memory_peak_bytes", outcome.memory_peak_bytes}});
  migration_.put("Received " + human_bytes(outcome.received_bytes) + "; peak memory " +
                 human_bytes(outcome.memory_peak_bytes));
  migration_.put("identical");
}

void demo_view::failed(const error& failure) { migration_.failed(failure, {{"error", failure.message()}}); }

}  // namespace tidemark::cli
