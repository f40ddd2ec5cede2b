// SPDX-License-Identifier: Apache-2.0

#include <tidemark/migration.hpp>

#include <array>

namespace tidemark {

std::string_view name_of(migration_phase phase) noexcept {
  constexpr std::array<std::string_view, 6> names{"connecting", "pre-copy",      "held",
                                                  "recovering", "stop-and-copy", "handed-over"};
  return names[static_cast<std::size_t>(phase)];
}

}  // namespace tidemark
