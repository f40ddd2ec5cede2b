// SPDX-License-Identifier: Apache-2.0

#include "cli/options.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <sstream>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/command_words.hpp"
#include "cli/commands.hpp"
#include "cli/options_help.hpp"

namespace tidemark::cli {
namespace {

answer refused(const std::string& line) { return {exit_refused, {}, "tidemark: " + line}; }

/// The innermost command that was given.
const CLI::App* chosen_command(const CLI::App& app) {
  const auto used = app.get_subcommands();
  if (used.empty()) return nullptr;
  const auto* within = chosen_command(*used.front());
  return within ? within : used.front();
}

/// "bench map", as it is given.
std::string full_name(const CLI::App& command) {
  const auto* around = command.get_parent();
  return around && around->get_parent() ? full_name(*around) + " " + command.get_name() : command.get_name();
}

/// What is wrong with the values of one option. CLI11 says it only in its own English: "--memory: 1 required TEXT missing".
std::string explain_values(const std::string& text) {
  const auto option = text.substr(0, text.find_first_of(": "));
  if (text.find("missing") != std::string::npos) return option + " needs a value";
  if (text.find("flag override") != std::string::npos) return "--" + option + " takes no value";  // it leaves out the dashes
  return option + " is given more than once";
}

std::string explain_unknown(const std::string& word, bool inside_command) {
  if (inside_command) return (word.starts_with('-') ? "unknown option " : "unexpected argument ") + in_quotes(word);
  if (word.starts_with('-')) return "unknown option " + in_quotes(word) + "; a command's options follow its name";
  return "unknown command " + in_quotes(word) + "; use demo, migrate, receive, bench, devices or doctor";
}

/// One line for what CLI11 could not take apart, with where to look.
answer explain(const CLI::App& app, const CLI::ParseError& failure, std::span<const char* const> line) {
  const auto* sub = chosen_command(app);
  const std::string help = "; see: tidemark " + (sub ? full_name(*sub) + " " : std::string()) + "--help";
  const auto unknown = app.remaining(true);
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&failure)) return refused(explain_values(failure.what()) + help);
  if (!unknown.empty()) {
    const auto at = std::find(line.begin(), line.end(), unknown.front());
    const bool inside_command = sub && std::find(line.begin(), at, sub->get_name()) != at;
    return refused(explain_unknown(unknown.front(), inside_command) + help);
  }
  if (!sub) return refused("no command given; use demo, migrate, receive, bench, devices or doctor" + help);
  if (sub->get_name() == "bench") return refused("nothing to measure given; use bench map" + help);
  if (sub->get_name() == "migrate") return refused("where to? give tcp:HOST:PORT, unix:PATH, fd:PATH or file:PATH" + help);
  if (sub->get_name() == "receive") return refused("where from? give tcp:HOST:PORT, unix:PATH, fd:PATH or file:PATH" + help);
  return refused(failure.what() + help);
}

/// CLI11 puts two empty lines between groups of options.
std::string without_wide_gaps(std::string help) {
  for (auto at = help.find("\n\n\n"); at != std::string::npos; at = help.find("\n\n\n", at)) help.erase(at, 1);
  return help;
}

/// Takes the words apart. An answer when that is all there is to do.
std::optional<answer> take_apart(CLI::App& app, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::Success& help_or_version) {
    std::ostringstream out;
    app.exit(help_or_version, out, out);
    return answer{0, without_wide_gaps(out.str()), {}};
  } catch (const CLI::ParseError& failure) {
    return explain(app, failure, {argv, static_cast<std::size_t>(argc)});
  }
}

result<settings> merge(settings chosen, const CLI::App& app, const CLI::App& sub, const command_words& given) {
  if (app.count("--config") != 0) {
    if (auto done = override_from(chosen, given.config_file); !done) return done.error();
  }
  for (const auto& k : keys()) {
    if (!has_key(sub.get_name(), k)) continue;
    const std::string option(k.option);
    const auto* global = app.get_option_no_throw(option);
    const auto* local = sub.get_option_no_throw(option);
    if (!(global && global->count() != 0) && !(local && local->count() != 0)) continue;
    if (auto done = override_from_option(chosen, k, given.keys.at(&k)); !done) return done.error();
  }
  if (auto done = check(chosen); !done) return done.error();
  return chosen;
}

template <class Request>
parsed request_or_refusal(result<Request> made) {
  if (!made) return refused(made.error().detail);
  return std::move(*made);
}

parsed request_of(const std::string& command, const command_words& given, settings chosen) {
  if (command == "devices") return devices_request{given.json, given.all};
  if (command == "doctor") return doctor_request{given.json, given.all};
  if (command == "map") return request_or_refusal(map_bench_of(given.map_bench, given.json, std::move(chosen)));
  if (command == "migrate") return request_or_refusal(migrate_of(given.migration, given.json, std::move(chosen)));
  if (command == "receive") return request_or_refusal(receive_of(given.migration, given.json, std::move(chosen)));
  return request_or_refusal(demo_of(given.demo, given.json, std::move(chosen)));
}

}  // namespace

parsed parse_command_line(int argc, const char* const* argv) {
  const auto built_in = defaults();
  if (!built_in) return refused(built_in.error().detail);

  command_words given;
  CLI::App app{std::string(main_description)};
  describe_commands(app, given, *built_in);
  if (auto only = take_apart(app, argc, argv)) return *only;

  const auto& sub = *chosen_command(app);
  auto chosen = merge(*built_in, app, sub, given);
  if (!chosen) return refused(chosen.error().detail);
  return request_of(sub.get_name(), given, std::move(*chosen));
}

}  // namespace tidemark::cli
