// SPDX-License-Identifier: Apache-2.0

#include <tidemark/kernel_model.hpp>

namespace tidemark::kernel {

std::vector<model_group> model_options::guest_groups() {
  return {
      {.number = 0, .iommu_backed = false, .viable = true, .devices = {"tidemark-test.0"}},
      {.number = 1, .iommu_backed = false, .viable = true, .devices = {"tidemark-test.1"}},
      {.number = 2, .iommu_backed = true, .viable = true, .devices = {"0000:00:04.0"}},
  };
}

}  // namespace tidemark::kernel
