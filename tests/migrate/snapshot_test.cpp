// SPDX-License-Identifier: Apache-2.0
//
// Snapshots in files: what is written comes back, whatever rounds came between, and what is no whole snapshot is refused.

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>

#include "migrate/snapshots.hpp"

namespace tidemark::migrate {

using namespace tests;

namespace {

struct fixture {
  std::unique_ptr<ring::uring_loop> loop = ring::uring_loop::make().value();
  folder home;
  std::string path = home.file("guest");
  std::mt19937_64 random{1};

  auto open() { return open_snapshot(*loop, path); }
  result<std::unique_ptr<snapshot_writer>> make(const snapshot_guest& guest, bool overwrite = false) {
    return snapshot_writer::make(*loop, path, guest.descriptions(), overwrite);
  }
};

/// A page of what a snapshot must hold.
bytes page_of(const std::vector<bytes>& memory, block_index block, std::uint64_t page) {
  const auto first = memory[block].begin() + static_cast<std::ptrdiff_t>(page * page_bytes);
  return {first, first + page_bytes};
}

std::uint64_t pages_with_data(const std::vector<bytes>& memory) {
  const bytes zeros(page_bytes);
  std::uint64_t count = 0;
  for (block_index block = 0; block < memory.size(); ++block)
    for (std::uint64_t page = 0; page < memory[block].size() / page_bytes; ++page)
      count += page_of(memory, block, page) != zeros;
  return count;
}

/// Each page by itself, and all of it into memory that held something else.
void check_holds(ring::uring_loop& loop, const std::string& path, const std::vector<bytes>& expected,
                 std::mt19937_64& random) {
  auto opened = open_snapshot(loop, path);
  BOOST_TEST_REQUIRE(opened.has_value(), (opened ? "" : opened.error().message()));
  auto& reader = **opened;
  BOOST_TEST(reader.stored_pages() == pages_with_data(expected));
  std::vector<std::uint64_t> sizes;
  for (block_index block = 0; block < expected.size(); ++block) {
    sizes.push_back(expected[block].size() / page_bytes);
    for (std::uint64_t page = 0; page < sizes.back(); ++page) {
      bytes read(page_bytes, std::byte{7});
      require(await(loop, reader.read(block, page, read)));
      BOOST_TEST((read == page_of(expected, block, page)), "page " << page << " of block " << block);
    }
  }
  const snapshot_guest other(sizes);
  for (block_index block = 0; block < sizes.size(); ++block) other.scribble(block, 0, sizes[block], random);
  require(await(loop, reader.restore(other.blocks, snapshot_reader::memory::used)));
  BOOST_TEST((other.copy() == expected));
}

std::vector<page_run> random_runs(const snapshot_guest& guest, std::mt19937_64& random) {
  std::vector<page_run> runs;
  for (auto left = random() % 12; left != 0; --left) {
    const auto block = static_cast<block_index>(random() % guest.blocks.size());
    const auto first = random() % guest.blocks[block].pages();
    runs.push_back({block, first, random() % (guest.blocks[block].pages() - first + 1)});
  }
  return runs;
}

void change_at_random(const snapshot_guest& guest, std::mt19937_64& random) {
  for (const auto& run : random_runs(guest, random)) {
    if (random() % 2 != 0)
      guest.clear(run.block, run.first_page, run.pages);
    else
      guest.scribble(run.block, run.first_page, run.pages, random);
  }
}

/// What `run_child` did in a process of its own: its exit status.
template <class Call>
int in_child(Call run_child) {
  const auto child = ::fork();
  BOOST_TEST_REQUIRE(child >= 0);
  if (child == 0) {
    int status = -1;  // whatever is thrown there is no business of this process's test framework
    try {
      status = run_child();
    } catch (const std::exception& thrown) {
      std::fprintf(stderr, "%s\n", thrown.what());
    }
    ::_exit(status);
  }
  int status = 0;
  BOOST_TEST_REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// From here on this process alone sees what it mounts. As root, or in a user namespace of its own. False: not allowed.
bool leave_mounts() {
  if (::unshare(CLONE_NEWNS) < 0) {
    const auto user = std::to_string(::getuid());
    const auto group = std::to_string(::getgid());
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) return false;
    write_text("/proc/self/setgroups", "deny");
    write_text("/proc/self/uid_map", "0 " + user + " 1");
    write_text("/proc/self/gid_map", "0 " + group + " 1");
  }
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(snapshot_suite, fixture)

BOOST_AUTO_TEST_CASE(what_is_written_comes_back) {
  const snapshot_guest guest({300, 1, 40});
  guest.scribble(0, 0, 300, random);
  guest.scribble(2, 3, 9, random);
  take_snapshot(*loop, path, guest);
  check_holds(*loop, path, guest.copy(), random);
  const auto reader = open().value();
  BOOST_TEST_REQUIRE(reader->blocks().size() == 3u);
  BOOST_TEST(reader->blocks()[2].name == "ram2");
  BOOST_TEST(reader->blocks()[2].size == 40 * page_bytes);
  BOOST_TEST(!std::filesystem::exists(path + ".partial"));
  BOOST_TEST((status_of(path).st_mode & 0777) == 0600u);
}

BOOST_AUTO_TEST_CASE(many_pages_are_read_at_once) {
  const snapshot_guest guest({700, 3});
  guest.scribble(0, 0, 200, random);
  guest.scribble(0, 350, 333, random);
  take_snapshot(*loop, path, guest);
  const auto reader = open().value();
  const auto expected = guest.copy();
  for (const auto first : std::array<std::uint64_t, 5>{0, 1, 199, 200, 350}) {
    bytes read((700 - first) * page_bytes, std::byte{7});
    require(await(*loop, reader->read(0, first, read)));
    BOOST_TEST(std::equal(read.begin(), read.end(), expected[0].begin() + static_cast<std::ptrdiff_t>(first * page_bytes)));
  }
}

BOOST_AUTO_TEST_CASE(random_rounds_leave_what_was_written_last) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) BOOST_TEST_CONTEXT("seed " << seed) {
      std::mt19937_64 luck(seed);
      const snapshot_guest guest({1 + luck() % 300, 1 + luck() % 40, 1 + luck() % 3});
      auto expected = guest.copy();
      const auto at = path + std::to_string(seed);
      const auto writer = make_writer(*loop, at, guest);
      for (auto rounds = luck() % 12; rounds != 0; --rounds) {
        change_at_random(guest, luck);
        const auto runs = random_runs(guest, luck);  // in any order, and over one another
        require(await(*loop, writer->write(runs, guest.blocks)));
        for (const auto& run : runs)
          std::memcpy(expected[run.block].data() + run.first_page * page_bytes,
                      guest.blocks[run.block].host + run.first_page * page_bytes, run.pages * page_bytes);
        BOOST_TEST(writer->stored_pages() == pages_with_data(expected));
      }
      require(await(*loop, writer->finish()));
      check_holds(*loop, at, expected, luck);
    }
}

BOOST_AUTO_TEST_CASE(rounds_do_not_make_the_file_grow) {
  const snapshot_guest guest({500});
  guest.scribble(0, 0, 500, random);
  const auto writer = make_writer(*loop, path, guest);
  require(await(*loop, writer->write(guest.all(), guest.blocks)));
  const auto first = status_of(path + ".partial");
  BOOST_TEST(first.st_size == 501 * static_cast<std::int64_t>(page_bytes));
  for (int round = 0; round < 5; ++round) {
    guest.scribble(0, 100, 200, random);
    require(await(*loop, writer->write({{0, 100, 200}}, guest.blocks)));
  }
  const auto last = status_of(path + ".partial");
  BOOST_TEST(last.st_size == first.st_size);
  BOOST_TEST(writer->written_bytes() == (500 + 5 * 200) * page_bytes);
}

BOOST_AUTO_TEST_CASE(pages_that_became_zero_are_holes) {
  const snapshot_guest guest({1024});
  guest.scribble(0, 0, 1024, random);
  const auto writer = make_writer(*loop, path, guest);
  require(await(*loop, writer->write(guest.all(), guest.blocks)));
  const auto full = status_of(path + ".partial").st_blocks;
  BOOST_TEST(full >= 1024 * 8);
  guest.clear(0, 0, 1000);
  require(await(*loop, writer->write(guest.all(), guest.blocks)));
  BOOST_TEST(status_of(path + ".partial").st_blocks <= full - 1000 * 8);
  require(await(*loop, writer->finish()));
  BOOST_TEST(status_of(path).st_blocks < 200 * 8);
  check_holds(*loop, path, guest.copy(), random);
}

BOOST_AUTO_TEST_CASE(a_guest_of_zeros_takes_next_to_no_room) {
  const snapshot_guest guest({1 << 15, 1 << 14});
  take_snapshot(*loop, path, guest);
  BOOST_TEST(status_of(path).st_size > (std::int64_t{1} << 15) * 4096);
  BOOST_TEST(status_of(path).st_blocks <= 32 * 8);
  bytes read(page_bytes, std::byte{7});
  require(await(*loop, open().value()->read(1, (1 << 14) - 1, read)));
  BOOST_TEST((read == bytes(page_bytes)));
}

// Written from the guest's own memory, the file would hold other bytes than the checksum is of.
BOOST_AUTO_TEST_CASE(what_the_guest_writes_meanwhile_is_no_damage) {
  const snapshot_guest guest({64});
  guest.scribble(0, 0, 64, random);
  const auto expected = guest.copy();
  const auto writer = make_writer(*loop, path, guest);
  result<void> written = make_error(operation::write_snapshot, errc::closed);
  ring::start(
      [](ring::uring_loop& owner, snapshot_writer& to, const snapshot_guest& from, result<void>& out) -> ring::task<> {
        out = co_await to.write(from.all(), from.blocks);
        owner.stop();
      }(*loop, *writer, guest, written));
  guest.scribble(0, 0, 64, random);  // the requests are made, and the kernel has not seen them yet
  loop->run().value();
  require(written);
  require(await(*loop, writer->finish()));
  check_holds(*loop, path, expected, random);
}

BOOST_AUTO_TEST_CASE(calls_at_the_same_time_take_turns) {
  const snapshot_guest guest({200});
  guest.scribble(0, 0, 200, random);
  const auto writer = make_writer(*loop, path, guest);
  const auto state = random_bytes(3 << 20, random);
  run_on(*loop, [](snapshot_writer& to, const snapshot_guest& from, const bytes& device) -> ring::task<> {
    ring::latch open(3);
    for (int i = 0; i < 2; ++i)
      ring::start([](snapshot_writer& writing, const snapshot_guest& memory, ring::latch& done) -> ring::task<> {
        require(co_await writing.write(memory.all(), memory.blocks));
        done.count_down();
      }(to, from, open));
    ring::start([](snapshot_writer& writing, const bytes& what, ring::latch& done) -> ring::task<> {
      require(co_await writing.write_device("nic", what));
      done.count_down();
    }(to, device, open));
    co_await open;
    require(co_await to.finish());
  }(*writer, guest, state));
  check_holds(*loop, path, guest.copy(), random);
  BOOST_TEST(open().value()->devices().at(0).bytes == state.size());
}

BOOST_AUTO_TEST_CASE(devices_states_come_back_in_order_and_in_parts) {
  const snapshot_guest guest({2});
  std::vector<std::pair<std::string, bytes>> states;
  for (const std::size_t size : {std::size_t{1}, std::size_t{512 << 10}, std::size_t{0}, std::size_t{(1 << 20) + 77}})
    states.emplace_back("device" + std::to_string(states.size()), random_bytes(size, random));
  auto parts = states;
  for (int more = 0; more < 20; ++more) {  // and again, by turns
    const auto device = random() % states.size();
    parts.emplace_back(states[device].first, random_bytes(random() % 3000, random));
    auto& whole = states[device].second;
    whole.insert(whole.end(), parts.back().second.begin(), parts.back().second.end());
  }
  take_snapshot(*loop, path, guest, parts);
  const auto reader = open().value();
  BOOST_TEST_REQUIRE(reader->devices().size() == states.size());
  for (std::size_t i = 0; i < states.size(); ++i) {
    const auto& whole = states[i].second;
    BOOST_TEST(reader->devices()[i].name == states[i].first);
    BOOST_TEST_REQUIRE(reader->devices()[i].bytes == whole.size());
    for (int look = 0; look < 30; ++look) {
      const auto from = look == 0 ? 0 : random() % (whole.size() + 1);
      bytes read(look == 0 ? whole.size() : random() % (whole.size() - from + 1));
      require(await(*loop, reader->read_device(i, from, read)));
      BOOST_TEST(std::equal(read.begin(), read.end(), whole.begin() + static_cast<std::ptrdiff_t>(from)));
    }
    bytes one(1);
    BOOST_TEST((await(*loop, reader->read_device(i, whole.size(), one)).error().code == errc::region_unknown));
  }
  BOOST_TEST((await(*loop, reader->read_device(states.size(), 0, {})).has_error() == false));
}

BOOST_AUTO_TEST_CASE(fresh_memory_is_not_touched_where_pages_are_zero) {
  const snapshot_guest guest({600});
  guest.scribble(0, 200, 5, random);
  take_snapshot(*loop, path, guest);
  const auto reader = open().value();
  const snapshot_guest other({600});
  other.scribble(0, 599, 1, random);
  auto expected = guest.copy();
  std::copy(other.page(0, 599).begin(), other.page(0, 599).end(), expected[0].end() - page_bytes);
  require(await(*loop, reader->restore(other.blocks, snapshot_reader::memory::fresh)));
  BOOST_TEST((other.copy() == expected));
  require(await(*loop, reader->restore(other.blocks, snapshot_reader::memory::used)));
  BOOST_TEST((other.copy() == guest.copy()));
}

BOOST_AUTO_TEST_CASE(other_blocks_and_pages_outside_are_refused) {
  const snapshot_guest guest({4, 2});
  const auto writer = make_writer(*loop, path, guest);
  const auto unknown = make_error_code(errc::region_unknown);
  const std::array<page_run, 4> outside{{{0, 4, 1}, {2, 0, 1}, {0, 1, ~std::uint64_t{0}}, {1, 0, 3}}};
  for (const auto& run : outside) BOOST_TEST((await(*loop, writer->write({run}, guest.blocks)).error().code == unknown));
  BOOST_TEST((await(*loop, writer->write({}, snapshot_guest({4}).blocks)).error().code == unknown));
  require(await(*loop, writer->write(guest.all(), guest.blocks)));  // none of it was a failure of the snapshot
  require(await(*loop, writer->finish()));
  const auto reader = open().value();
  bytes page(page_bytes);
  BOOST_TEST((await(*loop, reader->read(0, 4, page)).error().code == unknown));
  BOOST_TEST((await(*loop, reader->read(2, 0, page)).error().code == unknown));
  BOOST_TEST((await(*loop, reader->read(0, ~std::uint64_t{0}, page)).error().code == unknown));
  BOOST_TEST((await(*loop, reader->read(0, 0, std::span(page).first(100))).error().code == unknown));
  require(await(*loop, reader->read(0, 4, {})));
  for (const auto& sizes : {std::vector<std::uint64_t>{4}, {4, 3}, {4, 2, 1}, {2, 4}}) {
    const auto answer = await(*loop, reader->restore(snapshot_guest(sizes).blocks, snapshot_reader::memory::fresh));
    BOOST_TEST((answer.error().code == unknown));
  }
}

BOOST_AUTO_TEST_CASE(blocks_that_no_snapshot_can_hold_are_refused) {
  const std::vector<std::vector<block_description>> wrong{{},
                                                          {{"", 4096}},
                                                          {{"a", 0}},
                                                          {{"a", 4095}},
                                                          {{"a", 4096}, {"a", 4096}},
                                                          {{"a", snapshot_pages_max * 4096}, {"b", 4096}},
                                                          {{std::string(1025, 'a'), 4096}}};
  for (const auto& blocks : wrong) {
    const auto made = snapshot_writer::make(*loop, path, blocks, false);
    BOOST_TEST((made.has_error() && made.error().code == boost::system::errc::invalid_argument));
  }
  BOOST_TEST(std::filesystem::is_empty(home.path()));
}

BOOST_AUTO_TEST_CASE(a_file_that_is_no_snapshot_is_kept) {
  const snapshot_guest guest({1});
  write_text(path, "the only copy of something");
  const auto refused = make(guest);
  BOOST_TEST_REQUIRE(refused.has_error());
  BOOST_TEST(refused.error().code == boost::system::errc::file_exists);
  BOOST_TEST(says(refused.error(), path + ": it is there and no snapshot"));
  {
    const auto writer = make(guest, true).value();
    require(await(*loop, writer->write(guest.all(), guest.blocks)));
    BOOST_TEST(text_of(path) == "the only copy of something");  // until there is something instead
    require(await(*loop, writer->finish()));
  }
  BOOST_TEST(open().has_value());
  write_text(path + ".partial", "another");
  BOOST_TEST(says(make(guest).error(), ".partial: it is in the way and no snapshot"));
  BOOST_TEST(text_of(path + ".partial") == "another");
}

BOOST_AUTO_TEST_CASE(a_file_that_came_meanwhile_is_kept) {
  const snapshot_guest guest({1});
  {
    const auto writer = make_writer(*loop, path, guest);
    write_text(path, "somebody else's");
    BOOST_TEST(says(await(*loop, writer->finish()).error(), "no snapshot"));
  }
  BOOST_TEST(text_of(path) == "somebody else's");
  BOOST_TEST(!std::filesystem::exists(path + ".partial"));
}

BOOST_AUTO_TEST_CASE(a_snapshot_is_replaced_when_the_next_is_whole) {
  const snapshot_guest guest({3});
  guest.scribble(0, 0, 3, random);
  take_snapshot(*loop, path, guest);
  const auto before = guest.copy();
  guest.scribble(0, 1, 1, random);
  {
    const auto writer = make_writer(*loop, path, guest);
    require(await(*loop, writer->write(guest.all(), guest.blocks)));
    check_holds(*loop, path, before, random);
  }
  check_holds(*loop, path, before, random);  // the second was abandoned
  const auto reader = open().value();
  take_snapshot(*loop, path, guest);
  bytes page(page_bytes);
  require(await(*loop, reader->read(0, 1, page)));  // whoever has the first open goes on reading it
  BOOST_TEST((page == page_of(before, 0, 1)));
  check_holds(*loop, path, guest.copy(), random);
}

BOOST_AUTO_TEST_CASE(one_writer_at_a_time) {
  const snapshot_guest guest({1});
  auto first = make_writer(*loop, path, guest);
  const auto second = make(guest, true);
  BOOST_TEST_REQUIRE(second.has_error());
  BOOST_TEST(second.error().code == boost::system::errc::device_or_resource_busy);
  BOOST_TEST(std::filesystem::exists(path + ".partial"));
  first.reset();
  BOOST_TEST(make(guest).has_value());
}

BOOST_AUTO_TEST_CASE(places_that_cannot_be_written_are_refused) {
  const snapshot_guest guest({1});
  path = home.file("no/where");
  BOOST_TEST(says(make(guest).error(), "its folder does not exist"));
  path = home.path();
  BOOST_TEST(says(make(guest, true).error(), "no regular file"));
  path = home.file("guest");
  std::filesystem::create_symlink("elsewhere", path + ".partial");
  BOOST_TEST(says(make(guest, true).error(), "it is a symbolic link"));
  std::filesystem::remove(path + ".partial");
  std::filesystem::create_symlink("elsewhere", path);
  BOOST_TEST(says(make(guest, true).error(), "no regular file"));
}

BOOST_AUTO_TEST_CASE(what_is_no_snapshot_is_refused) {
  const auto code_for = [this](const std::string& text) {
    write_text(path, text);
    const auto opened = open();
    BOOST_TEST((opened.has_error() && says(opened.error(), "read snapshot: ") && says(opened.error(), path + ": ")));
    return opened.error().code;
  };
  BOOST_TEST((open().error().code == boost::system::errc::no_such_file_or_directory));
  BOOST_TEST((code_for("") == errc::not_a_snapshot));
  BOOST_TEST((code_for("TIDESNAP") == errc::not_a_snapshot));
  BOOST_TEST((code_for(std::string(100000, 'x')) == errc::not_a_snapshot));
  path = home.path();
  BOOST_TEST(says(open().error(), "no regular file"));
}

BOOST_AUTO_TEST_CASE(a_snapshot_of_a_newer_version_is_refused) {
  take_snapshot(*loop, path, snapshot_guest({1}));
  auto text = text_of(path);
  snapshot_header header;
  std::memcpy(&header, text.data(), sizeof header);
  header.version = 2;
  header = sealed(header);
  std::memcpy(text.data(), &header, sizeof header);
  write_text(path, text);
  const auto opened = open();
  BOOST_TEST((opened.error().code == errc::not_a_snapshot));
  BOOST_TEST(says(opened.error(), "its format is version 2, this Tidemark reads version 1"));
}

// A process that ends in the middle leaves a file that says so, and is in nobody's way.
BOOST_AUTO_TEST_CASE(what_a_crash_leaves_is_refused_and_used_again) {
  const snapshot_guest guest({300});
  guest.scribble(0, 0, 300, random);
  const auto status = in_child([&] {
    const auto own = ring::uring_loop::make().value();
    const auto writer = snapshot_writer::make(*own, path, guest.descriptions(), false).value();
    const auto written = await(*own, writer->write(guest.all(), guest.blocks));
    ::_exit(written ? 5 : 6);
    return 0;
  });
  BOOST_TEST_REQUIRE(status == 5);
  BOOST_TEST(!std::filesystem::exists(path));
  const auto left = open_snapshot(*loop, path + ".partial");
  BOOST_TEST_REQUIRE(left.has_error());
  BOOST_TEST((left.error().code == errc::snapshot_incomplete));
  const snapshot_guest smaller({20});
  smaller.scribble(0, 3, 4, random);
  take_snapshot(*loop, path, smaller);
  check_holds(*loop, path, smaller.copy(), random);
}

BOOST_AUTO_TEST_CASE(what_is_abandoned_is_gone) {
  const snapshot_guest guest({2});
  const auto writer = make_writer(*loop, path, guest);
  require(await(*loop, writer->write(guest.all(), guest.blocks)));
  writer->abandon();
  BOOST_TEST(std::filesystem::is_empty(home.path()));
  BOOST_TEST(says(await(*loop, writer->finish()).error(), "abandoned"));
  BOOST_TEST(says(await(*loop, writer->write_device("nic", {})).error(), "abandoned"));
}

BOOST_AUTO_TEST_CASE(what_is_under_way_when_it_is_abandoned_ends) {
  const snapshot_guest guest({3000});
  guest.scribble(0, 0, 3000, random);
  const auto writer = make_writer(*loop, path, guest);
  const auto written = [&] {
    result<void> outcome;
    ring::start(
        [](ring::uring_loop& owner, snapshot_writer& to, const snapshot_guest& from, result<void>& out) -> ring::task<> {
          out = co_await to.write(from.all(), from.blocks);
          owner.stop();
        }(*loop, *writer, guest, outcome));
    writer->abandon();
    loop->run().value();
    return outcome;
  }();
  BOOST_TEST_REQUIRE(written.has_error());
  BOOST_TEST(says(written.error(), "abandoned"));
  BOOST_TEST(std::filesystem::is_empty(home.path()));
}

BOOST_AUTO_TEST_CASE(nothing_is_written_to_what_is_finished) {
  const snapshot_guest guest({2});
  const auto writer = make_writer(*loop, path, guest);
  require(await(*loop, writer->finish()));
  const auto closed = make_error_code(errc::closed);
  BOOST_TEST((await(*loop, writer->write(guest.all(), guest.blocks)).error().code == closed));
  BOOST_TEST((await(*loop, writer->write_device("nic", {})).error().code == closed));
  BOOST_TEST((await(*loop, writer->finish()).error().code == closed));
  writer->abandon();
  BOOST_TEST(open().has_value());
}

BOOST_AUTO_TEST_CASE(no_descriptor_stays_open) {
  const snapshot_guest guest({2});
  take_snapshot(*loop, path, guest);
  const auto before = open_descriptors();
  take_snapshot(*loop, path, guest);
  make(guest).value()->abandon();
  make(guest).value().reset();
  open().value().reset();
  BOOST_TEST(make(snapshot_guest({2}), false).has_value());
  std::filesystem::resize_file(path, 9000);
  BOOST_TEST(open().has_error());
  write_text(path, "foreign");
  BOOST_TEST(open().has_error());
  BOOST_TEST(make(guest).has_error());
  BOOST_TEST(open_descriptors() == before);
}

BOOST_AUTO_TEST_CASE(a_full_filesystem_is_told_with_what_is_needed) {
  BOOST_TEST(no_space(5 << 20, (1 << 20) + 1, 0) ==
             "the snapshot takes up to 5 MiB, of which 2 MiB are written; 0 MiB are free there. Make room, or choose "
             "another filesystem");
  const snapshot_guest guest({2048});
  guest.scribble(0, 0, 2048, random);
  constexpr int not_allowed = 77;
  const auto status = in_child([&] {  // a filesystem of 2 MiB, which nobody else sees
    if (!leave_mounts() || ::mount("tmpfs", home.path().c_str(), "tmpfs", 0, "size=2m") < 0) return not_allowed;
    const auto own = ring::uring_loop::make().value();
    auto writer = snapshot_writer::make(*own, path, guest.descriptions(), false).value();
    const auto written = await(*own, writer->write(guest.all(), guest.blocks));
    if (written || written.error().code != boost::system::errc::no_space_on_device) return 1;
    if (!says(written.error(), "the snapshot takes up to 9 MiB, of which ")) return 2;
    if (await(*own, writer->finish()).error().message() != written.error().message()) return 3;
    writer.reset();
    return std::filesystem::is_empty(home.path()) ? 0 : 4;
  });
  if (status == not_allowed) BOOST_TEST_MESSAGE("this user may not mount a small filesystem: not tried");
  BOOST_TEST((status == 0 || status == not_allowed), status);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
