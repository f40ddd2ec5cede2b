// SPDX-License-Identifier: Apache-2.0

#include "cli/options.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/keys.hpp"
#include "cli/options_help.hpp"
#include "kernel/test_device.h"

namespace tidemark::cli {
namespace {

/// The words as they stand on the command line. CLI11 only takes them apart: what they mean is checked afterwards, when the
/// configuration file has been read, by the same table that checks the file.
struct words {
  std::map<const key*, std::string> keys;
  std::string config_file;
  std::string role = "both";
  std::string device = TIDEMARK_TEST_DEVICE_NAME ".0";
  std::string inject;
  bool json = false;
  bool all = false;
};

constexpr std::array<std::string_view, 3> role_words{"both", "source", "destination"};

void add_key(CLI::App& app, words& given, const key& k, const settings& built_in) {
  const auto help = std::string(k.meaning) + "\n" + allowed(k) + "; default " + value_text(k, built_in);
  app.add_option(std::string(k.option), given.keys[&k], help)->option_text(std::string(k.metavar));
}

void add_keys(CLI::App& app, words& given, std::string_view table, const std::string& group, const settings& built_in) {
  for (const auto& k : keys()) {
    if (k.table != table) continue;
    add_key(app, given, k, built_in);
    app.get_option(std::string(k.option))->group(group);
  }
}

void add_option(CLI::App& app, std::string& word, const char* name, const char* metavar, const char* group,
                const std::string& help) {
  app.add_option(name, word, help)->option_text(metavar)->group(group);
}

void add_demo(CLI::App& app, words& given, const settings& built_in) {
  auto* demo = app.add_subcommand("demo", "Migrate memory that a CPU and a device keep dirtying, and compare both sides");
  demo->fallthrough();
  demo->footer(std::string(demo_footer));
  add_keys(*demo, given, "demo", "The guest", built_in);
  add_keys(*demo, given, "migration", "The migration", built_in);
  add_option(*demo, given.role, "--role", "ROLE", "Two machines",
             "both halves, in two processes of its own, or the one half here\nboth, source or destination; default both");
  add_option(*demo, given.device, "--device", "NAME", "The host's VFIO, with --kernel linux",
             "test device, by its name\ndefault " + given.device);
  demo->add_flag("--json", given.json, "JSON, one object a line, instead of the view for a person")
      ->disable_flag_override()
      ->group("Output");
  add_option(*demo, given.inject, "--inject", "FAULT", "Output",
             "spoil the run, which must fail then\nflip-byte: one byte at the destination, before the comparison");
  demo->set_help_flag("-h,--help", "print this help")->group("Output");
}

void add_doctor(CLI::App& app, words& given) {
  auto* doctor = app.add_subcommand("doctor", "Say what this host offers, and how to mend what is missing");
  doctor->fallthrough();
  doctor->footer(std::string(doctor_footer));
  doctor->add_flag("--json", given.json, "one JSON object")->disable_flag_override();
  doctor->add_flag("--all", given.all, "also how to change what is no fault, such as handing a device of the host to VFIO")
      ->disable_flag_override();
  doctor->set_help_flag("-h,--help", "print this help");
}

void add_devices(CLI::App& app, words& given) {
  auto* devices = app.add_subcommand("devices", "List the VFIO devices of this host, and who has them");
  devices->fallthrough();
  devices->footer(std::string(devices_footer));
  devices->add_flag("--json", given.json, "one JSON object")->disable_flag_override();
  devices->add_flag("--all", given.all, "also devices that could be given to VFIO, and the others of their groups")
      ->disable_flag_override();
  devices->set_help_flag("-h,--help", "print this help");
}

void describe(CLI::App& app, words& given, const settings& built_in) {
  app.name("tidemark");
  app.get_formatter()->column_width(28);
  app.require_subcommand(1);
  app.footer(std::string(main_footer));
  app.set_help_flag("-h,--help", "print this help; each command has its own: tidemark demo --help");
  app.set_version_flag("--version", "tidemark " TIDEMARK_VERSION, "print the version");
  app.add_option("--config", given.config_file, "read settings from this file (TOML, as config/tidemark.toml)")
      ->option_text("FILE");
  add_keys(app, given, "log", "Options", built_in);
  add_demo(app, given, built_in);
  add_devices(app, given);
  add_doctor(app, given);
}

answer refused(const std::string& line) { return {exit_refused, {}, "tidemark: " + line}; }

const CLI::App* chosen_command(const CLI::App& app) {
  const auto used = app.get_subcommands();
  return used.empty() ? nullptr : used.front();
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
  return "unknown command " + in_quotes(word) + "; use demo, devices or doctor";
}

/// One line for what CLI11 could not take apart, with where to look.
answer explain(const CLI::App& app, const CLI::ParseError& failure, std::span<const char* const> line) {
  const auto* sub = chosen_command(app);
  const std::string help = "; see: tidemark " + (sub ? sub->get_name() + " " : std::string()) + "--help";
  const auto unknown = app.remaining(true);
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&failure)) return refused(explain_values(failure.what()) + help);
  if (!unknown.empty()) {
    const auto at = std::find(line.begin(), line.end(), unknown.front());
    const bool inside_command = sub && std::find(line.begin(), at, sub->get_name()) != at;
    return refused(explain_unknown(unknown.front(), inside_command) + help);
  }
  if (!sub) return refused("no command given; use demo, devices or doctor" + help);
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

result<settings> merge(settings chosen, const CLI::App& app, const CLI::App& sub, const words& given) {
  if (app.count("--config") != 0) {
    if (auto done = override_from(chosen, given.config_file); !done) return done.error();
  }
  for (const auto& k : keys()) {
    const std::string option(k.option);
    const auto* global = app.get_option_no_throw(option);
    const auto* local = sub.get_option_no_throw(option);
    if (!(global && global->count() != 0) && !(local && local->count() != 0)) continue;
    if (auto done = override_from_option(chosen, k, given.keys.at(&k)); !done) return done.error();
  }
  if (auto done = check(chosen); !done) return done.error();
  return chosen;
}

result<demo_role> role_of(const std::string& text) {
  const auto found = std::find(role_words.begin(), role_words.end(), text);
  if (found != role_words.end()) return static_cast<demo_role>(found - role_words.begin());
  return refusal("--role: " + in_quotes(text) + " is not known; allowed: both, source or destination");
}

result<void> check_role(const demo_request& request) {
  if (request.role == demo_role::source && parse_endpoint(request.address)->port == 0) {
    return refusal("--role source: where is the destination? add --address HOST:PORT, as the destination printed it");
  }
  if (request.role == demo_role::source && request.flip_byte) {
    return refusal("--inject: flip-byte happens at the destination; give it there");
  }
  return {};
}

result<demo_request> demo_of(const CLI::App& sub, const words& given, settings chosen) {
  demo_request request;
  const auto role = role_of(given.role);
  if (!role) return role.error();
  if (sub.count("--inject") != 0 && given.inject != "flip-byte") {
    return refusal("--inject: " + in_quotes(given.inject) + " is not known; allowed: flip-byte");
  }
  // The demo rings the device's doorbell by writing to its file; written to any other device, that would land in its
  // registers.
  if (!given.device.starts_with(TIDEMARK_TEST_DEVICE_NAME "."))
    return refusal("--device: " + in_quotes(given.device) +
                   " is no test device; allowed: " TIDEMARK_TEST_DEVICE_NAME ".0 and so on");
  request.role = *role;
  request.json = given.json;
  request.flip_byte = sub.count("--inject") != 0;
  request.address = chosen.address;
  request.device = given.device;
  request.config = std::move(chosen);
  if (auto done = check_role(request); !done) return done.error();
  return request;
}

}  // namespace

parsed parse_command_line(int argc, const char* const* argv) {
  const auto built_in = defaults();
  if (!built_in) return refused(built_in.error().detail);

  words given;
  CLI::App app{std::string(main_description)};
  describe(app, given, *built_in);
  if (auto only = take_apart(app, argc, argv)) return *only;

  const auto& sub = *chosen_command(app);
  auto chosen = merge(*built_in, app, sub, given);
  if (!chosen) return refused(chosen.error().detail);
  if (sub.get_name() == "devices") return devices_request{given.json, given.all};
  if (sub.get_name() == "doctor") return doctor_request{given.json, given.all};
  auto request = demo_of(sub, given, std::move(*chosen));
  if (!request) return refused(request.error().detail);
  return std::move(*request);
}

}  // namespace tidemark::cli
