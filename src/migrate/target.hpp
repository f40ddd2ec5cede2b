// SPDX-License-Identifier: Apache-2.0
//
// Where a migration's source sends a guest: over channels to a destination (network_target), into a file (snapshot_target),
// or by handing over the memory itself (memory_target).
//
// Threading: the source's executor; whatever it does elsewhere, its tasks complete there. One call at a time, but for
// send() and send_device(), which may be under way several times, touch(), which may come beside them, and cut().

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/error.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "migrate/device_states.hpp"
#include "migrate/wire.hpp"
#include "ring/task.hpp"

namespace tidemark::migrate {

/// What became of the pages of a send().
struct delivery {
  std::uint64_t zero_pages = 0;
  std::uint64_t repeated_pages = 0;
};

class target {
 public:
  virtual ~target() = default;

  /// Whether pages are to be sent. If not, the destination has the memory itself, and nothing is tracked.
  virtual bool takes_pages() const noexcept = 0;
  /// Whether a guest runs there afterwards. If not, it goes on here, and leave() is all that follows finish().
  virtual bool takes_over() const noexcept = 0;

  /// Tells what will come. Again after an error that is_broken_connection(): takes the session up where it broke.
  virtual ring::task<result<welcome>> open() = 0;

  /// The pages of the next round come; none of them twice.
  virtual ring::task<void> begin_round() = 0;
  /// Completes when the pages are in place there, whatever comes later. `runs` outlives the task. After an error none is
  /// known to be.
  virtual ring::task<result<delivery>> send(std::span<const page_run> runs) = 0;
  /// What there is of a device's state now, read where it is sent; in place, as above. The bytes.
  virtual ring::task<result<std::uint64_t>> send_device(unsigned device, const device_states& of) = 0;
  /// How long nothing takes: a frame there, and its answer.
  virtual ring::task<result<void>> touch() = 0;

  /// All is sent: completes when everything is in place, and the destination could run it. (Where no guest is to run, the
  /// one here runs on meanwhile.)
  virtual ring::task<result<void>> finish() = 0;
  /// From the call on the guest never runs here again: completes when it runs there.
  virtual ring::task<result<void>> hand_over() = 0;
  /// Checksums of all blocks, compared there: the names of those that differ. Empty `sums`: nothing is compared, and the
  /// destination knows that its answer came.
  virtual ring::task<result<std::string>> compare(std::vector<std::string> sums) = 0;

  /// Ends it; what is under way fails. `why`, if there is one, is told to the destination.
  virtual ring::task<void> leave(const error* why) = 0;
  /// What is under way fails, at once; or, if there is a `why`, as soon as the destination was told, which takes a second
  /// if it does not listen. Then leave() follows, or open().
  virtual void cut(const error* why) noexcept = 0;

  virtual void set_bandwidth(std::uint64_t bytes_per_s) noexcept = 0;
  virtual std::uint64_t wire_bytes() const noexcept = 0;
  virtual unsigned channels() const noexcept = 0;
};

}  // namespace tidemark::migrate
