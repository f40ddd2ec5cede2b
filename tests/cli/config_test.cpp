// SPDX-License-Identifier: Apache-2.0

#include "cli/config.hpp"

#include <boost/test/unit_test.hpp>

#include <fstream>
#include <sstream>
#include <vector>

#include "cli/keys.hpp"
#include "cli/temporary_tree.hpp"

using namespace tidemark::cli;

namespace {

/// What is said of a file of this text; empty when it is taken.
std::string refused(std::string_view text) {
  auto chosen = defaults().value();
  const auto done = override_from_text(chosen, text, "f.toml");
  return done ? std::string() : done.error().detail;
}

std::string refused_option(const std::string& table, const std::string& name, const std::string& text) {
  auto chosen = defaults().value();
  const auto done = override_from_option(chosen, *find_key(table, name), text);
  return done ? std::string() : done.error().detail;
}

std::string file_in_the_tree() {
  std::ostringstream text;
  text << std::ifstream(TIDEMARK_DEFAULT_CONFIG).rdbuf();
  return text.str();
}

/// A key of the file with the comment right above it, its lines joined.
struct commented_key {
  std::string table, name, comment;
};

std::vector<commented_key> keys_of(const std::string& toml) {
  std::vector<commented_key> found;
  std::string table, comment, line;
  for (std::istringstream lines(toml); std::getline(lines, line);) {
    if (line.starts_with("# ")) {
      comment += (comment.empty() ? "" : " ") + line.substr(2);
      continue;
    }
    if (line.starts_with("[")) table = line.substr(1, line.find(']') - 1);
    if (const auto equals = line.find(" = "); equals != std::string::npos)
      found.push_back({table, line.substr(0, equals), comment});
    comment.clear();
  }
  return found;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(config)

BOOST_AUTO_TEST_CASE(defaults_are_those_of_the_file) {
  const auto chosen = defaults().value();
  BOOST_TEST(chosen.memory_bytes == 1ull << 30);
  BOOST_TEST(chosen.blocks == 4u);
  BOOST_TEST(chosen.cpu_rate_bytes == 64ull << 20);
  BOOST_TEST(chosen.device_rate_bytes == 32ull << 20);
  BOOST_TEST(chosen.region_changes_per_second == 10u);
  BOOST_TEST((chosen.kernel == kernel_choice::model));
  BOOST_TEST(chosen.address == "127.0.0.1:0");
  BOOST_TEST(chosen.downtime_ms == 300u);
  BOOST_TEST(chosen.demo_bandwidth_bytes.value() == 400ull << 20);
  BOOST_TEST(chosen.guest_memory_bytes == 1ull << 30);
  BOOST_TEST(chosen.guest_cpu_rate_bytes == 0u);
  BOOST_TEST(chosen.guest_device_rate_bytes == 32ull << 20);
  BOOST_TEST(chosen.guest_seed == 1u);
  BOOST_TEST(!chosen.bandwidth_bytes.has_value());
  BOOST_TEST(chosen.rounds_max == 30u);
  BOOST_TEST(chosen.batch_pages == 4096u);
  BOOST_TEST(chosen.channels == 1u);
  BOOST_TEST((chosen.pages == tidemark::compression::automatic));
  BOOST_TEST(chosen.congestion_control == "auto");
  BOOST_TEST(chosen.recovery_ms == 10000u);
  for (const auto* file : {&chosen.identity.certificate, &chosen.identity.key, &chosen.identity.authority,
                           &chosen.identity.peer_name, &chosen.identity.psk})
    BOOST_TEST(*file == "");
  BOOST_TEST((chosen.bench_kernel == kernel_choice::model));
  BOOST_TEST(chosen.bench_memory_bytes == 1ull << 30);
  BOOST_TEST((chosen.bench_pages == page_kind::small));
  BOOST_TEST(chosen.bench_map_bytes == 4096u);
  BOOST_TEST(chosen.bench_in_flight == 32u);
  BOOST_TEST(chosen.bench_operations == 2048u);
  BOOST_TEST(chosen.bench_held == 1000000u);
  BOOST_TEST((chosen.level == log_level::warning));
  BOOST_TEST(chosen.origins.empty());
  BOOST_TEST(check(chosen).has_value());
}

BOOST_AUTO_TEST_CASE(file_and_table_have_the_same_keys) {
  const auto in_file = keys_of(file_in_the_tree());
  BOOST_TEST(in_file.size() == keys().size());
  for (const auto& k : in_file) BOOST_TEST_CONTEXT(k.table + "." + k.name) {
      BOOST_TEST(find_key(k.table, k.name));
    }
}

BOOST_AUTO_TEST_CASE(every_key_of_the_file_has_its_unit_and_range_in_its_comment) {
  for (const auto& k : keys_of(file_in_the_tree())) {
    const auto* known = find_key(k.table, k.name);
    BOOST_REQUIRE(known);
    BOOST_TEST_CONTEXT(k.comment) { BOOST_TEST(k.comment.find(allowed(*known)) != std::string::npos, allowed(*known)); }
  }
}

BOOST_AUTO_TEST_CASE(a_file_overrides_what_it_names_and_nothing_else) {
  auto chosen = defaults().value();
  tidemark::cli::test::temporary_tree tree;
  const auto path = tree.file("/mine.toml",
                              "[demo]\nmemory = 8388608\nkernel = \"linux\"\n[migration]\nbandwidth = \"5MiB\"\n"
                              "compression = \"zstd\"\n[identity]\npsk = \"/etc/key\"\n");
  BOOST_REQUIRE(override_from(chosen, path).has_value());
  BOOST_TEST(chosen.memory_bytes == 8388608u);
  BOOST_TEST((chosen.kernel == kernel_choice::host));
  BOOST_TEST(chosen.bandwidth_bytes.value() == 5u << 20);
  BOOST_TEST((chosen.pages == tidemark::compression::zstd));
  BOOST_TEST(chosen.identity.psk == "/etc/key");
  BOOST_TEST(chosen.identity.key == "");
  BOOST_TEST(chosen.demo_bandwidth_bytes.value() == 400ull << 20);
  BOOST_TEST(chosen.blocks == 4u);
  BOOST_TEST(chosen.origins.at("demo.memory") == path + ":2:10");
}

BOOST_AUTO_TEST_CASE(a_wrong_file_changes_nothing) {
  auto chosen = defaults().value();
  BOOST_TEST(!override_from_text(chosen, "[demo]\nblocks = 8\nseed = -1\n", "f.toml").has_value());
  BOOST_TEST(chosen.blocks == 4u);
  BOOST_TEST(chosen.origins.empty());
}

BOOST_AUTO_TEST_CASE(unknown_keys_and_tables_are_refused_where_they_stand) {
  BOOST_TEST(refused("[migration]\n  rounds = 3\n") ==
             "f.toml:2:3: unknown key \"rounds\" in [migration]; allowed: downtime_ms, bandwidth, rounds_max, batch_pages, "
             "channels, compression, congestion_control, recovery_ms");
  BOOST_TEST(refused("\n[demos]\nseed = 1\n") ==
             "f.toml:2:2: unknown table \"demos\"; allowed: [demo], [guest], [migration], [identity], [bench], [log]");
  BOOST_TEST(refused("seed = 1\n") ==
             "f.toml:1:1: key \"seed\" is in no table; allowed: [demo], [guest], [migration], [identity], [bench], [log]");
  BOOST_TEST(refused("log = 3\n") == "f.toml:1:1: \"log\" is an integer, not a table; write [log] on a line of its own");
}

BOOST_AUTO_TEST_CASE(wrong_types_are_refused_where_they_stand) {
  BOOST_TEST(refused("[demo]\nblocks = true\n") ==
             "f.toml:2:10: blocks: a boolean cannot be used here; allowed: 1 to 64 blocks");
  BOOST_TEST(refused("[demo]\nblocks = \"4\"\n") ==
             "f.toml:2:10: blocks: \"4\" is a string, not an integer; allowed: 1 to 64 blocks");
  BOOST_TEST(refused("[demo]\nblocks = 4.0\n") ==
             "f.toml:2:10: blocks: a number with a fraction cannot be used here; allowed: 1 to 64 blocks");
  BOOST_TEST(refused("[demo]\nkernel = 1\n") == "f.toml:2:10: kernel: 1 is not known; allowed: \"model\" or \"linux\"");
  BOOST_TEST(refused("[identity]\npsk = 1\n") == "f.toml:2:7: psk: 1 is an integer, not a string; allowed: a file");
  BOOST_TEST(refused("[migration]\ncompression = 3\n") ==
             "f.toml:2:15: compression: 3 is not known; allowed: \"auto\", \"none\", \"lz4\" or \"zstd\"");
  BOOST_TEST(refused("[demo]\naddress = 1\n")
                 .starts_with("f.toml:2:11: address: 1 is an integer, not a string; allowed: HOST:PORT"));
  BOOST_TEST(
      refused("[demo]\nmemory = [1]\n").starts_with("f.toml:2:10: memory: an array cannot be used here; allowed: 4KiB"));
  BOOST_TEST(
      refused("[demo]\nmemory = 2026-01-01\n").starts_with("f.toml:2:10: memory: a date or time cannot be used here"));
  BOOST_TEST(refused("[demo]\nmemory.size = 1\n").starts_with("f.toml:2:"));
}

BOOST_AUTO_TEST_CASE(values_out_of_range_are_refused_where_they_stand) {
  BOOST_TEST(refused("[demo]\nblocks = 65\n") == "f.toml:2:10: blocks: 65 is out of range; allowed: 1 to 64 blocks");
  BOOST_TEST(refused("[demo]\nblocks = 0\n") == "f.toml:2:10: blocks: 0 is out of range; allowed: 1 to 64 blocks");
  BOOST_TEST(refused("[demo]\nseed = -1\n") == "f.toml:2:8: seed: -1 is out of range; allowed: 0 to 9223372036854775807");
  BOOST_TEST(refused("[demo]\nmemory = \"9TiB\"\n") ==
             "f.toml:2:10: memory: \"9TiB\" is out of range; allowed: 4KiB to 8TiB of memory");
  BOOST_TEST(refused("[demo]\nmemory = -4096\n") ==
             "f.toml:2:10: memory: -4096 is out of range; allowed: 4KiB to 8TiB of memory");
  BOOST_TEST(refused("[migration]\nchannels = 65\n") ==
             "f.toml:2:12: channels: 65 is out of range; allowed: 1 to 64 channels");
  BOOST_TEST(refused("[migration]\nrecovery_ms = 3600001\n") ==
             "f.toml:2:15: recovery_ms: 3600001 is out of range; allowed: 0 to 3600000 milliseconds");
  BOOST_TEST(refused("[guest]\nmemory = 0\n") == "f.toml:2:10: memory: 0 is out of range; allowed: 4KiB to 8TiB of memory");
  BOOST_TEST(refused("[migration]\nbandwidth = \"1KiB\"\n") ==
             "f.toml:2:13: bandwidth: \"1KiB\" is out of range; allowed: 1MiB to 1TiB a second, or \"unlimited\"");
}

BOOST_AUTO_TEST_CASE(bad_sizes_words_and_addresses_are_refused_where_they_stand) {
  BOOST_TEST(refused("[demo]\nmemory = \"12Q\"\n").starts_with("f.toml:2:10: memory: \"12Q\" has the unknown unit \"Q\""));
  BOOST_TEST(refused("[demo]\nmemory = 5000\n") ==
             "f.toml:2:10: memory: 5000 is no multiple of the page (4KiB); the nearest are 4KiB and 8KiB; "
             "allowed: 4KiB to 8TiB of memory");
  BOOST_TEST(
      refused("[log]\nlevel = \"loud\"\n").starts_with("f.toml:2:9: level: \"loud\" is not known; allowed: \"trace\", "));
  for (const auto* address : {"localhost", ":1", "host:", "host:65536", "host:1x", "::1:80", "[]:80", "a b:80", "host:-1"}) {
    BOOST_TEST_CONTEXT(address) {
      BOOST_TEST(refused("[demo]\naddress = \"" + std::string(address) + "\"\n").starts_with("f.toml:2:11: address: \""));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_syntax_error_is_refused_where_it_stands) {
  const auto line = refused("[demo]\nblocks = = 4\n");
  BOOST_TEST(line.starts_with("f.toml:2:"), line);
  BOOST_TEST(line.find("allowed: TOML") != std::string::npos, line);
  BOOST_TEST(refused("[demo]\nseed = 1\nseed = 2\n").starts_with("f.toml:3:"));
}

BOOST_AUTO_TEST_CASE(a_message_is_one_line_whatever_the_file_holds) {
  for (const auto* text :
       {"[demo]\nmemory = \"1\\n2\"\n", "[\"a\\nb\"]\n", "[demo]\n\"a\\nb\" = 1\n", "[demo]\nmemory = \"\"\"1\n2\"\"\"\n"}) {
    const auto line = refused(text);
    BOOST_TEST(!line.empty());
    BOOST_TEST(line.find('\n') == std::string::npos, line);
  }
}

BOOST_AUTO_TEST_CASE(a_file_that_cannot_be_read_is_refused) {
  auto chosen = defaults().value();
  const tidemark::cli::test::temporary_tree tree;
  const auto missing = (tree.root() / "none.toml").string();
  BOOST_TEST(override_from(chosen, missing).error().detail == "cannot read " + missing + ": No such file or directory");
  BOOST_TEST(override_from(chosen, tree.root()).error().detail ==
             "cannot read " + tree.root().string() + ": Is a directory");
  BOOST_TEST(override_from(chosen, "/dev/zero").error().detail == "/dev/zero is over 1 MiB: that is no configuration file");
}

BOOST_AUTO_TEST_CASE(addresses_come_apart) {
  const auto v4 = parse_endpoint("127.0.0.1:0").value();
  BOOST_TEST(v4.host == "127.0.0.1");
  BOOST_TEST(v4.port == 0);
  const auto v6 = parse_endpoint("[fe80::1]:65535").value();
  BOOST_TEST(v6.host == "fe80::1");
  BOOST_TEST(v6.port == 65535);
}

BOOST_AUTO_TEST_CASE(options_are_checked_by_the_same_table) {
  BOOST_TEST(refused_option("demo", "blocks", "65") == "--blocks: 65 is out of range; allowed: 1 to 64 blocks");
  BOOST_TEST(refused_option("demo", "blocks", "4x") == "--blocks: \"4x\" is not a whole number; allowed: 1 to 64 blocks");
  BOOST_TEST(refused_option("demo", "seed", "9223372036854775807").empty());
  BOOST_TEST(
      refused_option("demo", "seed", "9223372036854775808").starts_with("--seed: \"9223372036854775808\" is out of range"));
  BOOST_TEST(refused_option("migration", "bandwidth", "unlimited").empty());
}

BOOST_AUTO_TEST_CASE(memory_is_whole_pages_in_each_block) {
  auto chosen = defaults().value();
  BOOST_REQUIRE(override_from_text(chosen, "[demo]\nmemory = \"1028KiB\"\n", "f.toml").has_value());
  BOOST_TEST(check(chosen).error().detail ==
             "f.toml:2:10: 1028KiB of memory in 4 blocks is not whole pages (4KiB) in each; nearest: 1MiB or 1040KiB");
  BOOST_REQUIRE(override_from_option(chosen, *find_key("demo", "blocks"), "1").has_value());
  BOOST_TEST(check(chosen).has_value());

  auto small = defaults().value();
  BOOST_REQUIRE(override_from_option(small, *find_key("demo", "memory"), "4KiB").has_value());
  BOOST_TEST(check(small).error().detail ==
             "--memory: 4KiB of memory in 4 blocks is not whole pages (4KiB) in each; nearest: 16KiB");

  auto blocks = defaults().value();
  BOOST_REQUIRE(override_from_option(blocks, *find_key("demo", "blocks"), "3").has_value());
  BOOST_TEST(check(blocks).error().detail.starts_with("--blocks: 1GiB of memory in 3 blocks"));
}

BOOST_AUTO_TEST_SUITE_END()
