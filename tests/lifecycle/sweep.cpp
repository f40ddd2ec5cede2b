// SPDX-License-Identifier: Apache-2.0
//
// sweep --kernel=model|linux
//
// Fails every call that attaching and detaching make to the kernel, in turn. A story is a row of steps, each an attach or a
// detach. It is told once to count the calls, then once for each of them with that one made to fail:
//   - a step that fails leaves what was held before it, and succeeds when it is tried again;
//   - a step that succeeds all the same (KVM need not take a group; a group may find another container) is as good as any;
//   - when the story has ended nothing is held.
// A line for each point: the story, the step, the call, and what came of it. The last line is one JSON object: points (calls
// failed) and leftovers (points after which something was held that should not be, or a second try failed). Status 0 when
// there are none.

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string_view>

#include "lifecycle/stage.hpp"

namespace tidemark::lifecycle {
namespace {

struct step {
  std::string name;
  std::string attach;  ///< a device, or empty
  std::string detach;
};

struct story {
  std::string name;
  stage::shape shape{};
  bool tracking = false;
  std::function<std::vector<step>(const conformance::topology&)> steps;
};

step attach_step(const std::string& which) { return {"attach " + which, which, {}}; }
step detach_step(const std::string& which) { return {"detach " + which, {}, which}; }

/// Two groups, one of which brings a driver that pins; a group of two devices; leaving in another order than coming.
std::vector<step> several_groups(const conformance::topology& groups) {
  const auto test = test_device(groups.emulated.at(0));
  const auto& edu = groups.backed->device;
  const auto& one = groups.pair->device;
  const auto& other = groups.pair->other;
  return {attach_step(test), attach_step(edu),   attach_step(one), attach_step(other),
          detach_step(edu),  detach_step(other), detach_step(one), detach_step(test)};
}

std::vector<step> one_real_device(const conformance::topology& groups) {
  return {attach_step(groups.backed->device), detach_step(groups.backed->device)};
}

std::vector<step> two_test_devices(const conformance::topology& groups) {
  const auto first = test_device(groups.emulated.at(0));
  const auto second = test_device(groups.emulated.at(1));
  return {attach_step(first), attach_step(second), detach_step(first), detach_step(second)};
}

std::vector<story> stories(on which) {
  const auto apart = [](kernel::model_options& options) {
    for (auto& group : options.groups) group.shares_container = false;
  };
  const auto power = [](bool dynamic_windows) {
    return [=](kernel::model_options& options) {
      options.spapr.emplace();
      options.spapr->dynamic_windows = dynamic_windows;
    };
  };
  std::vector<story> all;
  all.push_back({.name = "several groups", .steps = several_groups});
  all.push_back({.name = "while tracking", .tracking = true, .steps = two_test_devices});
  if (which == on::linux) return all;
  all.push_back({.name = "a container each", .shape = apart, .steps = several_groups});
  all.push_back({.name = "sPAPR v2", .shape = power(true), .steps = one_real_device});
  all.push_back({.name = "sPAPR v1", .shape = power(false), .steps = one_real_device});
  return all;
}

struct no_sink final : dirty_sink, page_sink {
  page_sink& from(dirty_origin) noexcept override { return *this; }
  void merge(block_index, std::uint64_t, std::uint64_t, std::span<const std::uint64_t>) override {}
  void mark(page_run) override {}
  void discarded(page_run) override {}
  void populated(page_run) override {}
};

/// One telling of a story.
class telling {
 public:
  telling(on which, const story& told) : story_(told), stage_(which, told.shape) {
    if (!stage_.add(0, 4) || !stage_.add(16 * page, 8, 8)) throw std::logic_error("the regions were refused");
    if (!story_.tracking) return;
    const auto started =
        stage_.done<void>([&](auto token) { stage_.space().async_start_tracking(sink_, std::move(token)); });
    if (!started) throw std::logic_error("tracking does not start: " + started.error().message());
  }

