// SPDX-License-Identifier: Apache-2.0

#include "cli/vfio_holders.hpp"

#include <boost/test/unit_test.hpp>

#include "cli/fake_host.hpp"

using namespace tidemark::cli;

namespace {

struct seen_host : test::fake_host {
  seen_host() { every_process_is_seen(); }
};

bool says(const test::fake_host& host, const std::string& why) {
  return find_vfio_holders(host.tree()).why_not_all.find(why) != std::string::npos;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(vfio_holders_of_a_host)

BOOST_AUTO_TEST_CASE(a_process_has_what_its_links_say) {
  seen_host host;
  host.process("1234", "qemu-system-x86", "/dev/vfio/7");
  host.files.link("/proc/1234/fd/11", "/dev/vfio/noiommu-8");
  host.files.link("/proc/1234/fd/12", "/dev/null");
  const auto found = find_vfio_holders(host.tree());
  BOOST_TEST(found.of_file.size() == 2u);
  BOOST_REQUIRE(found.of_file.contains("/dev/vfio/7"));
  BOOST_TEST(found.of_file.at("/dev/vfio/7").front().process == "qemu-system-x86");
  BOOST_TEST(found.of_file.at("/dev/vfio/7").front().pid == 1234);
  BOOST_TEST(found.of_file.contains("/dev/vfio/noiommu-8"));
  BOOST_TEST(found.why_not_all == "");
}

BOOST_AUTO_TEST_CASE(a_file_open_twice_is_one_holder_and_in_two_processes_two) {
  seen_host host;
  host.process("9", "parent", "/dev/vfio/7");
  host.files.link("/proc/9/fd/1", "/dev/vfio/7");
  host.process("10", "child", "/dev/vfio/7");
  const auto holders = find_vfio_holders(host.tree()).of_file.at("/dev/vfio/7");
  BOOST_REQUIRE(holders.size() == 2u);
  BOOST_TEST(holders[0].pid == 9);
  BOOST_TEST(holders[1].pid == 10);
}

BOOST_AUTO_TEST_CASE(what_is_no_process_is_not_looked_into) {
  seen_host host;
  host.files.link("/proc/self/fd/3", "/dev/vfio/7");
  host.files.link("/proc/12ab/fd/3", "/dev/vfio/7");
  BOOST_TEST(find_vfio_holders(host.tree()).of_file.empty());
}

// Permissions do not bind a test that runs as root; a link that is none, and one that leads to itself, cannot be read by
// anyone.
BOOST_AUTO_TEST_CASE(a_process_that_may_not_be_looked_into_is_said) {
  seen_host closed;
  closed.files.link("/proc/77/fd", "fd");
  BOOST_TEST(says(closed, "other users'"));

  seen_host without_links;
  without_links.files.file("/proc/77/fd/0", "");
  BOOST_TEST(says(without_links, "other users'"));
}

BOOST_AUTO_TEST_CASE(a_process_that_has_just_ended_hides_nothing) {
  seen_host host;
  host.files.file("/proc/77/comm", "gone\n");
  BOOST_TEST(find_vfio_holders(host.tree()).why_not_all == "");
}

BOOST_AUTO_TEST_CASE(processes_that_proc_does_not_list_are_said) {
  test::fake_host container;
  container.process("1", "sh", "/dev/null");
  container.files.link("/proc/self/ns/pid", "pid:[4026532301]");
  BOOST_TEST(says(container, "does not list all"));
  BOOST_TEST(!says(container, "other users'"));

  test::fake_host hidden;
  hidden.process("500", "sh", "/dev/null");
  hidden.files.link("/proc/self/ns/pid", "pid:[4026531836]");
  BOOST_TEST(says(hidden, "does not list all"));
  BOOST_TEST(says(test::fake_host(), "does not list all"));
}

BOOST_AUTO_TEST_SUITE_END()
