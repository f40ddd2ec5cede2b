// SPDX-License-Identifier: Apache-2.0

#include "ring/loop_thread.hpp"

#include <pthread.h>

#include <cassert>
#include <system_error>
#include <utility>

namespace tidemark::ring {

result<std::unique_ptr<loop_thread>> loop_thread::make(const std::string& name) {
  assert(name.size() <= 15);
  auto loop = uring_loop::make();
  if (!loop) return loop.error();
  std::unique_ptr<loop_thread> made(new loop_thread(std::move(*loop)));
  try {
    made->thread_ = std::thread([&on = *made->loop_, name] {
      pthread_setname_np(pthread_self(), name.c_str());
      (void)on.run();
    });
  } catch (const std::system_error& failure) {
    return kernel_error(operation::start_ring, failure.code().value(), {},
                        "no thread for the loop; raise the limit (ulimit -u, TasksMax= of the service)");
  }
  return made;
}

void loop_thread::stop() noexcept {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

}  // namespace tidemark::ring