  /// Fails the n-th call, 0: none. What was wrong, a line each.
  std::vector<std::string> tell(std::size_t n) {
    stage_.kernel().clear();
    if (n != 0) stage_.kernel().fail_nth(n, EIO);
    for (const auto& one : story_.steps(stage_.groups())) take(one);
    const bool nothing = stage_.held() == holdings{};
    if (!nothing) say_held("left when all is detached: ");
    return std::move(wrong_);
  }

  std::vector<kernel::faulty_call> calls() const { return stage_.kernel().trace(); }
  /// The step that the failed call was in, and whether it failed.
  const std::string& hit() const noexcept { return hit_; }
  bool hit_failed() const noexcept { return hit_failed_; }

 private:
  void take(const step& one) {
    const auto before = stage_.held();
    const auto failed_before = stage_.kernel().injected();
    const auto outcome = carry_out(one);
    if (stage_.kernel().injected() != failed_before) {
      hit_ = one.name;
      hit_failed_ = outcome.has_value();
    }
    if (!outcome) return;
    if (!(stage_.held() == before)) say_held("left by a failed step (" + *outcome + "): ");
    if (const auto again = carry_out(one)) wrong_.push_back("fails again: " + *again);
  }

  /// What it failed with, if it did.
  std::optional<std::string> carry_out(const step& one) {
    if (!one.attach.empty()) {
      auto attached = stage_.attach(one.attach);
      if (!attached) return attached.error().message();
      devices_.emplace_back(one.attach, *attached);
      return std::nullopt;
    }
    for (const auto& [name, which] : devices_) {
      if (name != one.detach) continue;
      const auto detached = stage_.detach(which);
      if (!detached) return detached.error().message();
      if (which.is_open()) wrong_.push_back("a detached device is open");
    }
    return std::nullopt;
  }

  void say_held(const std::string& when) {
    std::ostringstream line;
    line << when << stage_.held();
    wrong_.push_back(line.str());
  }

  const story& story_;
  no_sink sink_;
  mutable stage stage_;
  std::vector<std::pair<std::string, device>> devices_;
  std::vector<std::string> wrong_;
  std::string hit_;
  bool hit_failed_ = false;
};

struct tally {
  std::size_t points = 0;
  std::size_t leftovers = 0;
};

void sweep(on which, const story& told, tally& count) {
  telling whole(which, told);
  for (const auto& line : whole.tell(0)) {
    ++count.leftovers;
    std::cout << told.name << ": without any failure: " << line << '\n';
  }
  const auto calls = whole.calls().size();
  for (std::size_t n = 1; n <= calls; ++n) {
    telling spoilt(which, told);
    const auto wrong = spoilt.tell(n);
    const auto call = spoilt.calls().at(n - 1);
    ++count.points;
    if (!wrong.empty()) ++count.leftovers;
    std::cout << told.name << " | " << spoilt.hit() << " | " << call.name << (call.path.empty() ? "" : " ") << call.path
              << " | " << (spoilt.hit_failed() ? "undone, and works again" : "goes on") << '\n';
    for (const auto& line : wrong) std::cout << "  LEFT OVER: " << line << '\n';
  }
}

int run(on which) {
  tally count;
  for (const auto& told : stories(which)) sweep(which, told, count);
  std::cout << "{\"points\":" << count.points << ",\"leftovers\":" << count.leftovers << "}\n";
  return count.leftovers == 0 && count.points > 0 ? 0 : 1;
}

}  // namespace
}  // namespace tidemark::lifecycle

int main(int count, char** arguments) {
  const std::string_view chosen = count == 2 ? arguments[1] : "";
  if (chosen != "--kernel=model" && chosen != "--kernel=linux") {
    std::fprintf(stderr, "usage: %s --kernel=model|linux\n", arguments[0]);
    return 2;
  }
  return tidemark::lifecycle::run(chosen == "--kernel=linux" ? tidemark::lifecycle::on::linux
                                                             : tidemark::lifecycle::on::model);
}
