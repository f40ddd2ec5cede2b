// SPDX-License-Identifier: Apache-2.0

#include "cli/options.hpp"

#include <boost/test/unit_test.hpp>

#include <initializer_list>
#include <vector>

#include "cli/keys.hpp"
#include "cli/temporary_tree.hpp"

using namespace tidemark::cli;

namespace {

parsed parse(std::initializer_list<const char*> words) {
  std::vector<const char*> line{"tidemark"};
  line.insert(line.end(), words);
  return parse_command_line(static_cast<int>(line.size()), line.data());
}

demo_request demo(std::initializer_list<const char*> words) {
  const auto request = parse(words);
  if (const auto* only = std::get_if<answer>(&request)) BOOST_ERROR(only->err);
  return std::get<demo_request>(request);
}

map_bench_request map_bench(std::initializer_list<const char*> words) {
  const auto request = parse(words);
  if (const auto* only = std::get_if<answer>(&request)) BOOST_ERROR(only->err);
  return std::get<map_bench_request>(request);
}

/// The line that refuses these words, without "tidemark: ".
std::string refused(std::initializer_list<const char*> words) {
  const auto only = std::get<answer>(parse(words));
  BOOST_TEST(only.status == 2);
  BOOST_TEST(only.out == "");
  BOOST_TEST(only.err.starts_with("tidemark: "), only.err);
  BOOST_TEST(only.err.find('\n') == std::string::npos, only.err);
  return only.err.substr(10);
}

std::string printed(std::initializer_list<const char*> words) {
  const auto only = std::get<answer>(parse(words));
  BOOST_TEST(only.status == 0);
  BOOST_TEST(only.err == "");
  return only.out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(options)

BOOST_AUTO_TEST_CASE(demo_has_the_defaults) {
  const auto request = demo({"demo"});
  BOOST_TEST(request.config.memory_bytes == 1ull << 30);
  BOOST_TEST((request.role == demo_role::both));
  BOOST_TEST(!request.json);
  BOOST_TEST(!request.flip_byte);
  BOOST_TEST(request.address == "127.0.0.1:0");
  BOOST_TEST(request.device == "tidemark-test.0");
}

BOOST_AUTO_TEST_CASE(every_option_arrives) {
  const auto request = demo({"demo",        "--memory",
                             "4GiB",        "--blocks",
                             "8",           "--cpu-rate",
                             "1M",          "--device-rate",
                             "2M",          "--region-changes",
                             "7",           "--kernel",
                             "linux",       "--seed",
                             "42",          "--downtime-ms",
                             "50",          "--bandwidth",
                             "unlimited",   "--rounds-max",
                             "3",           "--batch-pages",
                             "64",          "--json",
                             "--role",      "destination",
                             "--address",   "[::1]:7000",
                             "--device",    "tidemark-test.1",
                             "--inject",    "flip-byte",
                             "--log-level", "debug"});
  BOOST_TEST(request.config.memory_bytes == 4ull << 30);
  BOOST_TEST(request.config.blocks == 8u);
  BOOST_TEST(request.config.cpu_rate_bytes == 1ull << 20);
  BOOST_TEST(request.config.device_rate_bytes == 2ull << 20);
  BOOST_TEST(request.config.region_changes_per_second == 7u);
  BOOST_TEST((request.config.kernel == kernel_choice::host));
  BOOST_TEST(request.config.seed == 42u);
  BOOST_TEST(request.config.downtime_ms == 50u);
  BOOST_TEST(!request.config.bandwidth_bytes.has_value());
  BOOST_TEST(request.config.rounds_max == 3u);
  BOOST_TEST(request.config.batch_pages == 64u);
  BOOST_TEST((request.config.level == log_level::debug));
  BOOST_TEST(request.json);
  BOOST_TEST((request.role == demo_role::destination));
  BOOST_TEST(request.address == "[::1]:7000");
  BOOST_TEST(request.device == "tidemark-test.1");
  BOOST_TEST(request.flip_byte);
}

BOOST_AUTO_TEST_CASE(options_override_the_file_and_the_file_the_defaults) {
  test::temporary_tree tree;
  const auto path = tree.file("/f.toml", "[demo]\nblocks = 2\nseed = 9\n");
  for (const auto& request : {demo({"--config", path.c_str(), "demo", "--blocks", "16"}),
                              demo({"demo", "--blocks=16", "--config", path.c_str()})}) {
    BOOST_TEST(request.config.blocks == 16u);
    BOOST_TEST(request.config.seed == 9u);
    BOOST_TEST(request.config.rounds_max == 30u);
  }
}

BOOST_AUTO_TEST_CASE(a_wrong_file_is_refused_for_every_command) {
  test::temporary_tree tree;
  const auto path = tree.file("/f.toml", "[demo]\nblokcs = 2\n");
  for (const auto* command : {"demo", "devices", "doctor"}) {
    BOOST_TEST(refused({command, "--config", path.c_str()}).starts_with(path + ":2:1: unknown key \"blokcs\" in [demo]"));
  }
}

BOOST_AUTO_TEST_CASE(doctor_has_its_options) {
  BOOST_TEST(!std::get<doctor_request>(parse({"doctor"})).json);
  BOOST_TEST(std::get<doctor_request>(parse({"doctor", "--json"})).json);
  BOOST_TEST(std::get<doctor_request>(parse({"doctor", "--all"})).all);
}

BOOST_AUTO_TEST_CASE(devices_has_its_options) {
  BOOST_TEST(!std::get<devices_request>(parse({"devices"})).json);
  BOOST_TEST(!std::get<devices_request>(parse({"devices"})).all);
  BOOST_TEST(std::get<devices_request>(parse({"devices", "--json"})).json);
  BOOST_TEST(std::get<devices_request>(parse({"devices", "--all"})).all);
}

BOOST_AUTO_TEST_CASE(bench_map_measures_all_of_it_on_the_model) {
  const auto request = map_bench({"bench", "map"});
  BOOST_TEST((request.config.bench_kernel == kernel_choice::model));
  BOOST_TEST(request.device == "0000:00:04.0");
  BOOST_TEST(request.patterns.size() == 6u);
  BOOST_TEST(request.stall);
  BOOST_TEST(request.planner);
  BOOST_TEST(request.table);
  BOOST_TEST(!request.json);
  BOOST_TEST(request.svg == "");
}

BOOST_AUTO_TEST_CASE(every_option_of_bench_map_arrives) {
  const auto request = map_bench(
      {"bench",  "map",      "--kernel", "linux",      "--device", "01:00.0",     "--pattern",   "burst,stall",  "--pages",
       "thp",    "--memory", "64MiB",    "--map-size", "64KiB",    "--in-flight", "7",           "--operations", "100",
       "--held", "5000",     "--json",   "--table",    "--svg",    "map.svg",     "--log-level", "debug"});
  BOOST_TEST((request.config.bench_kernel == kernel_choice::host));
  BOOST_TEST(request.device == "01:00.0");
  BOOST_TEST((request.patterns == std::vector{map_pattern::burst}));
  BOOST_TEST(request.stall);
  BOOST_TEST(!request.planner);
  BOOST_TEST((request.config.bench_pages == page_kind::thp));
  BOOST_TEST(request.config.bench_memory_bytes == 64u << 20);
  BOOST_TEST(request.config.bench_map_bytes == 64u << 10);
  BOOST_TEST(request.config.bench_in_flight == 7u);
  BOOST_TEST(request.config.bench_operations == 100u);
  BOOST_TEST(request.config.bench_held == 5000u);
  BOOST_TEST((request.config.level == log_level::debug));
  BOOST_TEST(request.json);
  BOOST_TEST(request.table);
  BOOST_TEST(request.svg == "map.svg");
  BOOST_TEST(!map_bench({"bench", "map", "--json"}).table);
}

BOOST_AUTO_TEST_CASE(an_option_of_one_command_is_nothing_to_another) {
  BOOST_TEST(map_bench({"bench", "map", "--memory", "64MiB"}).config.memory_bytes == 1ull << 30);
  BOOST_TEST(demo({"demo", "--memory", "64MiB"}).config.bench_memory_bytes == 1ull << 30);
}

BOOST_AUTO_TEST_CASE(help_names_every_option_with_its_range_and_default) {
  const auto help = printed({"--help"}) + printed({"demo", "--help"}) + printed({"bench", "map", "--help"});
  const auto built_in = defaults().value();
  for (const auto& k : keys()) {
    BOOST_TEST(help.find(std::string(k.option) + " " + std::string(k.metavar)) != std::string::npos, k.option);
    BOOST_TEST(help.find(allowed(k) + "; default " + value_text(k, built_in)) != std::string::npos, k.option);
  }
  for (const auto* option : {"--role", "--device", "--json", "--inject", "--config", "--version", "--pattern", "--table",
                             "--svg", "demo", "bench", "devices", "doctor"}) {
    BOOST_TEST(help.find(option) != std::string::npos, option);
  }
  for (const auto* command : {"doctor", "devices"})
    BOOST_TEST(printed({command, "--help"}).find("--all") != std::string::npos, command);
  BOOST_TEST(printed({"--version"}).starts_with("tidemark 0."));
}

BOOST_AUTO_TEST_CASE(words_that_make_no_sense_are_refused) {
  BOOST_TEST(refused({}) == "no command given; use demo, bench, devices or doctor; see: tidemark --help");
  BOOST_TEST(refused({"dmeo"}) == "unknown command \"dmeo\"; use demo, bench, devices or doctor; see: tidemark --help");
  BOOST_TEST(refused({"demo", "--memroy", "1G"}) == "unknown option \"--memroy\"; see: tidemark demo --help");
  BOOST_TEST(refused({"--memory", "1G", "demo"}) ==
             "unknown option \"--memory\"; a command's options follow its name; see: tidemark demo --help");
  BOOST_TEST(refused({"devices", "--memory", "1G"}) == "unknown option \"--memory\"; see: tidemark devices --help");
  BOOST_TEST(refused({"devices", "--all=no"}) == "--all takes no value; see: tidemark devices --help");
  BOOST_TEST(refused({"bench"}) == "nothing to measure given; use bench map; see: tidemark bench --help");
  BOOST_TEST(refused({"bench", "mop"}) == "unexpected argument \"mop\"; see: tidemark bench --help");
  BOOST_TEST(refused({"bench", "map", "--mop"}) == "unknown option \"--mop\"; see: tidemark bench map --help");
  BOOST_TEST(refused({"bench", "map", "--svg"}) == "--svg needs a value; see: tidemark bench map --help");
  BOOST_TEST(refused({"demo", "now"}) == "unexpected argument \"now\"; see: tidemark demo --help");
  BOOST_TEST(refused({"demo", "doctor"}) == "unexpected argument \"doctor\"; see: tidemark demo --help");
  BOOST_TEST(refused({"demo", "--memory"}) == "--memory needs a value; see: tidemark demo --help");
  BOOST_TEST(refused({"demo", "--json=no"}) == "--json takes no value; see: tidemark demo --help");
  BOOST_TEST(refused({"demo", "--seed", "1", "--seed", "2"}) == "--seed is given more than once; see: tidemark demo --help");
}

BOOST_AUTO_TEST_CASE(bad_values_are_refused) {
  BOOST_TEST(refused({"demo", "--memory", "12Q"}).starts_with("--memory: \"12Q\" has the unknown unit \"Q\""));
  BOOST_TEST(refused({"demo", "--memory", "1000000"}).starts_with("--memory: \"1000000\" is no multiple of the page"));
  BOOST_TEST(refused({"demo", "--memory", "-5"}).starts_with("--memory: \"-5\" is no size"));
  BOOST_TEST(refused({"demo", "--memory", "1028KiB"}).starts_with("--memory: 1028KiB of memory in 4 blocks"));
  BOOST_TEST(refused({"demo", "--kernel", "windows"}) ==
             "--kernel: \"windows\" is not known; allowed: \"model\" or \"linux\"");
  BOOST_TEST(refused({"demo", "--role", "x"}) == "--role: \"x\" is not known; allowed: both, source or destination");
  BOOST_TEST(refused({"demo", "--inject", "x"}) == "--inject: \"x\" is not known; allowed: flip-byte");
  BOOST_TEST(refused({"demo", "--log-level", "loud"}).starts_with("--log-level: \"loud\" is not known"));
}

BOOST_AUTO_TEST_CASE(bad_values_of_bench_map_are_refused) {
  BOOST_TEST(refused({"bench", "map", "--memory", "5MiB"})
                 .starts_with("--memory: \"5MiB\" is no multiple of 2MiB; the nearest are 4MiB and 6MiB"));
  BOOST_TEST(refused({"bench", "map", "--map-size", "12KiB"}) == "--map-size: 12KiB is no power of two");
  BOOST_TEST(refused({"bench", "map", "--pages", "large"}) ==
             "--pages: \"large\" is not known; allowed: \"small\", \"thp\" or \"huge\"");
  BOOST_TEST(
      refused({"bench", "map", "--pattern", "burst,"}).starts_with("--pattern: \"\" is not known; allowed: all, regions"));
  BOOST_TEST(refused({"bench", "map", "--pattern", "bursts"}).starts_with("--pattern: \"bursts\" is not known"));
  BOOST_TEST(refused({"bench", "map", "--kernel", "linux"}).starts_with("--kernel linux: which device?"));
  BOOST_TEST(refused({"bench", "map", "--svg", ""}) == "--svg: which file?");
}

BOOST_AUTO_TEST_CASE(a_doorbell_is_rung_on_no_device_but_a_test_device) {
  for (const auto* device : {"0000:03:00.0", "", "tidemark-tests.0"})
    BOOST_TEST(
        refused({"demo", "--kernel", "linux", "--device", device}).find(" is no test device; allowed: tidemark-test.0") !=
        std::string::npos);
}

BOOST_AUTO_TEST_CASE(options_that_do_not_fit_together_are_refused) {
  BOOST_TEST(refused({"demo", "--role", "source"}).starts_with("--role source: where is the destination?"));
  BOOST_TEST(refused({"demo", "--role", "source", "--address", "h:1", "--inject", "flip-byte"}).starts_with("--inject: "));
}

BOOST_AUTO_TEST_SUITE_END()
