// SPDX-License-Identifier: Apache-2.0
//
// Devices write while regions come and go, rounds are pulled, devices are attached anew and tracking is started anew; every
// so many writes the devices pause, what is left is pulled, and the copy must be the memory. What the stream hands out
// behind that is needless.
//
// Threading: the executor's; the devices write on threads of their own.

#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "soak_doorbells.hpp"
#include "soak_guest.hpp"
#include "soak_pull.hpp"

namespace tidemark::bench {

class soak_traffic {
 public:
  soak_traffic(soak_guest& guest, std::uint64_t seed);

  ring::task<result<void>> run(std::uint64_t writes);

 private:
  ring::task<result<void>> window(std::uint64_t writes);
  ring::task<> write(std::size_t which, std::uint64_t writes);
  ring::task<result<void>> write_some(std::size_t which, std::uint64_t writes);
  result<void> counted(const rung& done, const device& on);
  ring::task<result<void>> attach_anew(std::size_t which);
  ring::task<result<void>> check();

  ring::task<> churn(view& shown);
  ring::task<result<void>> move(view& shown);
  ring::task<> remove(iova_range where, ring::latch& done, result<void>& outcome);
  ring::task<> add(view& shown, std::uint64_t iova, ring::latch& done, result<void>& outcome);
  ring::task<> rest(std::uint64_t ms_max);

  void note(const result<void>& outcome);
  std::string now() const;

  soak_guest& guest_;
  choices random_;
  std::array<choices, soak_devices> written_;  // by the threads
  soak_consumers consumers_;
  result<void> outcome_;  // the first failure
  std::uint64_t windows_ = 0;
  std::size_t writing_ = 0;   // devices
  std::size_t churning_ = 0;  // views
  std::size_t moving_ = 0;    // of those, right now
  std::size_t calm_ = 0;      // devices that want none to move
  bool ending_ = false;
  std::string besides_;  // what the window had beside writes and region events
};

}  // namespace tidemark::bench
