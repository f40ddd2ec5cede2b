// SPDX-License-Identifier: Apache-2.0
//
// UNIX sockets: their addresses, their files, and the descriptors that pass over them.

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "ring/connection.hpp"
#include "ring/descriptor_stream.hpp"

using namespace tidemark;
using namespace tidemark::ring;
using namespace tidemark::tests;

namespace {

address at_path(const std::string& path) { return resolve("unix:" + path).value(); }
bool exists(const std::string& path) { return std::filesystem::exists(std::filesystem::symlink_status(path)); }

/// A socket file that nobody listens at, as a process that was killed leaves it.
void leave_stale_socket(const std::string& path) {
  const descriptor dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto at = at_path(path);
  const auto& place = at.places.front();
  BOOST_TEST_REQUIRE(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&place.socket), place.size_bytes) == 0);
}

error refusal_of(uring_loop& owner, const std::string& path) {
  auto opened = listener::open(owner, at_path(path));
  BOOST_TEST_REQUIRE(opened.has_error());
  return opened.error();
}

error connecting(uring_loop& owner, const address& to) {
  error failure;
  const auto work = [&]() -> task<> { failure = (co_await connect(owner, to)).error(); };
  run_on(owner, work());
  return failure;
}

/// Two ends that pass descriptors.
struct passing_pair {
  passing_pair(uring_loop& owner, const scratch& in) {
    connection pair(owner, at_path(in.path("door")));
    left = with_descriptors(std::move(pair.left)).value();
    right = with_descriptors(std::move(pair.right)).value();
  }
  std::unique_ptr<descriptor_stream> left, right;
};

/// So many descriptors of pipes' reading ends, each pipe with its number in it.
class pipes {
 public:
  explicit pipes(std::size_t count) {
    for (std::size_t at = 0; at < count; ++at) {
      std::array<int, 2> ends{};
      BOOST_TEST_REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
      readers_.emplace_back(ends[0]);
      const descriptor writer(ends[1]);
      const auto number = static_cast<unsigned char>(at);
      BOOST_TEST_REQUIRE(::write(writer.get(), &number, 1) == 1);
    }
  }
  std::vector<int> readers() const {
    std::vector<int> all;
    for (const auto& one : readers_) all.push_back(one.get());
    return all;
  }

 private:
  std::vector<descriptor> readers_;
};

