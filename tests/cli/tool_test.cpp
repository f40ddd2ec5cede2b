// SPDX-License-Identifier: Apache-2.0
// The program as a shell meets it: exit status, standard output, standard error.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cli/temporary_tree.hpp"

namespace {

struct outcome {
  int status = -1;
  std::string out;
  std::string err;
};

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// In the child: the two files become its output, then it becomes the tool.
[[noreturn]] void become_tool(std::vector<std::string> words, const std::string& out, const std::string& err) {
  const int out_fd = ::open(out.c_str(), O_WRONLY);
  const int err_fd = ::open(err.c_str(), O_WRONLY);
  if (::dup2(out_fd, STDOUT_FILENO) < 0 || ::dup2(err_fd, STDERR_FILENO) < 0) ::_exit(127);
  words.insert(words.begin(), TIDEMARK_TOOL);
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

outcome run(const std::vector<std::string>& words) {
  tidemark::cli::test::temporary_tree tree;
  const auto out = tree.file("/out", "");
  const auto err = tree.file("/err", "");
  const pid_t child = ::fork();
  if (child == 0) become_tool(words, out, err);
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_all(out), read_all(err)};
}

void is_one_line(const std::string& text) {
  BOOST_TEST(std::count(text.begin(), text.end(), '\n') == 1, text);
  BOOST_TEST(text.ends_with('\n'), text);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tool)

BOOST_AUTO_TEST_CASE(bad_input_is_one_line_on_standard_error_and_status_2) {
  const std::vector<std::vector<std::string>> wrong{{},
                                                    {"dmeo"},
                                                    {"--nonsense"},
                                                    {"demo", "--nonsense"},
                                                    {"demo", "--memory", "12Q"},
                                                    {"demo", "--memory", "1000000"},
                                                    {"demo", "--memory", "1028KiB"},
                                                    {"demo", "--blocks", "0"},
                                                    {"demo", "--address", "nowhere"},
                                                    {"demo", "--role", "source"},
                                                    {"demo", "--group", "1"},
                                                    {"demo", "--config", "/nonexistent.toml"},
                                                    {"migrate"},
                                                    {"migrate", "nowhere"},
                                                    {"migrate", "tcp:localhost:7000"},
                                                    {"receive", "tcp:localhost:0", "--plain", "--psk", "key"},
                                                    {"receive", "unix:/tmp/socket", "--plain"},
                                                    {"bench"},
                                                    {"bench", "map", "--memory", "1"},
                                                    {"bench", "map", "--kernel", "linux"},
                                                    {"doctor", "--memory", "1G"},
                                                    {"devices", "--group", "1"},
                                                    {"devices", "7"}};
  for (const auto& words : wrong) {
    const auto seen = run(words);
    BOOST_TEST(seen.status == 2, seen.err);
    BOOST_TEST(seen.out == "");
    BOOST_TEST(seen.err.starts_with("tidemark: "), seen.err);
    is_one_line(seen.err);
  }
}

BOOST_AUTO_TEST_CASE(a_bad_file_is_refused_with_line_and_column) {
  tidemark::cli::test::temporary_tree tree;
  const auto path = tree.file("/bad.toml", "[demo]\nmemory = \"1GiB\"\n\n[migration]\ndowntime_ms = 0\n");
  const auto seen = run({"demo", "--config", path});
  BOOST_TEST(seen.status == 2);
  BOOST_TEST(seen.err == "tidemark: " + path + ":5:15: downtime_ms: 0 is out of range; allowed: 1 to 60000 milliseconds\n");
}

BOOST_AUTO_TEST_CASE(help_and_version_are_on_standard_output) {
  const auto version = run({"--version"});
  BOOST_TEST(version.status == 0);
  BOOST_TEST(version.out.starts_with("tidemark "));
  is_one_line(version.out);
  for (const std::vector<std::string>& words : {std::vector<std::string>{"--help"},
                                                {"demo", "--help"},
                                                {"migrate", "--help"},
                                                {"receive", "--help"},
                                                {"bench", "--help"},
                                                {"bench", "map", "--help"},
                                                {"devices", "--help"},
                                                {"doctor", "--help"}}) {
    const auto help = run(words);
    BOOST_TEST(help.status == 0);
    BOOST_TEST(help.err == "");
    BOOST_TEST(help.out.find("Exit status: 0 ") != std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(devices_are_listed_and_none_is_no_failure) {
  const auto table = run({"devices"});
  BOOST_TEST(table.status == 0);
  BOOST_TEST(table.err == "");
  BOOST_TEST((table.out.starts_with("DEVICE ") || table.out.starts_with("No VFIO devices here, ")), table.out);
  const auto json = run({"devices", "--all", "--json"});
  BOOST_TEST(json.status == 0);
  BOOST_TEST(json.out.starts_with("{\"devices\":["), json.out);
  is_one_line(json.out);
}

BOOST_AUTO_TEST_CASE(maps_are_measured_and_drawn) {
  tidemark::cli::test::temporary_tree tree;
  const auto picture = tree.file("/map.svg", "");
  std::vector<std::string> words{"bench", "map", "--pattern", "viommu,burst", "--memory", "4MiB", "--operations", "64"};
  const auto table = run(words);
  BOOST_TEST(table.status == 0, table.err);
  BOOST_TEST(table.out.starts_with("model kernel, device 0000:00:04.0, 4MiB in small pages, 32 in flight\nPATTERN "),
             table.out);
  words.insert(words.end(), {"--json", "--svg", picture});
  const auto json = run(words);
  BOOST_TEST(json.status == 0, json.err);
  BOOST_TEST(json.out.starts_with("{\"kernel\":\"model\","), json.out);
  is_one_line(json.out);
  BOOST_TEST(read_all(picture).starts_with("<svg "));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_measured_is_one_line_and_status_1) {
  const std::vector<std::vector<std::string>> failing{{"--device", "0000:77:00.0"}, {"--svg", "/nonexistent/map.svg"}};
  for (const auto& more : failing) {
    std::vector<std::string> words{"bench", "map",          "--pattern", "viommu", "--memory",
                                   "4MiB",  "--operations", "64",        "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const auto seen = run(words);
    BOOST_TEST(seen.status == 1);
    BOOST_TEST(seen.err.starts_with("tidemark: "), seen.err);
    is_one_line(seen.err);
  }
}

BOOST_AUTO_TEST_CASE(doctor_says_whether_the_demo_can_run) {
  const auto seen = run({"doctor"});
  const bool can_run = seen.out.find("model demo:   can run here") != std::string::npos;
  BOOST_TEST(seen.status == (can_run ? 0 : 1));
  BOOST_TEST(seen.err == "");
  BOOST_TEST(seen.out.find('\033') == std::string::npos);
  const auto json = run({"doctor", "--json"});
  BOOST_TEST(json.status == seen.status);
  is_one_line(json.out);
}

BOOST_AUTO_TEST_SUITE_END()
