// SPDX-License-Identifier: Apache-2.0

#include "soak_report.hpp"

#include <unistd.h>

#include <boost/json.hpp>
#include <cmath>
#include <cstdio>

namespace tidemark::bench {

namespace {

constexpr std::uint64_t told_at_most = 20;  // of a kind; the rest is counted
constexpr std::chrono::seconds progress_pause{3};

std::string words(page_run pages, const std::string& when) {
  return "block " + std::to_string(pages.block) + " page " + std::to_string(pages.first_page) +
         (pages.pages > 1 ? " and " + std::to_string(pages.pages - 1) + " more" : "") + ", " + when;
}

std::string every(const poll_row& row) {
  return row.every.count() == 0 ? "back to back" : "each " + std::to_string(row.every.count()) + " ms";
}

std::uint64_t whole(double value) { return static_cast<std::uint64_t>(std::llround(value)); }

boost::json::object json_of(const poll_row& row) {
  return {{"told_by", row.teller},
          {"set_pages_per_s", row.set_pages_per_s},
          {"every_ms", row.every.count()},
          {"written_pages_per_s", whole(row.written_pages_per_s)},
          {"measured_pages_per_s", whole(row.measured_pages_per_s)},
          {"rounds", row.rounds},
          {"pages_a_round", row.pages_a_round},
          {"sync_us_p50", whole(row.sync_us_p50)},
          {"sync_us_p99", whole(row.sync_us_p99)},
          {"sync_us_max", whole(row.sync_us_max)}};
}

unsigned long long number(std::uint64_t value) { return value; }

}  // namespace

void soak_report::lost(page_run pages, const std::string& when) {
  if (lost_pages == 0) std::fprintf(stderr, "dirty_soak: again with %s\n", again().c_str());
  if (lost_pages < told_at_most) std::fprintf(stderr, "dirty_soak: lost: %s\n", words(pages, when).c_str());
  lost_pages += pages.pages;
}

void soak_report::needless(page_run pages, const std::string& when) {
  if (resent_unneeded == 0) std::fprintf(stderr, "dirty_soak: again with %s\n", again().c_str());
  if (resent_unneeded < told_at_most) std::fprintf(stderr, "dirty_soak: needless: %s\n", words(pages, when).c_str());
  resent_unneeded += pages.pages;
}

void soak_report::warn(const std::string& what) {
  if (warnings++ < told_at_most) std::fprintf(stderr, "dirty_soak: warning: %s\n", what.c_str());
}

void soak_report::progress(const std::string& where) {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_progress_ < progress_pause || isatty(STDERR_FILENO) != 1) return;
  last_progress_ = now;
  std::fprintf(stderr, "%6.0f s  %s: %llu writes, %llu rounds, %llu region events, lost %llu, needless %llu\n", seconds(),
               where.c_str(), number(device_writes), number(rounds), number(region_events), number(lost_pages),
               number(resent_unneeded));
}

std::string soak_report::again() const {
  return "dirty_soak --kernel " + request_.kernel + " --writes " + std::to_string(request_.writes) + " --seed " +
         std::to_string(request_.seed) + " --exact-rounds " + std::to_string(request_.exact_rounds);
}

double soak_report::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
}

/// Of the devices' own logs: the highest rate, back to back.
const poll_row* soak_report::hardest_poll() const {
  const poll_row* hardest = nullptr;
  for (const auto& row : polls) {
    if (row.every.count() != 0 || row.teller != polls.front().teller) continue;
    if (!hardest || row.set_pages_per_s > hardest->set_pages_per_s) hardest = &row;
  }
  return hardest;
}

void soak_report::print() const {
  if (request_.json)
    print_json();
  else
    print_words();
}

void soak_report::print_json() const {
  boost::json::object all{{"kernel", request_.kernel},
                          {"seed", request_.seed},
                          {"device_writes", device_writes.load()},
                          {"refused_writes", refused_writes.load()},
                          {"lost_pages", lost_pages},
                          {"resent_unneeded", resent_unneeded},
                          {"checks", checks},
                          {"rounds", rounds},
                          {"exact_rounds", exact_rounds},
                          {"restarts", restarts},
                          {"region_events", region_events},
                          {"reattached", reattached},
                          {"handed_out_pages", handed_out_pages},
                          {"dropped_batches", dropped_batches},
                          {"given_back_pages", given_back_pages},
                          {"warnings", warnings},
                          {"seconds", whole(seconds())}};
  boost::json::object by;
  for (std::size_t i = 0; i < dirty_origins; ++i) by[name_of(static_cast<dirty_origin>(i))] = told_pages[i];
  all["told_pages_by"] = std::move(by);
  if (const auto* row = hardest_poll()) {
    all["poll_sync_us_p50"] = whole(row->sync_us_p50);
    all["poll_sync_us_p99"] = whole(row->sync_us_p99);
    all["poll_rate_measured_vs_set"] = row->measured_pages_per_s / static_cast<double>(row->set_pages_per_s);
  }
  boost::json::array rows;
  for (const auto& row : polls) rows.push_back(json_of(row));
  all["polls"] = std::move(rows);
  std::printf("%s\n", boost::json::serialize(all).c_str());
}

void soak_report::print_words() const {
  std::printf("%llu writes of devices (%llu refused: their region was away) in %.0f s\n", number(device_writes),
              number(refused_writes), seconds());
  std::printf("%llu rounds (%llu of them with exact accounting), %llu pages handed out, %llu batches dropped\n",
              number(rounds), number(exact_rounds), number(handed_out_pages), number(dropped_batches));
  std::printf("%llu region events, %llu devices attached again, %llu restarts, %llu warnings\n", number(region_events),
              number(reattached), number(restarts), number(warnings));
  std::printf("memory compared %llu times: %llu pages lost, %llu handed out needlessly\n", number(checks),
              number(lost_pages), number(resent_unneeded));
  print_polls();
}

void soak_report::print_polls() const {
  if (polls.empty()) return;
  std::printf("\n%-20s %10s %12s %10s %10s %8s %9s %9s %9s %9s\n", "told by", "set", "polled", "written", "measured",
              "rounds", "pages", "sync p50", "p99", "max");
  std::printf("%-20s %10s %12s %10s %10s %8s %9s %9s %9s %9s\n", "", "pages/s", "", "pages/s", "pages/s", "", "a round",
              "us", "us", "us");
  for (const auto& row : polls)
    std::printf("%-20s %10llu %12s %10.0f %10.0f %8llu %9.1f %9.0f %9.0f %9.0f\n", row.teller.c_str(),
                number(row.set_pages_per_s), every(row).c_str(), row.written_pages_per_s, row.measured_pages_per_s,
                number(row.rounds), row.pages_a_round, row.sync_us_p50, row.sync_us_p99, row.sync_us_max);
}

}  // namespace tidemark::bench