int number_in(const descriptor& reader) {
  unsigned char number = 0;
  return ::read(reader.get(), &number, 1) == 1 ? number : -1;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(unix_suite)

BOOST_AUTO_TEST_CASE(a_path_is_an_address_and_is_not_looked_up) {
  const auto at = resolve("unix:/nowhere/a socket:80").value();
  BOOST_TEST(at.is_local());
  BOOST_TEST(at.text == "unix:/nowhere/a socket:80");
  const auto& place = reinterpret_cast<const sockaddr_un&>(at.places.at(0).socket);
  BOOST_TEST(place.sun_path == std::string("/nowhere/a socket:80"));
  BOOST_TEST(!loopback(1).is_local());
}

BOOST_AUTO_TEST_CASE(a_path_may_have_as_many_bytes_as_the_kernel_takes) {
  BOOST_TEST(resolve("unix:" + std::string(107, 'x')).has_value());
  const auto failure = resolve("unix:" + std::string(108, 'x')).error();
  BOOST_TEST(failure.code.value() == ENAMETOOLONG);
  BOOST_TEST(says(failure.detail, "has 108 bytes; a socket's has at most 107"));
  for (const std::string& bad : {std::string("unix:"), std::string("unix:a\0b", 8)})
    BOOST_TEST(says(resolve(bad).error().detail, "unix:PATH"));
}

BOOST_AUTO_TEST_CASE(random_gathers_arrive_whole_both_ways_at_once) {
  const auto owner = make_loop();
  const scratch in;
  connection pair(*owner, at_path(in.path("door")));
  both_ways traffic;
  run_on(*owner, traffic.run(*pair.left, *pair.right));
  BOOST_TEST(traffic.arrived());
}

BOOST_AUTO_TEST_CASE(the_file_is_its_owners_alone_and_goes_with_the_listener) {
  const auto owner = make_loop();
  const scratch in;
  const auto path = in.path("door");
  const auto old_mask = ::umask(0);
  auto door = listener::open(*owner, at_path(path)).value();
  ::umask(old_mask);
  struct stat file {};
  BOOST_TEST_REQUIRE(::lstat(path.c_str(), &file) == 0);
  BOOST_TEST(S_ISSOCK(file.st_mode));
  BOOST_TEST((file.st_mode & 07777) == 0600u);
  BOOST_TEST(door->port() == 0);
  door->close();
  BOOST_TEST(!exists(path));
  door = listener::open(*owner, at_path(path)).value();
  door.reset();
  BOOST_TEST(!exists(path));
}

BOOST_AUTO_TEST_CASE(a_socket_that_nobody_listens_at_is_replaced) {
  const auto owner = make_loop();
  const scratch in;
  const auto path = in.path("door");
  leave_stale_socket(path);
  BOOST_TEST(connecting(*owner, at_path(path)).code.value() == ECONNREFUSED);
  const connection pair(*owner, at_path(path));
  BOOST_TEST(!exists(path));
}

BOOST_AUTO_TEST_CASE(a_socket_that_is_listened_at_and_a_file_are_left_alone) {
  const auto owner = make_loop();
  const scratch in;
  const auto path = in.path("door");
  auto door = listener::open(*owner, at_path(path)).value();
  const auto taken = refusal_of(*owner, path);
  BOOST_TEST(taken.code.value() == EADDRINUSE);
  BOOST_TEST(says(taken.detail, "another process already listens at unix:" + path));
  BOOST_TEST(says(taken.detail, "ss -lxp"));
  BOOST_TEST(exists(path));
  door.reset();

  std::ofstream(path) << "precious";
  const auto file = refusal_of(*owner, path);
  BOOST_TEST(file.code.value() == EEXIST);
  BOOST_TEST(says(file.detail, path + " is there and is no socket"));
  std::stringstream kept;
  kept << std::ifstream(path).rdbuf();
  BOOST_TEST(kept.str() == "precious");
}

BOOST_AUTO_TEST_CASE(a_file_that_was_put_in_the_place_of_ours_stays) {
  const auto owner = make_loop();
  const scratch in;
  const auto path = in.path("door");
  auto door = listener::open(*owner, at_path(path)).value();
  std::filesystem::remove(path);
  std::ofstream(path) << "another's";
  door.reset();
  BOOST_TEST(exists(path));
}

BOOST_AUTO_TEST_CASE(a_missing_directory_and_a_missing_socket_say_what_to_do) {
  const auto owner = make_loop();
  const scratch in;
  const auto nowhere = refusal_of(*owner, in.path("gone/door"));
  BOOST_TEST(nowhere.code.value() == ENOENT);
  BOOST_TEST(says(nowhere.detail, "the directory of the socket, " + in.path("gone") + "; make it first"));
  const auto nobody = connecting(*owner, at_path(in.path("door")));
  BOOST_TEST(nobody.code.value() == ENOENT);
  BOOST_TEST(nobody.detail == "there is no socket at unix:" + in.path("door") + "; start the destination first");
}

BOOST_AUTO_TEST_CASE(descriptors_arrive_in_order_between_the_bytes_around_them) {
  const auto owner = make_loop();
  const scratch in;
  passing_pair pair(*owner, in);
  const pipes sent(64);
  const auto send = [&]() -> task<> {
    const auto fds = sent.readers();
    BOOST_TEST((co_await write_one(*pair.left, 'a')).has_value());
    BOOST_TEST((co_await pair.left->send_descriptors(fds)).has_value());
    BOOST_TEST((co_await write_one(*pair.left, 'b')).has_value());
  };
  const auto receive = [&]() -> task<> {
    char byte = 0;
    start(send());
    BOOST_TEST((co_await read_one(*pair.right, byte)).has_value());
    BOOST_TEST(byte == 'a');
    const auto came = (co_await pair.right->receive_descriptors(64)).value();
    for (std::size_t at = 0; at < came.size(); ++at) {
      BOOST_TEST(number_in(came[at]) == static_cast<int>(at));
      BOOST_TEST(::fcntl(came[at].get(), F_GETFD) == FD_CLOEXEC);
    }
    BOOST_TEST((co_await read_one(*pair.right, byte)).has_value());
    BOOST_TEST(byte == 'b');
  };
  run_on(*owner, receive());
}

BOOST_AUTO_TEST_CASE(a_message_that_is_waited_for_arrives) {
  const auto owner = make_loop();
  const scratch in;
  passing_pair pair(*owner, in);
  const pipes sent(1);
  int number = -1;
  latch done(1);
  const auto receive = [&]() -> task<> {
    number = number_in((co_await pair.right->receive_descriptors(1)).value().front());
    done.count_down();
  };
  const auto work = [&]() -> task<> {
    start(receive());
    co_await one_turn(*owner);
    const auto fds = sent.readers();
    BOOST_TEST((co_await pair.left->send_descriptors(fds)).has_value());
    co_await done;
  };
  run_on(*owner, work());
  BOOST_TEST(number == 0);
}

BOOST_AUTO_TEST_CASE(another_count_of_descriptors_is_an_error_and_none_of_them_stays_open) {
  struct row {
    std::size_t sent, due;
    const char* what;
  };
  for (const auto& [sent, due, what] :
       {row{0, 2, "sent none where 2 descriptors were due"}, row{1, 2, "sent 1 descriptor where 2 descriptors were due"},
        row{3, 1, "sent 3 descriptors where 1 descriptor were due"}}) {
    const auto owner = make_loop();
    const scratch in;
    passing_pair pair(*owner, in);
    const pipes those(sent);
    const auto before = open_descriptors();
    error failure;
    const auto work = [&, count = due]() -> task<> {
      const auto fds = those.readers();
      if (fds.empty()) {
        (co_await write_one(*pair.left, 'x')).value();
      } else {
        (co_await pair.left->send_descriptors(fds)).value();
      }
      failure = (co_await pair.right->receive_descriptors(count)).error();
    };
    run_on(*owner, work());
    BOOST_TEST((failure.code == errc::protocol));
    BOOST_TEST(says(failure.detail, what));
    BOOST_TEST(open_descriptors() == before);
  }
}

BOOST_AUTO_TEST_CASE(a_message_of_more_than_64_is_refused_on_both_sides) {
  const auto owner = make_loop();
  const scratch in;
  passing_pair pair(*owner, in);
  const auto work = [&]() -> task<> {
    const std::vector<int> many(65, 0);
    BOOST_TEST(says((co_await pair.left->send_descriptors(many)).error().detail, "1 to 64 descriptors, not 65"));
    BOOST_TEST((co_await pair.left->send_descriptors(std::span<const int>())).error().code.value() == EINVAL);
    BOOST_TEST((co_await pair.right->receive_descriptors(65)).error().code.value() == EINVAL);
    BOOST_TEST((co_await pair.right->receive_descriptors(0)).error().code.value() == EINVAL);
    const std::vector<int> wrong{-1};
    BOOST_TEST(says((co_await pair.left->send_descriptors(wrong)).error().detail, "is not open"));
  };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(a_foreign_peer_that_sends_more_than_there_is_room_for_leaks_nothing) {
  const auto owner = make_loop();
  const scratch in;
  auto door = listener::open(*owner, at_path(in.path("door"))).value();
  const descriptor foreign(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto at = at_path(in.path("door"));
  const auto& place = at.places.front();
  BOOST_TEST_REQUIRE(::connect(foreign.get(), reinterpret_cast<const sockaddr*>(&place.socket), place.size_bytes) == 0);
  error failure;
  std::size_t before = 0, after = 1;
  const auto work = [&]() -> task<> {
    const auto here = with_descriptors((co_await door->accept()).value()).value();
    before = open_descriptors();
    char byte = 0;
    iovec part{&byte, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(100 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(100 * sizeof(int));  // all of them standard input
    if (::sendmsg(foreign.get(), &message, 0) != 1) co_return;
    failure = (co_await here->receive_descriptors(64)).error();
    after = open_descriptors();
  };
  run_on(*owner, work());
  BOOST_TEST((failure.code == errc::protocol));
  BOOST_TEST(says(failure.detail, "sent more than 64 descriptors where 64 descriptors were due"));
  BOOST_TEST(after == before);
}

BOOST_AUTO_TEST_CASE(close_and_a_peer_that_leaves_end_a_wait_for_descriptors) {
  const auto owner = make_loop();
  const scratch in;
  passing_pair pair(*owner, in);
  std::vector<error> ended;
  latch done(2);
  const auto receive = [&](descriptor_stream& from) -> task<> {
    ended.push_back((co_await from.receive_descriptors(1)).error());
    done.count_down();
  };
  const auto work = [&]() -> task<> {
    start(receive(*pair.left));
    start(receive(*pair.right));
    co_await one_turn(*owner);
    pair.left->close();
    co_await done;
    BOOST_TEST(((co_await pair.left->receive_descriptors(1)).error().code == errc::closed));
  };
  run_on(*owner, work());
  BOOST_TEST_REQUIRE(ended.size() == 2u);
  BOOST_TEST((ended[0].code == errc::closed || ended[1].code == errc::closed));
  BOOST_TEST((ended[0].code == errc::peer_closed || ended[1].code == errc::peer_closed));
}

BOOST_AUTO_TEST_CASE(tcp_passes_no_descriptors_and_says_so) {
  const auto owner = make_loop();
  connection pair(*owner);
  const auto answer = with_descriptors(std::move(pair.left));
  BOOST_TEST_REQUIRE(answer.has_error());
  BOOST_TEST(says(answer.error().detail, "connect by unix:PATH"));
}

BOOST_AUTO_TEST_SUITE_END()
