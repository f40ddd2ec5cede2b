// SPDX-License-Identifier: Apache-2.0

#include "cli/options.hpp"

#include <algorithm>
#include <array>
#include <bit>
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
#include "cli/migration_request.hpp"
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
  std::string bench_device;
  std::string pattern = "all";
  std::string svg;
  migration_words migration;
  bool table = false;
  bool json = false;
  bool all = false;
};

constexpr std::string_view model_device = "0000:00:04.0";
constexpr std::array all_patterns{map_pattern::regions, map_pattern::viommu,     map_pattern::viommu_depth1,
                                  map_pattern::burst,   map_pattern::burst_each, map_pattern::churn};
constexpr std::string_view stall_word = "stall";
constexpr std::string_view planner_word = "planner";

std::string pattern_list() {
  std::string list;
  for (const auto which : all_patterns) list.append(name_of(which)).append(", ");
  return list.append(stall_word).append(" or ").append(planner_word);
}

constexpr std::array<std::string_view, 3> role_words{"both", "source", "destination"};

void add_key(CLI::App& app, words& given, const key& k, const settings& built_in) {
  const auto help = std::string(k.meaning) + "\n" + allowed(k) + "; default " + value_text(k, built_in);
  app.add_option(std::string(k.option), given.keys[&k], help)->option_text(std::string(k.metavar));
}

