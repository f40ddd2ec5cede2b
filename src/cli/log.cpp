// SPDX-License-Identifier: Apache-2.0
// The one file that includes spdlog: it takes longer to compile than all else here.

#include "cli/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace tidemark::cli {
namespace {

static_assert(static_cast<int>(log_level::trace) == SPDLOG_LEVEL_TRACE &&
                  static_cast<int>(log_level::off) == SPDLOG_LEVEL_OFF,
              "our levels are spdlog's, in its order");

spdlog::level::level_enum spdlog_level(log_level level) { return static_cast<spdlog::level::level_enum>(level); }

}  // namespace

void start_log(log_level least) {
  auto logger = std::make_shared<spdlog::logger>("tidemark", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%H:%M:%S.%e %^%l%$ %v");
  logger->set_level(spdlog_level(least));
  spdlog::set_default_logger(std::move(logger));
}

void log(log_level severity, std::string_view message) {
  spdlog::default_logger_raw()->log(spdlog_level(severity), spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace tidemark::cli
