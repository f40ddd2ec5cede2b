// SPDX-License-Identifier: Apache-2.0
//
// The kernel that --kernel chose. Threading: a value; what it gives may be used from any thread.

#pragma once

#include <tidemark/kernel.hpp>
#include <tidemark/kernel_model.hpp>

#include <memory>

#include "cli/config.hpp"

namespace tidemark::cli {

class kernel_of {
 public:
  explicit kernel_of(kernel_choice choice) {
    if (choice == kernel_choice::model) model_ = std::make_unique<kernel::model>();
  }

  kernel::files& files() const noexcept { return model_ ? *model_ : kernel::host_kernel(); }

 private:
  std::unique_ptr<kernel::model> model_;
};

}  // namespace tidemark::cli