void add_keys(CLI::App& app, words& given, std::string_view table, const std::string& group, const settings& built_in,
              std::initializer_list<std::string_view> but = {}) {
  for (const auto& k : keys()) {
    if (k.table != table || std::find(but.begin(), but.end(), k.name) != but.end()) continue;
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
  add_keys(*demo, given, "migration", "The migration", built_in, {"bandwidth"});  // it has one of its own
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

void add_migration_peer(CLI::App& app, words& given, const char* metavar, const std::string& help) {
  app.add_option("address", given.migration.address, help)->option_text(metavar)->required()->group("Where");
  app.add_flag("--plain", given.migration.plain,
               "over tcp: without TLS: everybody on the way may read and change the guest's memory")
      ->disable_flag_override()
      ->group("Who");
  app.add_flag("--json", given.json, "JSON, one object a line, instead of the view for a person")
      ->disable_flag_override()
      ->group("Output");
  app.set_help_flag("-h,--help", "print this help")->group("Output");
}

void add_kernel(CLI::App& app, words& given, const settings& built_in) {
  const auto& k = *find_key("demo", "kernel");
  add_key(app, given, k, built_in);
  app.get_option(std::string(k.option))->group("The guest");
}

void add_migrate(CLI::App& app, words& given, const settings& built_in) {
  auto* migrate = app.add_subcommand("migrate", "Send a guest away: to another host or process, or into a file");
  migrate->fallthrough();
  migrate->footer(std::string(migrate_footer));
  add_migration_peer(*migrate, given, "TO", "tcp:HOST:PORT, unix:PATH, file:PATH or fd:PATH");
  add_keys(*migrate, given, "identity", "Who", built_in);
  migrate
      ->add_option("--ram", given.migration.ram,
                   "file that is a RAM block, as /dev/shm has them; more than one: the next block")
      ->option_text("FILE")
      ->group("The guest");
  add_keys(*migrate, given, "guest", "The guest", built_in);
  add_kernel(*migrate, given, built_in);
  add_option(*migrate, given.migration.device, "--device", "NAME", "The guest",
             "give it a test device of this name, whose state moves, too");
  add_keys(*migrate, given, "migration", "The migration", built_in);
  add_option(*migrate, given.migration.report, "--report", "FILE", "Output", "also make a page to look at of it: HTML");
}

void add_receive(CLI::App& app, words& given, const settings& built_in) {
  auto* receive = app.add_subcommand("receive", "Take a guest in: from another host or process, or out of a file");
  receive->fallthrough();
  receive->footer(std::string(receive_footer));
  add_migration_peer(*receive, given, "AT", "tcp:HOST:PORT (port 0: a free one), unix:PATH, file:PATH or fd:PATH");
  add_keys(*receive, given, "identity", "Who", built_in, {"peer_name"});
  receive->add_option("--ram", given.migration.ram, "file that becomes a RAM block; more than one: the next block")
      ->option_text("FILE")
      ->group("The guest");
  add_kernel(*receive, given, built_in);
  add_option(*receive, given.migration.device, "--device", "NAME", "The guest",
             "the test device of this name takes the state of the source's");
}

void add_map_bench(CLI::App& app, words& given, const settings& built_in) {
  auto* map = app.add_subcommand("map", "Measure maps and unmaps, beside a plain loop of the same ioctls");
  map->fallthrough();
  map->footer(std::string(map_bench_footer));
  add_keys(*map, given, "bench", "What is mapped", built_in);
  add_option(*map, given.pattern, "--pattern", "LIST", "What is mapped",
             "patterns to measure, with commas between them, or all\n" + pattern_list() + "; default " + given.pattern);
  add_option(*map, given.bench_device, "--device", "DEVICE", "What is mapped",
             "device whose group is used: a PCI address, or a path in sysfs\nneeded with --kernel linux; default " +
                 std::string(model_device) + " of the model");
  map->add_flag("--json", given.json, "one JSON object instead of the table")->disable_flag_override()->group("Output");
  map->add_flag("--table", given.table, "the table, even with --json: before it")->disable_flag_override()->group("Output");
  add_option(*map, given.svg, "--svg", "FILE", "Output", "also draw a picture of it into this file");
  map->set_help_flag("-h,--help", "print this help")->group("Output");
}

void add_bench(CLI::App& app, words& given, const settings& built_in) {
  auto* bench = app.add_subcommand("bench", "Measure how fast things are here: tidemark bench map");
  bench->fallthrough();
  bench->footer(std::string(bench_footer));
  bench->require_subcommand(1);
  bench->set_help_flag("-h,--help", "print this help");
  add_map_bench(*bench, given, built_in);
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
  add_migrate(app, given, built_in);
  add_receive(app, given, built_in);
  add_bench(app, given, built_in);
  add_devices(app, given);
  add_doctor(app, given);
}

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

/// Two commands may have an option of the same name, each for a key of its own.
bool takes(const CLI::App& command, const key& k) {
  if (k.table == "log") return true;
  if (k.table == "bench") return command.get_name() == "map";
  if (k.table == "demo" && k.name == "kernel")
    return command.get_name() == "demo" || command.get_name() == "migrate" || command.get_name() == "receive";
  if (k.table == "demo") return command.get_name() == "demo";
  if (k.table == "guest") return command.get_name() == "migrate";
  if (k.table == "identity") return command.get_name() == "migrate" || command.get_name() == "receive";
  return command.get_name() == "migrate" || (command.get_name() == "demo" && k.name != "bandwidth");
}

result<settings> merge(settings chosen, const CLI::App& app, const CLI::App& sub, const words& given) {
  if (app.count("--config") != 0) {
    if (auto done = override_from(chosen, given.config_file); !done) return done.error();
  }
  for (const auto& k : keys()) {
    if (!takes(sub, k)) continue;
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

/// Takes one word of --pattern into the request.
result<void> add_pattern(map_bench_request& request, const std::string& word) {
  const auto found =
      std::find_if(all_patterns.begin(), all_patterns.end(), [&](auto which) { return name_of(which) == word; });
  if (found != all_patterns.end()) {
    request.patterns.push_back(*found);
  } else if (word == stall_word) {
    request.stall = true;
  } else if (word == planner_word) {
    request.planner = true;
  } else {
    return refusal("--pattern: " + in_quotes(word) + " is not known; allowed: all, " + pattern_list());
  }
  return {};
}

result<void> choose_patterns(map_bench_request& request, const std::string& list) {
  if (list == "all") {
    request.patterns.assign(all_patterns.begin(), all_patterns.end());
    return {};
  }
  request.stall = request.planner = false;
  std::istringstream words(list + ",");
  for (std::string word; std::getline(words, word, ',');) {
    if (auto done = add_pattern(request, word); !done) return done;
  }
  return {};
}

result<void> check_sizes(const settings& chosen) {
  if (!std::has_single_bit(chosen.bench_map_bytes))
    return refusal("--map-size: " + size_text(chosen.bench_map_bytes) + " is no power of two");
  return {};
}

result<map_bench_request> map_bench_of(const CLI::App& sub, const words& given, settings chosen) {
  map_bench_request request;
  if (auto done = choose_patterns(request, given.pattern); !done) return done.error();
  if (auto done = check_sizes(chosen); !done) return done.error();
  const bool has_device = sub.count("--device") != 0;
  if (chosen.bench_kernel == kernel_choice::host && !has_device)
    return refusal("--kernel linux: which device? add --device, as 'tidemark devices' lists them");
  if (sub.count("--svg") != 0 && given.svg.empty()) return refusal("--svg: which file?");
  request.device = has_device ? given.bench_device : std::string(model_device);
  request.json = given.json;
  request.table = given.table || !given.json;
  request.svg = given.svg;
  request.config = std::move(chosen);
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
  if (sub.get_name() == "map") {
    auto bench = map_bench_of(sub, given, std::move(*chosen));
    if (!bench) return refused(bench.error().detail);
    return std::move(*bench);
  }
  if (sub.get_name() == "migrate") {
    auto migrate = migrate_of(given.migration, given.json, std::move(*chosen));
    if (!migrate) return refused(migrate.error().detail);
    return std::move(*migrate);
  }
  if (sub.get_name() == "receive") {
    auto receive = receive_of(given.migration, given.json, std::move(*chosen));
    if (!receive) return refused(receive.error().detail);
    return std::move(*receive);
  }
  auto request = demo_of(sub, given, std::move(*chosen));
  if (!request) return refused(request.error().detail);
  return std::move(*request);
}

}  // namespace tidemark::cli
