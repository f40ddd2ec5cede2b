// SPDX-License-Identifier: Apache-2.0
//
// The real system calls, on files every machine has.

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstring>

#include <tidemark/kernel.hpp>

using namespace tidemark;

BOOST_AUTO_TEST_SUITE(host)

BOOST_AUTO_TEST_CASE(answers_are_negative_errnos) {
  kernel::files& host = kernel::host_kernel();
  std::array<char, 8> buffer{};
  BOOST_TEST(host.open("/no/such/file", O_RDONLY) == -ENOENT);
  BOOST_TEST(host.close(-1) == -EBADF);
  BOOST_TEST(host.ioctl(-1, VFIO_GET_API_VERSION) == -EBADF);
  BOOST_TEST(host.read(-1, buffer.data(), buffer.size()) == -EBADF);
  BOOST_TEST(host.write(-1, buffer.data(), buffer.size()) == -EBADF);
  BOOST_TEST(host.pread(-1, buffer.data(), buffer.size(), 0) == -EBADF);
  BOOST_TEST(host.pwrite(-1, buffer.data(), buffer.size(), 0) == -EBADF);
  BOOST_TEST(host.readlink("/no/such/link", buffer.data(), buffer.size()) == -ENOENT);
}

BOOST_AUTO_TEST_CASE(descriptors_do_not_reach_other_programs) {
  const kernel::handle null(kernel::host_kernel(), kernel::host_kernel().open("/dev/null", O_RDWR));
  BOOST_TEST_REQUIRE(static_cast<bool>(null));
  BOOST_TEST((::fcntl(null.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

BOOST_AUTO_TEST_CASE(reads_and_writes) {
  kernel::files& host = kernel::host_kernel();
  const kernel::handle zero(host, host.open("/dev/zero", O_RDWR));
  std::array<char, 8> buffer;
  buffer.fill('x');
  BOOST_TEST(host.write(zero.get(), buffer.data(), buffer.size()) == 8);
  BOOST_TEST(host.read(zero.get(), buffer.data(), 4) == 4);
  BOOST_TEST(buffer[3] == '\0');
  BOOST_TEST(buffer[4] == 'x');
  std::array<char, 64> link{};
  BOOST_TEST(host.readlink("/proc/self", link.data(), link.size()) > 0);
}

BOOST_AUTO_TEST_CASE(a_handle_closes_once) {
  kernel::files& host = kernel::host_kernel();
  const int fd = host.open("/dev/null", O_RDWR);
  {
    kernel::handle first(host, fd);
    kernel::handle second(std::move(first));
    BOOST_TEST(second.get() == fd);
    second.reset();
    BOOST_TEST(host.ioctl(fd, FIONREAD) == -EBADF);
  }
}

BOOST_AUTO_TEST_SUITE_END()
