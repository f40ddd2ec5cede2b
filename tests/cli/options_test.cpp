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

migrate_request migrate(std::initializer_list<const char*> words) {
  const auto request = parse(words);
  if (const auto* only = std::get_if<answer>(&request)) BOOST_ERROR(only->err);
  return std::get<migrate_request>(request);
}

receive_request receive(std::initializer_list<const char*> words) {
  const auto request = parse(words);
  if (const auto* only = std::get_if<answer>(&request)) BOOST_ERROR(only->err);
  return std::get<receive_request>(request);
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
  const auto request = demo({"demo",
                             "--memory",
                             "4GiB",
                             "--blocks",
                             "8",
                             "--cpu-rate",
                             "1M",
                             "--device-rate",
                             "2M",
                             "--region-changes",
                             "7",
                             "--kernel",
                             "linux",
                             "--seed",
                             "42",
                             "--downtime-ms",
                             "50",
                             "--bandwidth",
                             "unlimited",
                             "--rounds-max",
                             "3",
                             "--batch-pages",
                             "64",
                             "--json",
                             "--role",
                             "destination",
                             "--address",
                             "[::1]:7000",
                             "--device",
                             "tidemark-test.1",
                             "--inject",
                             "flip-byte",
                             "--log-level",
                             "debug",
                             "--channels",
                             "2",
                             "--compression",
                             "lz4",
                             "--recovery-ms",
                             "0"});
  BOOST_TEST(request.config.memory_bytes == 4ull << 30);
  BOOST_TEST(request.config.blocks == 8u);
  BOOST_TEST(request.config.cpu_rate_bytes == 1ull << 20);
  BOOST_TEST(request.config.device_rate_bytes == 2ull << 20);
  BOOST_TEST(request.config.region_changes_per_second == 7u);
  BOOST_TEST((request.config.kernel == kernel_choice::host));
  BOOST_TEST(request.config.seed == 42u);
  BOOST_TEST(request.config.downtime_ms == 50u);
  BOOST_TEST(!request.config.demo_bandwidth_bytes.has_value());
  BOOST_TEST(request.config.channels == 2u);
  BOOST_TEST((request.config.pages == tidemark::compression::lz4));
  BOOST_TEST(request.config.recovery_ms == 0u);
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

BOOST_AUTO_TEST_CASE(migrate_and_receive_have_the_defaults) {
  const auto leaving = migrate({"migrate", "file:/tmp/snapshot"});
  BOOST_TEST(leaving.to.address == "file:/tmp/snapshot");
  BOOST_TEST(leaving.to.channels == 1u);
  BOOST_TEST(!leaving.to.plain);
  BOOST_TEST(leaving.ram.empty());
  BOOST_TEST(leaving.device == "");
  BOOST_TEST(leaving.report == "");
  BOOST_TEST(!leaving.json);
  BOOST_TEST(leaving.config.guest_memory_bytes == 1ull << 30);
  BOOST_TEST((leaving.config.kernel == kernel_choice::model));
  const auto arriving = receive({"receive", "unix:/tmp/socket"});
  BOOST_TEST(arriving.at.address == "unix:/tmp/socket");
  BOOST_TEST(arriving.ram.empty());
  BOOST_TEST(arriving.device == "");
  BOOST_TEST(!arriving.json);
}

BOOST_AUTO_TEST_CASE(every_option_of_migrate_arrives) {
  const auto request = migrate({"migrate",       "--psk",       "key",           "tcp:[::1]:7000",
                                "--memory",      "2GiB",        "--cpu-rate",    "3M",
                                "--device-rate", "4M",          "--seed",        "5",
                                "--kernel",      "linux",       "--device",      "tidemark-test.1",
                                "--downtime-ms", "6",           "--bandwidth",   "7M",
                                "--rounds-max",  "8",           "--batch-pages", "9",
                                "--channels",    "10",          "--compression", "zstd",
                                "--recovery-ms", "11",          "--json",        "--report",
                                "page.html",     "--log-level", "debug",         "--congestion-control",
                                "dctcp"});
  BOOST_TEST(request.to.address == "tcp:[::1]:7000");
  BOOST_TEST(request.to.identity.psk == "key");
  BOOST_TEST(request.to.channels == 10u);
  BOOST_TEST(request.to.congestion_control == "dctcp");
  BOOST_TEST(request.config.guest_memory_bytes == 2ull << 30);
  BOOST_TEST(request.config.guest_cpu_rate_bytes == 3u << 20);
  BOOST_TEST(request.config.guest_device_rate_bytes == 4u << 20);
  BOOST_TEST(request.config.guest_seed == 5u);
  BOOST_TEST((request.config.kernel == kernel_choice::host));
  BOOST_TEST(request.device == "tidemark-test.1");
  BOOST_TEST(request.config.downtime_ms == 6u);
  BOOST_TEST(request.config.bandwidth_bytes.value() == 7u << 20);
  BOOST_TEST(request.config.rounds_max == 8u);
  BOOST_TEST(request.config.batch_pages == 9u);
  BOOST_TEST((request.config.pages == tidemark::compression::zstd));
  BOOST_TEST(request.config.recovery_ms == 11u);
  BOOST_TEST(request.json);
  BOOST_TEST(request.report == "page.html");
  BOOST_TEST((request.config.level == log_level::debug));
}

BOOST_AUTO_TEST_CASE(who_this_side_is_arrives_at_both_sides) {
  const auto leaving = migrate(
      {"migrate", "tcp:h:1", "--tls-certificate", "c", "--tls-key", "k", "--tls-authority", "a", "--tls-peer-name", "n"});
  BOOST_TEST(leaving.to.identity.certificate == "c");
  BOOST_TEST(leaving.to.identity.key == "k");
  BOOST_TEST(leaving.to.identity.authority == "a");
  BOOST_TEST(leaving.to.identity.peer_name == "n");
  const auto arriving = receive({"receive", "tcp:h:0", "--tls-certificate", "c", "--tls-key", "k", "--tls-authority", "a"});
  BOOST_TEST(arriving.at.identity.certificate == "c");
  BOOST_TEST(arriving.at.identity.key == "k");
  BOOST_TEST(arriving.at.identity.authority == "a");
  BOOST_TEST(migrate({"migrate", "tcp:h:1", "--plain"}).to.plain);
  BOOST_TEST(receive({"receive", "tcp:h:0", "--plain"}).at.plain);
}

BOOST_AUTO_TEST_CASE(every_option_of_receive_arrives) {
  const auto request = receive({"receive", "--psk", "key", "tcp:0.0.0.0:0", "--ram", "a", "--ram", "b", "--kernel", "linux",
                                "--device", "tidemark-test.1", "--json"});
  BOOST_TEST(request.at.address == "tcp:0.0.0.0:0");
  BOOST_TEST(request.at.identity.psk == "key");
  BOOST_TEST((request.ram == std::vector<std::string>{"a", "b"}));
  BOOST_TEST((request.config.kernel == kernel_choice::host));
  BOOST_TEST(request.device == "tidemark-test.1");
  BOOST_TEST(request.json);
}

BOOST_AUTO_TEST_CASE(ram_files_are_blocks_in_their_order) {
  BOOST_TEST((migrate({"migrate", "file:s", "--ram", "a", "--ram", "b"}).ram == std::vector<std::string>{"a", "b"}));
  BOOST_TEST((migrate({"migrate", "--ram", "a", "--ram", "b", "file:s"}).ram == std::vector<std::string>{"a", "b"}));
  BOOST_TEST((migrate({"migrate", "--ram", "a", "file:s"}).to.address == "file:s"));
}

BOOST_AUTO_TEST_CASE(a_file_says_who_this_side_is_for_tcp_alone) {
  test::temporary_tree tree;
  const auto path = tree.file("/f.toml", "[identity]\npsk = \"key\"\n[guest]\nmemory = \"64MiB\"\ndevice_rate = 0\n");
  BOOST_TEST(migrate({"--config", path.c_str(), "migrate", "tcp:h:1"}).to.identity.psk == "key");
  BOOST_TEST(receive({"--config", path.c_str(), "receive", "unix:s"}).at.address == "unix:s");
  const auto files = migrate({"--config", path.c_str(), "migrate", "unix:s", "--ram", "a"});
  BOOST_TEST(files.config.guest_memory_bytes == 64u << 20);
}

BOOST_AUTO_TEST_CASE(an_option_of_one_command_is_nothing_to_another) {
  BOOST_TEST(migrate({"migrate", "file:s", "--memory", "64MiB"}).config.memory_bytes == 1ull << 30);
  BOOST_TEST(migrate({"migrate", "file:s", "--bandwidth", "1MiB"}).config.demo_bandwidth_bytes.value() == 400ull << 20);
  BOOST_TEST(!demo({"demo", "--bandwidth", "1MiB"}).config.bandwidth_bytes.has_value());
  BOOST_TEST(demo({"demo", "--memory", "64MiB"}).config.guest_memory_bytes == 1ull << 30);
  BOOST_TEST(map_bench({"bench", "map", "--memory", "64MiB"}).config.memory_bytes == 1ull << 30);
  BOOST_TEST(demo({"demo", "--memory", "64MiB"}).config.bench_memory_bytes == 1ull << 30);
}

BOOST_AUTO_TEST_CASE(help_names_every_option_with_its_range_and_default) {
  const auto help = printed({"--help"}) + printed({"demo", "--help"}) + printed({"migrate", "--help"}) +
                    printed({"receive", "--help"}) + printed({"bench", "map", "--help"});
  const auto built_in = defaults().value();
  for (const auto& k : keys()) {
    BOOST_TEST(help.find(std::string(k.option) + " " + std::string(k.metavar)) != std::string::npos, k.option);
    BOOST_TEST(help.find(allowed(k) + "; default " + value_text(k, built_in)) != std::string::npos, k.option);
  }
  for (const auto* option :
       {"--role", "--device", "--json", "--inject", "--config", "--version", "--pattern", "--table", "--svg", "--plain",
        "--ram", "--report", "demo", "migrate", "receive", "bench", "devices", "doctor"}) {
    BOOST_TEST(help.find(option) != std::string::npos, option);
  }
  for (const auto* command : {"doctor", "devices"})
    BOOST_TEST(printed({command, "--help"}).find("--all") != std::string::npos, command);
  BOOST_TEST(printed({"--version"}).starts_with("tidemark 0."));
}

BOOST_AUTO_TEST_CASE(help_of_a_migration_goes_from_where_to_what_is_printed) {
  struct expected {
    const char* command;
    const char* usage;
    std::vector<const char*> groups;
  };
  const expected both[] = {
      {"migrate",
       "tidemark migrate [OPTIONS] TO\n",
       {"\nWhere:\n  TO ", "\nWho:", "\nThe guest:", "\nThe migration:", "\nOutput:"}},
      {"receive", "tidemark receive [OPTIONS] AT\n", {"\nWhere:\n  AT ", "\nWho:", "\nThe guest:", "\nOutput:"}}};
  for (const auto& [command, usage, groups] : both) {
    const auto help = printed({command, "--help"});
    BOOST_TEST(help.find(usage) != std::string::npos, help);
    std::size_t at = 0;
    for (const auto* group : groups) {
      const auto found = help.find(group);
      BOOST_TEST((found != std::string::npos && found >= at), help);
      at = found;
    }
    BOOST_TEST(help.find("[required]") == std::string::npos, help);
    BOOST_TEST(help.find("REQUIRED") == std::string::npos, help);
  }
}

BOOST_AUTO_TEST_CASE(words_that_make_no_sense_are_refused) {
  BOOST_TEST(refused({}) == "no command given; use demo, migrate, receive, bench, devices or doctor; see: tidemark --help");
  BOOST_TEST(refused({"dmeo"}) ==
             "unknown command \"dmeo\"; use demo, migrate, receive, bench, devices or doctor; see: tidemark --help");
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

BOOST_AUTO_TEST_CASE(words_of_a_migration_that_make_no_sense_are_refused) {
  BOOST_TEST(refused({"migrate"}) ==
             "where to? give tcp:HOST:PORT, unix:PATH, fd:PATH or file:PATH; see: tidemark migrate --help");
  BOOST_TEST(refused({"receive", "--json"}) ==
             "where from? give tcp:HOST:PORT, unix:PATH, fd:PATH or file:PATH; see: tidemark receive --help");
  BOOST_TEST(refused({"migrate", "file:a", "file:b"}) == "unexpected argument \"file:b\"; see: tidemark migrate --help");
  BOOST_TEST(refused({"migrate", "file:a", "--ram"}) == "--ram needs a value; see: tidemark migrate --help");
  BOOST_TEST(refused({"migrate", "file:a", "--blocks", "2"}) == "unknown option \"--blocks\"; see: tidemark migrate --help");
  BOOST_TEST(refused({"receive", "file:a", "--channels", "2"}) ==
             "unknown option \"--channels\"; see: tidemark receive --help");
  BOOST_TEST(refused({"receive", "tcp:h:0", "--tls-peer-name", "n"}) ==
             "unknown option \"--tls-peer-name\"; see: tidemark receive --help");
}

BOOST_AUTO_TEST_CASE(bad_addresses_of_a_migration_are_refused) {
  for (const auto* address : {"host:7000", "tcp:", "file:", "http://h", "TCP:h:1"})
    BOOST_TEST(refused({"migrate", address}) ==
               "migrate: \"" + std::string(address) +
                   "\" is no address; allowed: tcp:HOST:PORT, unix:PATH, fd:PATH or file:PATH");
  for (const auto* address : {"tcp:host", "tcp::1", "tcp:h:65536", "tcp:::1:7000"}) {
    const auto line = refused({"receive", address, "--plain"});
    BOOST_TEST(line.starts_with("receive: \"" + std::string(address).substr(4) + "\" has "), line);
    BOOST_TEST(line.ends_with("; allowed: tcp:HOST:PORT, or tcp:[HOST]:PORT for IPv6"), line);
  }
  BOOST_TEST(refused({"migrate", "tcp:h:0", "--plain"}) ==
             "migrate: where is the destination? give tcp:HOST:PORT, as 'tidemark receive' printed it");
}

BOOST_AUTO_TEST_CASE(over_tcp_each_side_says_who_it_is) {
  for (const auto* command : {"migrate", "receive"}) {
    BOOST_TEST(refused({command, "tcp:h:1"}) ==
               "tcp: each side has to prove who it is: give --psk, or --tls-certificate, --tls-key and --tls-authority; or "
               "--plain, with which everybody on the way may read and change the guest's memory");
    BOOST_TEST(refused({command, "tcp:h:1", "--tls-certificate", "c", "--tls-key", "k"}) ==
               "--tls-certificate, --tls-key and --tls-authority belong together");
    BOOST_TEST(refused({command, "tcp:h:1", "--psk", "p", "--tls-key", "k"}) ==
               "--psk: either a key that both sides have, or certificates");
    BOOST_TEST(refused({command, "tcp:h:1", "--psk", "p", "--plain"}) ==
               "--plain: nobody is asked who they are then; leave it out, or the certificates and the key");
    BOOST_TEST(refused({command, "unix:s", "--plain"}) == "--plain is for tcp: only; unix:s stays on this host");
    BOOST_TEST(refused({command, "file:s", "--psk", "p"}) == "--psk is for tcp: only; file:s stays on this host");
    BOOST_TEST(refused({command, "fd:s", "--tls-key", "k"}) == "--tls-key is for tcp: only; fd:s stays on this host");
  }
}

BOOST_AUTO_TEST_CASE(a_guest_that_does_not_fit_together_is_refused) {
  BOOST_TEST(refused({"migrate", "fd:s", "--ram", "a"}) ==
             "--ram: over fd: memory files are handed over, which the guest that is made up has");
  BOOST_TEST(refused({"receive", "fd:s", "--ram", "a"}) == "--ram: over fd: the memory itself arrives");
  BOOST_TEST(refused({"migrate", "file:s", "--ram", "a", "--memory", "1GiB"}) ==
             "--memory: the RAM blocks are as large as the --ram files; leave one of them out");
  BOOST_TEST(refused({"migrate", "file:s", "--device-rate", "1MiB"}) ==
             "--device-rate: the guest has no device; add --device tidemark-test.0");
  BOOST_TEST(refused({"migrate", "file:s", "--report", ""}) == "--report: which file?");
  BOOST_TEST(
      refused({"migrate", "file:s", "--memory", "5000"}).starts_with("--memory: \"5000\" is no multiple of the page"));
  BOOST_TEST(refused({"migrate", "file:s", "--compression", "gzip"}) ==
             "--compression: \"gzip\" is not known; allowed: \"auto\", \"none\", \"lz4\" or \"zstd\"");
  BOOST_TEST(refused({"migrate", "file:s", "--channels", "0"}) ==
             "--channels: 0 is out of range; allowed: 1 to 64 channels");
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
  for (const auto* command : {"migrate", "receive"})
    for (const auto* device : {"0000:03:00.0", ""})
      BOOST_TEST(refused({command, "file:s", "--device", device}).find(" is no test device; allowed: tidemark-test.0") !=
                 std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_congestion_control_is_for_tcp_and_has_a_name) {
  BOOST_TEST(refused({"migrate", "unix:s", "--congestion-control", "cubic"}) ==
             "--congestion-control is for tcp: only; unix:s stays on this host");
  BOOST_TEST(refused({"migrate", "tcp:h:1", "--plain", "--congestion-control", "longer-than-any-is"}) ==
             "--congestion-control: \"longer-than-any-is\" is no name of one; allowed: \"auto\", or one of "
             "net.ipv4.tcp_available_congestion_control");
}

BOOST_AUTO_TEST_CASE(options_that_do_not_fit_together_are_refused) {
  BOOST_TEST(refused({"demo", "--role", "source"}).starts_with("--role source: where is the destination?"));
  for (const auto* address : {"192.0.2.7:7000", "0.0.0.0:7000", "[2001:db8::7]:7000"})
    BOOST_TEST(
        refused({"demo", "--role", "source", "--address", address}).starts_with("--address: the demo stays on this host"));
  BOOST_TEST(
      refused({"demo", "--role", "source", "--address", "127.0.0.1:1", "--inject", "flip-byte"}).starts_with("--inject: "));
}

BOOST_AUTO_TEST_SUITE_END()
