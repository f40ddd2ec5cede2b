// SPDX-License-Identifier: Apache-2.0

#include "cli/commands.hpp"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/options_help.hpp"

namespace tidemark::cli {
namespace {

/// A key of the configuration that an option of the command sets.
struct taken_key {
  std::string_view table;
  std::string_view but = {};  ///< all keys of the table but this one
};

bool is_of(const taken_key& taken, const key& k) { return taken.table == k.table && taken.but != k.name; }

constexpr std::string_view where_group = "Where";
constexpr std::string_view who_group = "Who";
constexpr std::string_view guest_group = "The guest";
constexpr std::string_view migration_group = "The migration";
constexpr std::string_view output_group = "Output";

constexpr taken_key demo_migration{"migration", "bandwidth"};   // it has one of its own
constexpr taken_key receive_identity{"identity", "peer_name"};  // who connects has no name that could be known before

void add_key(CLI::App& app, command_words& given, const key& k, std::string_view group, const settings& built_in) {
  const auto help = std::string(k.meaning) + "\n" + allowed(k) + "; default " + value_text(k, built_in);
  app.add_option(std::string(k.option), given.keys[&k], help)
      ->option_text(std::string(k.metavar))
      ->group(std::string(group));
}

void add_keys(CLI::App& app, command_words& given, const taken_key& which, std::string_view group,
              const settings& built_in) {
  for (const auto& k : keys())
    if (is_of(which, k)) add_key(app, given, k, group, built_in);
}

template <class Word>
void add_option(CLI::App& app, Word& word, const char* name, const char* metavar, std::string_view group,
                const std::string& help) {
  app.add_option(name, word, help)->option_text(metavar)->group(std::string(group));
}

void add_flag(CLI::App& app, bool& flag, const char* name, std::string_view group, const std::string& help) {
  app.add_flag(name, flag, help)->disable_flag_override()->group(std::string(group));
}

void add_help(CLI::App& app, std::string_view group) {
  app.set_help_flag("-h,--help", "print this help")->group(std::string(group));
}

CLI::App& add_command(CLI::App& app, const char* name, const char* what, std::string_view footer) {
  auto* command = app.add_subcommand(name, what);
  command->fallthrough();
  command->footer(std::string(footer));
  return *command;
}

void add_demo(CLI::App& app, command_words& given, const settings& built_in) {
  auto& demo =
      add_command(app, "demo", "Migrate memory that a CPU and a device keep dirtying, and compare both sides", demo_footer);
  add_keys(demo, given, {"demo"}, guest_group, built_in);
  add_keys(demo, given, demo_migration, migration_group, built_in);
  add_option(demo, given.demo.role, "--role", "ROLE", "Two terminals",
             "both halves, in two processes of its own, or the one half here\nboth, source or destination; default both");
  add_option(demo, given.demo.device, "--device", "NAME", "The host's VFIO, with --kernel linux",
             "test device, by its name\ndefault " + given.demo.device);
  add_flag(demo, given.json, "--json", output_group, "JSON, one object a line, instead of the view for a person");
  add_option(demo, given.demo.inject, "--inject", "FAULT", output_group,
             "spoil the run, which must fail then\nflip-byte: one byte at the destination, before the comparison");
  add_help(demo, output_group);
}

void add_address(CLI::App& app, command_words& given, const char* name, const std::string& help) {
  app.add_option(name, given.migration.address, help)->option_text(" ")->required()->group(std::string(where_group));
}

void add_identity(CLI::App& app, command_words& given, const taken_key& which, const settings& built_in) {
  add_keys(app, given, which, who_group, built_in);
  add_flag(app, given.migration.plain, "--plain", who_group,
           "without TLS: everybody on the way may read and change the guest's memory");
}

/// What both sides have a word in: the device, and whose VFIO it is of.
void add_device(CLI::App& app, command_words& given, const settings& built_in, const std::string& help) {
  add_option(app, given.migration.device, "--device", "NAME", guest_group, help);
  add_key(app, given, *find_key("demo", "kernel"), guest_group, built_in);
}

void add_migrate(CLI::App& app, command_words& given, const settings& built_in) {
  auto& migrate =
      add_command(app, "migrate", "Send a guest away: to another host or process, or into a file", migrate_footer);
  add_address(migrate, given, "TO", "tcp:HOST:PORT, unix:PATH, fd:PATH, or file:PATH for a snapshot");
  add_identity(migrate, given, {"identity"}, built_in);
  add_option(migrate, given.migration.ram, "--ram", "FILE", guest_group,
             "file that is a RAM block, as /dev/shm has them; more than one: the next block");
  add_keys(migrate, given, {"guest"}, guest_group, built_in);
  add_device(migrate, given, built_in, "give it a test device of this name, whose state goes along");
  add_keys(migrate, given, {"migration"}, migration_group, built_in);
  add_flag(migrate, given.json, "--json", output_group, "JSON, one object a line, instead of the view for a person");
  add_option(migrate, given.migration.report, "--report", "FILE", output_group, "also make a page to look at of it: HTML");
  add_help(migrate, output_group);
}

void add_receive(CLI::App& app, command_words& given, const settings& built_in) {
  auto& receive =
      add_command(app, "receive", "Take a guest in: from another host or process, or out of a file", receive_footer);
  add_address(receive, given, "AT", "tcp:HOST:PORT (port 0: a free one), unix:PATH, fd:PATH, or file:PATH of a snapshot");
  add_identity(receive, given, receive_identity, built_in);
  add_option(receive, given.migration.ram, "--ram", "FILE", guest_group,
             "file that becomes a RAM block, of its size; more than one: the next block");
  add_device(receive, given, built_in, "the test device of this name takes the state of the source's");
  add_flag(receive, given.json, "--json", output_group, "JSON, one object a line, instead of lines for a person");
  add_help(receive, output_group);
}

void add_map_bench(CLI::App& app, command_words& given, const settings& built_in) {
  auto& map = add_command(app, "map", "Measure maps and unmaps, beside a plain loop of the same ioctls", map_bench_footer);
  constexpr std::string_view mapped_group = "What is mapped";
  auto& words = given.map_bench;
  add_keys(map, given, {"bench"}, mapped_group, built_in);
  add_option(map, words.pattern, "--pattern", "LIST", mapped_group,
             "patterns to measure, with commas between them, or all\n" + map_pattern_list() + "; default " + words.pattern);
  add_option(map, words.device, "--device", "DEVICE", mapped_group,
             "device whose group is used: a PCI address, or a path in sysfs\nneeded with --kernel linux; default " +
                 std::string(map_bench_model_device) + " of the model");
  add_flag(map, given.json, "--json", output_group, "one JSON object instead of the table");
  add_flag(map, words.table, "--table", output_group, "the table, even with --json: before it");
  add_option(map, words.svg, "--svg", "FILE", output_group, "also draw a picture of it into this file");
  add_help(map, output_group);
}

void add_bench(CLI::App& app, command_words& given, const settings& built_in) {
  auto& bench = add_command(app, "bench", "Measure how fast things are here: tidemark bench map", bench_footer);
  bench.require_subcommand(1);
  bench.set_help_flag("-h,--help", "print this help");
  add_map_bench(bench, given, built_in);
}

void add_doctor(CLI::App& app, command_words& given) {
  auto& doctor = add_command(app, "doctor", "Say what this host offers, and how to mend what is missing", doctor_footer);
  add_flag(doctor, given.json, "--json", "Options", "one JSON object");
  add_flag(doctor, given.all, "--all", "Options",
           "also how to change what is no fault, such as handing a device of the host to VFIO");
  add_help(doctor, "Options");
}

void add_devices(CLI::App& app, command_words& given) {
  auto& devices = add_command(app, "devices", "List the VFIO devices of this host, and who has them", devices_footer);
  add_flag(devices, given.json, "--json", "Options", "one JSON object");
  add_flag(devices, given.all, "--all", "Options",
           "also devices that could be given to VFIO, and the others of their groups");
  add_help(devices, "Options");
}

}  // namespace

void describe_commands(CLI::App& app, command_words& given, const settings& built_in) {
  app.name("tidemark");
  app.get_formatter()->column_width(28);
  app.get_formatter()->label("Positionals", std::string(where_group));
  app.require_subcommand(1);
  app.footer(std::string(main_footer));
  app.set_help_flag("-h,--help", "print this help; each command has its own: tidemark demo --help");
  app.set_version_flag("--version", "tidemark " TIDEMARK_VERSION, "print the version");
  app.add_option("--config", given.config_file, "read settings from this file (TOML, as config/tidemark.toml)")
      ->option_text("FILE");
  add_keys(app, given, {"log"}, "Options", built_in);
  add_demo(app, given, built_in);
  add_migrate(app, given, built_in);
  add_receive(app, given, built_in);
  add_bench(app, given, built_in);
  add_devices(app, given);
  add_doctor(app, given);
}

bool has_key(const std::string& command, const key& k) {
  if (k.table == "log") return true;
  if (command == "map") return k.table == "bench";
  if (command == "demo") return k.table == "demo" || is_of(demo_migration, k);
  const bool of_both_sides = k.table == "demo" && k.name == "kernel";
  if (command == "migrate") return of_both_sides || k.table == "guest" || k.table == "identity" || k.table == "migration";
  if (command == "receive") return of_both_sides || is_of(receive_identity, k);
  return false;
}

}  // namespace tidemark::cli
