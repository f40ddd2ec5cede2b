// SPDX-License-Identifier: Apache-2.0
//
// Memory that moves while devices go on reaching it (R24), on the model: which ioctls in which order, what is refused before
// any, and that after every failure the book says of each mapping what the kernel does.

#include "dma/handover.hpp"

#include <linux/vfio.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

enum class verb { map, unmap, release, renew };

/// An ioctl that changes mappings or their addresses.
struct made {
  verb what = verb::map;
  std::uint64_t first = 0;  ///< page
  std::uint64_t pages = 0;  ///< 0: everything

  friend bool operator==(const made&, const made&) = default;
};
std::ostream& operator<<(std::ostream& to, const made& what) {
  const char* names[] = {"map ", "unmap ", "release ", "renew "};
  return to << names[static_cast<int>(what.what)] << what.first << "+" << what.pages;
}

std::optional<made> made_by(unsigned long request, std::uintptr_t argument) {
  if (request == VFIO_IOMMU_MAP_DMA) {
    const auto* asked = reinterpret_cast<const vfio_iommu_type1_dma_map*>(argument);
    const bool renews = (asked->flags & VFIO_DMA_MAP_FLAG_VADDR) != 0;
    return made{renews ? verb::renew : verb::map, asked->iova / page, asked->size / page};
  }
  if (request == VFIO_IOMMU_UNMAP_DMA) {
    const auto* asked = reinterpret_cast<const vfio_iommu_type1_dma_unmap*>(argument);
    const bool releases = (asked->flags & VFIO_DMA_UNMAP_FLAG_VADDR) != 0;
    return made{releases ? verb::release : verb::unmap, asked->iova / page, asked->size / page};
  }
  return std::nullopt;
}

using answers = std::function<std::optional<int>(const made&)>;

/// Fails the n-th of these, from 1 on.
answers failing(verb what, std::size_t n, int errno_value = EIO) {
  return [=, count = std::size_t{0}](const made& one) mutable -> std::optional<int> {
    return one.what == what && ++count == n ? std::optional(-errno_value) : std::nullopt;
  };
}

constexpr unsigned backed = 2;

/// A container with a group behind an IOMMU, and what is asked of the kernel for it. Memory that moves is told of at another
/// place here: the model pins nothing that it would notice.
struct moving : bench {
  explicit moving(container_options options = {.in_place_bytes_max = 0}, kernel::model_options kernel = {},
                  unsigned group = backed)
      : bench(std::move(kernel)) {
    options.warn = [this](const error& what) { warnings.push_back(what.message()); };
    here.emplace(loop.get_executor(), files, threads, options);
    BOOST_REQUIRE(connect(group));
    watch();
  }

  void watch(answers answer = {}) {
    files.set_rule([this, answer](unsigned long request, std::uintptr_t argument) mutable -> std::optional<int> {
      const auto one = made_by(request, argument);
      if (!one) return std::nullopt;
      log.push_back(*one);
      return answer ? answer(*one) : std::nullopt;
    });
  }
  std::vector<made> asked() { return std::exchange(log, {}); }

  result<container_info> connect(unsigned group) {
    return done<container_info>([&](auto token) { here->async_connect(group, std::move(token)); });
  }
  mapping pages(std::uint64_t first, std::uint64_t count, std::uint64_t unit = 0) {
    return {{first * page, count * page}, old_home.data() + first * page, true, unit * page};
  }
  result<void> map(std::uint64_t first, std::uint64_t count) {
    return done([&](auto token) { here->async_map(pages(first, count), std::move(token)); });
  }
  result<std::uint64_t> unmap(std::uint64_t first, std::uint64_t count) {
    return done<std::uint64_t>([&](auto token) {
      here->async_unmap(iova_range{first * page, count * page}, std::move(token));
    });
  }
  result<void> apply(std::vector<change> changes) {
    return done([&](auto token) { here->async_apply(std::move(changes), std::move(token)); });
  }
  result<void> release() {
    return done([&](auto token) { here->async_release_addresses(std::move(token)); });
  }
  result<void> renew(std::vector<moved_memory> all) {
    return done([&](auto token) { here->async_renew_addresses(std::move(all), std::move(token)); });
  }

  /// Pages of the new home, which is laid out as the old one.
  moved_memory moved(std::uint64_t first, std::uint64_t count) {
    return {{first * page, count * page}, new_home.data() + first * page};
  }

  /// What the kernel holds, as "0+4 new", with the home whose memory it is; "none" without an address.
  std::vector<std::string> held() const {
    std::vector<std::string> list;
    for (const auto& one : model.mappings()) {
      const auto at = [&](const memory& home) {
        return one.vaddr - one.iova == reinterpret_cast<std::uintptr_t>(home.data());
      };
      list.push_back(std::to_string(one.iova / page) + "+" + std::to_string(one.size / page) + " " +
                     (one.vaddr_invalid ? "none"
                      : at(new_home)    ? "new"
                      : at(old_home)    ? "old"
                                        : "?"));
      BOOST_TEST(one.pinned);  // whatever happens: DMA never stops
    }
    return list;
  }

  memory old_home{1024};
  memory new_home{1024};
  std::vector<made> log;
  std::vector<std::string> warnings;
  std::optional<container> here;
};

bool says(const error& what, const std::string& text) {
  const bool does = what.message().find(text) != std::string::npos;
  if (!does) BOOST_TEST_MESSAGE(what.message());
  return does;
}

using strings = std::vector<std::string>;
void check(const std::vector<made>& asked, const std::vector<made>& expected) {
  BOOST_TEST(asked == expected, boost::test_tools::per_element());
}
void check(const strings& held, const strings& expected) { BOOST_TEST(held == expected, boost::test_tools::per_element()); }

}  // namespace

BOOST_AUTO_TEST_SUITE(handovers)

// --- what is asked of the kernel ---

// covers R24
BOOST_AUTO_TEST_CASE(all_addresses_go_by_one_ioctl_and_come_back_one_by_one_in_order) {
  moving on;
  BOOST_REQUIRE(on.map(0, 2));
  BOOST_REQUIRE(on.map(8, 1));
  on.asked();
  BOOST_REQUIRE(on.release());
  check(on.asked(), {{verb::release, 0, 0}});
  check(on.held(), {"0+2 none", "8+1 none"});
  BOOST_REQUIRE(on.renew({on.moved(8, 1), on.moved(0, 2)}));
  check(on.asked(), {{verb::renew, 0, 2}, {verb::renew, 8, 1}});
  check(on.held(), {"0+2 new", "8+1 new"});
  BOOST_TEST(on.unmap(0, 2).value() == 2 * page);
  BOOST_TEST(on.unmap(8, 1).value() == page);
}

// covers R19 R24
BOOST_AUTO_TEST_CASE(mappings_that_became_one_get_one_address) {
  moving on;
  for (std::uint64_t i = 0; i < 4; ++i)
    on.here->async_map(on.pages(i, 1, 4), [](const result<void>& m) { BOOST_TEST(m.has_value()); });
  on.settle();
  BOOST_REQUIRE(on.release());
  on.asked();
  auto torn = on.moved(2, 2);
  torn.host = on.new_home.data() + 64 * page;
  const auto refused = on.renew({on.moved(0, 2), torn});
  BOOST_TEST(refused.error().code.value() == EINVAL);
  BOOST_TEST((refused.error().range == iova_range{2 * page, 2 * page}));
  BOOST_TEST(says(refused.error(), "moves as a whole"));
  BOOST_TEST(on.asked().empty());
  BOOST_REQUIRE(on.renew({on.moved(3, 1), on.moved(0, 1), on.moved(1, 2)}));
  check(on.asked(), {{verb::renew, 0, 4}});
  check(on.held(), {"0+4 new"});
}

// covers R24: what was asked for as one has moved as one, however it was cut
BOOST_AUTO_TEST_CASE(the_pieces_of_a_cut_mapping_get_an_address_each) {
  moving on({.piece_bytes = 64 * page, .in_place_bytes_max = 0});
  BOOST_REQUIRE(on.map(512, 256));
  BOOST_REQUIRE(on.map(768, 1));
  BOOST_REQUIRE(on.release());
  on.asked();
  auto apart = on.moved(640, 128);
  apart.host = on.new_home.data();
  BOOST_TEST(says(on.renew({on.moved(512, 128), apart, on.moved(768, 1)}).error(), "moves as a whole"));
  BOOST_TEST(on.asked().empty());
  BOOST_REQUIRE(on.renew({on.moved(512, 256), on.moved(768, 1)}));
  check(on.asked(), {{verb::renew, 512, 64},
                     {verb::renew, 576, 64},
                     {verb::renew, 640, 64},
                     {verb::renew, 704, 64},
                     {verb::renew, 768, 1}});
  BOOST_TEST(on.unmap(512, 256).value() == 256 * page);
  // The same without neighbours that were asked for apart: those may go apart.
  BOOST_REQUIRE(on.map(512, 1));
  BOOST_REQUIRE(on.map(513, 1));
  BOOST_REQUIRE(on.release());
  auto elsewhere = on.moved(513, 1);
  elsewhere.host = on.new_home.data();
  BOOST_TEST(on.renew({on.moved(512, 1), elsewhere, on.moved(768, 1)}).has_value());
}

// covers R24
BOOST_AUTO_TEST_CASE(a_piece_of_moved_memory_may_span_mappings) {
  moving on;
  BOOST_REQUIRE(on.map(0, 2));
  BOOST_REQUIRE(on.map(2, 2));
  BOOST_REQUIRE(on.release());
  on.asked();
  BOOST_REQUIRE(on.renew({on.moved(0, 4)}));
  check(on.asked(), {{verb::renew, 0, 2}, {verb::renew, 2, 2}});
}

// covers R24
BOOST_AUTO_TEST_CASE(where_nothing_is_mapped_nothing_is_asked) {
  moving on;
  BOOST_TEST(on.release().has_value());
  BOOST_TEST(on.renew({}).has_value());
  BOOST_TEST(on.asked().empty());
}

// covers R24: what is released already would be refused
BOOST_AUTO_TEST_CASE(a_release_may_be_repeated_and_reaches_what_was_mapped_since) {
  moving on;
  BOOST_REQUIRE(on.map(4, 2));
  BOOST_REQUIRE(on.release());
  on.asked();
  BOOST_TEST(on.release().has_value());
  BOOST_TEST(on.asked().empty());
  for (const std::uint64_t first : {0UL, 2UL, 8UL}) BOOST_REQUIRE(on.map(first, 1));
  check(on.held(), {"0+1 old", "2+1 old", "4+2 none", "8+1 old"});
  on.asked();
  BOOST_TEST(on.release().has_value());
  check(on.asked(), {{verb::release, 0, 3}, {verb::release, 8, 1}});
  check(on.held(), {"0+1 none", "2+1 none", "4+2 none", "8+1 none"});
  BOOST_TEST(on.renew({on.moved(0, 1), on.moved(2, 1), on.moved(4, 2), on.moved(8, 1)}).has_value());
}

// covers R16 R24
BOOST_AUTO_TEST_CASE(without_unmap_all_the_range_is_named) {
  kernel::model_options options;
  constexpr std::uint64_t half = std::uint64_t{1} << 63;
  options.windows = {{0, half - 1}, {half, ~std::uint64_t{0}}};
  options.version = {6, 18};  // earlier ones do not find what ends with the address space
  bench below(options);
  below.files.set_rule([](unsigned long request, std::uintptr_t argument) {
    return request == VFIO_CHECK_EXTENSION && argument == VFIO_UNMAP_ALL ? std::optional(0) : std::nullopt;
  });
  container here(below.loop.get_executor(), below.files, below.threads);
  BOOST_REQUIRE(below.done<container_info>([&](auto token) { here.async_connect(backed, std::move(token)); }));
  const memory ram(2);
  const std::uint64_t top = 0 - page;
  for (const std::uint64_t iova : {std::uint64_t{0}, top})
    BOOST_REQUIRE(below.done([&](auto token) { here.async_map({{iova, page}, ram.data()}, std::move(token)); }));
  std::vector<made> asked;
  below.files.set_rule([&](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
    if (const auto one = made_by(request, argument)) asked.push_back(*one);
    return std::nullopt;
  });
  BOOST_REQUIRE(below.done([&](auto token) { here.async_release_addresses(std::move(token)); }));
  check(asked, {{verb::release, 0, 1}, {verb::release, top / page, 1}});  // both in one would be no range
  std::byte* const to = ram.data() + page;
  BOOST_REQUIRE(below.done([&](auto token) {
    here.async_renew_addresses({{{0, page}, to}, {{top, page}, to}}, std::move(token));
  }));
  for (const auto& one : below.model.mappings()) BOOST_TEST(one.vaddr == reinterpret_cast<std::uintptr_t>(to));
}

// --- what is refused before the kernel is asked ---

// covers R24
BOOST_AUTO_TEST_CASE(what_does_not_cover_just_what_is_released_is_refused_with_one_line) {
  moving on;
  BOOST_REQUIRE(on.map(4, 4));
  BOOST_REQUIRE(on.map(16, 4));
  BOOST_REQUIRE(on.release());
  BOOST_REQUIRE(on.map(32, 1));
  on.asked();
  const auto first = on.moved(4, 4);
  const auto second = on.moved(16, 4);
  const auto missing = make_error_code(errc::addresses_released);
  const auto einval = kernel_error(operation::renew_addresses, EINVAL).code;
  const auto enoent = kernel_error(operation::renew_addresses, ENOENT).code;
  const auto at = [](std::uint64_t from, std::uint64_t count) { return iova_range{from * page, count * page}; };
  const moved_memory odd{at(4, 4), on.new_home.data() + 8};
  const moved_memory wrapping{{0 - page, 2 * page}, on.new_home.data()};
  struct refusal {
    std::vector<moved_memory> all;
    boost::system::error_code code;
    iova_range range;
    const char* why;
  };
  const refusal table[] = {
      {{}, missing, at(4, 4), "where its memory is now has to be told"},
      {{first}, missing, at(16, 4), "where its memory is now has to be told"},
      {{second}, missing, at(4, 4), "where its memory is now has to be told"},
      {{on.moved(4, 3), second}, missing, at(7, 1), "has to be told"},
      {{on.moved(5, 3), second}, missing, at(4, 1), "has to be told"},
      {{on.moved(4, 1), on.moved(6, 2), second}, missing, at(5, 1), "has to be told"},
      {{on.moved(3, 5), second}, enoent, at(3, 1), "nothing is mapped there"},
      {{first, on.moved(8, 1), second}, enoent, at(8, 1), "nothing is mapped there"},
      {{on.moved(4, 16)}, enoent, at(8, 8), "nothing is mapped there"},
      {{first, second, on.moved(64, 2)}, enoent, at(64, 2), "nothing is mapped there"},
      {{first, second, first}, einval, at(4, 4), "told twice"},
      {{first, second, on.moved(7, 1)}, einval, at(7, 1), "told twice"},
      {{odd, second}, einval, at(4, 4), "whole pages of 4096 bytes"},
      {{first, second, {{4 * page, 8}, on.new_home.data()}}, einval, {4 * page, 8}, "whole pages"},
      {{first, second, {}}, einval, {}, "whole pages"},
      {{first, second, wrapping}, einval, wrapping.at, "do not wrap"},
      {{first, second, on.moved(32, 1)}, einval, at(32, 1), "another address"},
  };
  for (const auto& one : table) {
    const auto refused = on.renew(one.all);
    BOOST_REQUIRE(!refused);
    BOOST_TEST(refused.error().code == one.code);
    BOOST_TEST((refused.error().range == one.range), refused.error().message());
    BOOST_TEST(says(refused.error(), one.why));
  }
  BOOST_TEST(on.asked().empty());
  check(on.held(), {"4+4 none", "16+4 none", "32+1 old"});
  BOOST_TEST(on.renew({first, second, {at(32, 1), on.old_home.data() + 32 * page}}).has_value());
  BOOST_TEST(on.renew({first}).has_value());  // as is known
  BOOST_TEST(on.renew({}).has_value());
}

// covers R24
BOOST_AUTO_TEST_CASE(where_addresses_cannot_be_released_it_is_said) {
  const auto cannot = make_error_code(errc::release_not_supported);
  const auto refuse = [&](moving& on, const std::string& why) {
    BOOST_TEST(on.release().error().code == cannot);
    BOOST_TEST(says(on.release().error(), why));
    BOOST_TEST(on.renew({}).error().code == cannot);
    BOOST_TEST(on.asked().empty());
  };
  moving emulated({.in_place_bytes_max = 0}, {}, 0);
  refuse(emulated, "no group with an emulated IOMMU");

  moving old({.in_place_bytes_max = 0}, {.version = {5, 11}});
  refuse(old, "Linux 5.12 or later");

  kernel::model_options power;
  power.spapr.emplace();
  moving tce({.in_place_bytes_max = 0}, power);
  refuse(tce, "a sPAPR v2 container has no VFIO_UPDATE_VADDR");

  kernel::model_options without;
  without.groups.push_back({.number = 9, .devices = {"0000:00:09.0"}, .noiommu = true});
  moving physical({.in_place_bytes_max = 0}, without, 9);
  refuse(physical, "a noiommu container has no VFIO_UPDATE_VADDR");

  bench nobody;
  container empty(nobody.loop.get_executor(), nobody.files, nobody.threads);
  const auto not_attached = make_error_code(errc::not_attached);
  BOOST_TEST(nobody.done([&](auto token) { empty.async_release_addresses(std::move(token)); }).error().code == not_attached);
  BOOST_TEST(nobody.done([&](auto token) { empty.async_renew_addresses({}, std::move(token)); }).error().code ==
             not_attached);
}

// covers R24: it depends on the groups, so it is asked again with each
BOOST_AUTO_TEST_CASE(a_group_with_an_emulated_iommu_takes_the_ability_away_while_it_is_there) {
  moving on;
  const auto can = [&] {
    return on.done<container_info>([&](auto token) { on.here->async_info(std::move(token)); }).value().can_release_addresses;
  };
  BOOST_TEST(can());
  BOOST_REQUIRE(on.connect(0));
  BOOST_TEST(!can());
  BOOST_REQUIRE(on.map(0, 1));
  on.asked();
  BOOST_TEST(on.release().error().code == make_error_code(errc::release_not_supported));
  BOOST_TEST(on.asked().empty());
  BOOST_REQUIRE(on.done([&](auto token) { on.here->async_disconnect(0, std::move(token)); }));
  BOOST_TEST(can());
  BOOST_TEST(on.release().has_value());
}

// --- while addresses are released ---

// covers R24
BOOST_AUTO_TEST_CASE(mappings_come_and_go_while_others_have_no_address) {
  moving on;
  BOOST_REQUIRE(on.map(0, 2));
  BOOST_REQUIRE(on.map(8, 2));
  BOOST_REQUIRE(on.release());
  BOOST_TEST(on.unmap(0, 2).value() == 2 * page);
  BOOST_TEST(on.map(0, 4).has_value());
  check(on.held(), {"0+4 old", "8+2 none"});
  BOOST_REQUIRE(on.renew({on.moved(8, 2)}));
  check(on.held(), {"0+4 old", "8+2 new"});
  BOOST_REQUIRE(on.release());
  BOOST_TEST(on.done<std::uint64_t>([&](auto token) { on.here->async_unmap_all(std::move(token)); }).value() == 6 * page);
  BOOST_TEST(on.renew({}).has_value());
}

// covers R22 R24: it would map what is not there any more
BOOST_AUTO_TEST_CASE(a_transaction_does_not_unmap_what_it_could_not_map_again) {
  moving on;
  BOOST_REQUIRE(on.map(8, 2));
  BOOST_REQUIRE(on.release());
  BOOST_REQUIRE(on.map(0, 2));
  BOOST_REQUIRE(on.map(4, 1));  // so that each unmap is an ioctl of its own
  on.asked();
  const std::vector<change> both{iova_range{0, 2 * page}, on.pages(32, 1), iova_range{8 * page, 2 * page}};
  const auto refused = on.apply(both);
  BOOST_TEST(refused.error().code == make_error_code(errc::addresses_released));
  BOOST_TEST((refused.error().range == iova_range{8 * page, 2 * page}));
  BOOST_TEST(refused.error().undone == "the mappings are as before");
  BOOST_TEST(on.asked().empty());
  check(on.held(), {"0+2 old", "4+1 old", "8+2 none"});
  BOOST_TEST(on.apply({iova_range{0, 2 * page}, on.pages(32, 1)}).has_value());
  BOOST_REQUIRE(on.renew({on.moved(8, 2)}));
  BOOST_TEST(on.apply({iova_range{32 * page, page}, iova_range{8 * page, 2 * page}}).has_value());
  check(on.held(), {"4+1 old"});
}

// covers R22 R24
BOOST_AUTO_TEST_CASE(what_a_transaction_takes_back_is_where_its_memory_is_now) {
  moving on;
  BOOST_REQUIRE(on.map(0, 2));
  BOOST_REQUIRE(on.release());
  BOOST_REQUIRE(on.renew({on.moved(0, 2)}));
  on.watch(failing(verb::map, 1, ENOMEM));
  const auto failed = on.apply({iova_range{0, 2 * page}, on.pages(8, 1)});
  BOOST_TEST(failed.error().undone == "the mappings are as before");
  check(on.held(), {"0+2 new"});
}

// covers R3 R24: the kernel could not pin for it; it is no reason to try another container
BOOST_AUTO_TEST_CASE(no_group_comes_while_an_address_is_released) {
  kernel::model_options options;
  options.groups.push_back({.number = 3, .iommu_backed = true, .devices = {"0000:00:05.0"}});
  moving on({.in_place_bytes_max = 0}, options);
  BOOST_REQUIRE(on.map(0, 2));
  BOOST_REQUIRE(on.release());
  const auto ioctls = on.files.ioctls();
  const auto refused = on.connect(3);
  BOOST_TEST(refused.error().code == make_error_code(errc::addresses_released));
  BOOST_TEST(says(refused.error(), "renew the addresses first"));
  BOOST_TEST(on.files.ioctls() == ioctls);
  BOOST_REQUIRE(on.renew({on.moved(0, 2)}));
  BOOST_TEST(on.connect(3).has_value());
}

// covers R24
BOOST_AUTO_TEST_CASE(the_last_group_takes_released_mappings_with_it) {
  moving on;
  BOOST_REQUIRE(on.map(0, 2));
  BOOST_REQUIRE(on.release());
  BOOST_REQUIRE(on.done([&](auto token) { on.here->async_disconnect(backed, std::move(token)); }));
  BOOST_REQUIRE(on.connect(backed));
  BOOST_TEST(on.map(0, 2).has_value());
  BOOST_TEST(on.renew({}).has_value());
}

// covers R24: both wait for what came before, and what comes behind waits for them
BOOST_AUTO_TEST_CASE(requests_keep_their_order) {
  moving on({.piece_bytes = 64 * page, .in_place_bytes_max = 0});
  std::string log;
  const auto note = [&](char what) { return [&log, what](const result<void>& outcome) { log += outcome ? what : '!'; }; };
  on.here->async_map(on.pages(512, 256), note('m'));  // in pieces, between which others get their turn
  on.here->async_release_addresses(note('r'));
  on.here->async_map(on.pages(0, 1), note('n'));
  on.here->async_renew_addresses({on.moved(512, 256)}, note('a'));
  on.settle();
  BOOST_TEST(log == "mrna");
  check(on.held(), {"0+1 old", "512+64 new", "576+64 new", "640+64 new", "704+64 new"});
}

// --- failures ---

// covers R18 R24: every call in turn
BOOST_AUTO_TEST_CASE(a_renewal_that_fails_half_way_says_who_has_an_address_and_goes_on_when_asked_again) {
  for (std::size_t n = 1; n <= 4; ++n) {
    moving on;
    for (std::uint64_t i = 0; i < 4; ++i) BOOST_REQUIRE(on.map(4 * i, 2));
    BOOST_REQUIRE(on.release());
    std::vector<moved_memory> all;
    strings expected;
    for (std::uint64_t i = 0; i < 4; ++i) {
      all.push_back(on.moved(4 * i, 2));
      expected.push_back(std::to_string(4 * i) + "+2 " + (i + 1 < n ? "new" : "none"));
    }
    on.watch(failing(verb::renew, n));
    const auto failed = on.renew(all);
    BOOST_TEST(failed.error().code.value() == EIO);
    BOOST_TEST((failed.error().range == iova_range{4 * (n - 1) * page, 2 * page}));
    BOOST_TEST(failed.error().undone == std::to_string(n - 1) + " below have their addresses, this one and " +
                                            std::to_string(4 - n) + " above have none");
    check(on.held(), expected);
    on.asked();
    BOOST_TEST(on.renew(all).has_value());
    BOOST_TEST(on.asked().size() == 5 - n);  // the rest, and no more
    check(on.held(), {"0+2 new", "4+2 new", "8+2 new", "12+2 new"});
  }
}

// covers R24
BOOST_AUTO_TEST_CASE(what_was_renewed_half_way_can_be_released_again) {
  moving on;
  for (std::uint64_t i = 0; i < 3; ++i) BOOST_REQUIRE(on.map(4 * i, 2));
  BOOST_REQUIRE(on.release());
  on.watch(failing(verb::renew, 2));
  BOOST_REQUIRE(!on.renew({on.moved(0, 2), on.moved(4, 2), on.moved(8, 2)}));
  on.asked();
  BOOST_REQUIRE(on.release());
  check(on.asked(), {{verb::release, 0, 2}});
  check(on.held(), {"0+2 none", "4+2 none", "8+2 none"});
  BOOST_TEST(on.renew({on.moved(0, 10)}).error().code.value() == ENOENT);
  BOOST_TEST(on.renew({on.moved(0, 2), on.moved(4, 2), on.moved(8, 2)}).has_value());
}

// covers R24
BOOST_AUTO_TEST_CASE(a_release_that_is_refused_leaves_every_address) {
  moving on;
  BOOST_REQUIRE(on.map(0, 2));
  on.watch(failing(verb::release, 1, EBUSY));
  const auto refused = on.release();
  BOOST_TEST(refused.error().code.value() == EBUSY);
  BOOST_TEST(refused.error().undone == "every mapping has its address");
  check(on.held(), {"0+2 old"});
  BOOST_TEST(on.release().has_value());
}

// covers R24: of several ioctls the second is refused, then what takes the first back, too
BOOST_AUTO_TEST_CASE(a_release_that_is_refused_half_way_is_taken_back) {
  for (const bool undone : {true, false}) {
    moving on;
    BOOST_REQUIRE(on.map(4, 2));
    BOOST_REQUIRE(on.release());
    for (const std::uint64_t first : {0UL, 1UL, 8UL}) BOOST_REQUIRE(on.map(first, 1));
    on.watch([undone](const made& one) -> std::optional<int> {
      const bool fails = one == made{verb::release, 8, 1} || (!undone && one == made{verb::renew, 1, 1});
      return fails ? std::optional(-EBUSY) : std::nullopt;
    });
    const auto refused = on.release();
    BOOST_TEST(refused.error().code.value() == EBUSY);
    BOOST_TEST((refused.error().range == iova_range{8 * page, page}));
    if (undone) {
      BOOST_TEST(refused.error().undone == "every mapping has its address");
      check(on.held(), {"0+1 old", "1+1 old", "4+2 none", "8+1 old"});
      BOOST_TEST(on.renew({on.moved(4, 2)}).has_value());
    } else {
      BOOST_TEST(
          says(refused.error(), "not undone: mappings without an address: 1: renew host addresses [0x1000, +0x1000)"));
      check(on.held(), {"0+1 old", "1+1 none", "4+2 none", "8+1 old"});
      on.watch();
      BOOST_TEST(on.renew({on.moved(1, 1), on.moved(4, 2)}).has_value());
    }
  }
}

// covers R18 R24
BOOST_AUTO_TEST_CASE(a_mapping_that_the_kernel_lost_keeps_no_other_from_its_address) {
  moving on;
  BOOST_REQUIRE(on.map(0, 2));
  on.watch([](const made& one) { return one == made{verb::map, 8, 1} ? std::optional(0) : std::nullopt; });
  BOOST_REQUIRE(on.map(8, 1));  // so the book says
  const auto failed = on.release();
  BOOST_TEST(failed.error().code.value() == EIO);
  BOOST_TEST(says(failed.error(), "the kernel released 8192 bytes where 12288 are mapped"));
  BOOST_TEST(says(failed.error(), "not undone: mappings without an address: 1: renew host addresses [0x8000, +0x1000)"));
  check(on.held(), {"0+2 old"});
  BOOST_TEST(on.unmap(8, 1).value() == 0 + page);
  BOOST_TEST(on.warnings.size() == 1U);
  BOOST_TEST(on.release().has_value());
  BOOST_TEST(on.renew({on.moved(0, 2)}).has_value());
}

namespace {

/// Renews, and ends the container's life at some mapping.
struct ending_driver final : backend::iommu {
  result<container_info> read_info() override { return container_info{}; }
  result<void> map(const mapping&) override { return {}; }
  result<std::uint64_t> unmap(iova_range, std::span<std::uint64_t>) override { return std::uint64_t{0}; }
  result<void> renew_address(iova_range range, std::byte*) override {
    closing = range.iova == page;
    return {};
  }
  std::atomic<bool> closing = false;
};

}  // namespace

// covers R24: a container that ends waits for one ioctl, however many mappings there are
BOOST_AUTO_TEST_CASE(a_renewal_ends_when_its_container_does) {
  const memory ram(4);
  dma::mapping_book book;
  for (std::uint64_t i = 0; i < 4; ++i) {
    book.add(i * page, {page, ram.data(), true, false});
    book.release(i * page);
  }
  ending_driver driver;
  container_info info;
  info.page_sizes = page;
  info.can_release_addresses = true;
  const auto ended = dma::renew_addresses(book, driver, info, {{{0, 4 * page}, ram.data()}}, driver.closing);
  BOOST_TEST(ended.error().code == boost::asio::error::operation_aborted);
  BOOST_TEST((ended.error().range == iova_range{2 * page, page}));
  BOOST_TEST(ended.error().undone == "2 below have their addresses, this one and 1 above have none");
  for (const auto& [iova, held] : book) BOOST_TEST(held.released() == (iova >= 2 * page));
}

// covers R24: random mappings in random pieces, calls that fail at random, until all is well
BOOST_AUTO_TEST_CASE(whatever_fails_every_mapping_has_its_address_in_the_end) {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      std::mt19937 random(seed);
      const auto one_in = [&](unsigned n) { return random() % n == 0; };
      moving on({.piece_bytes = std::uint64_t{1} << (12 + random() % 4), .in_place_bytes_max = 0});
      std::vector<moved_memory> all;  // of each mapping as it was asked for
      for (std::uint64_t at = 0; at < 200;) {
        const std::uint64_t count = 1 + random() % 24;
        const auto asked = on.pages(at, count, one_in(2) ? 32 : 0);
        on.here->async_map(asked, [](const result<void>& mapped) { BOOST_TEST(mapped.has_value()); });
        all.push_back(on.moved(at, count));
        at += count + (one_in(2) ? random() % 8 : 0);
        if (one_in(3)) on.settle();
      }
      on.settle();
      const auto count = on.model.mapping_count();
      on.watch([&](const made& one) -> std::optional<int> {
        return one.what != verb::map && one_in(6) ? std::optional(-EIO) : std::nullopt;
      });
      for (int round = 0; round < 3; ++round) {
        while (!on.release()) {
        }
        for (const auto& state : on.held()) BOOST_TEST(state.ends_with("none"));
        std::shuffle(all.begin(), all.end(), random);
        for (auto renewed = on.renew(all); !renewed; renewed = on.renew(all)) {
          BOOST_REQUIRE(renewed.error().code.value() == EIO);
          const auto held = on.held();
          const auto without =
              std::count_if(held.begin(), held.end(), [](const auto& state) { return state.ends_with("none"); });
          BOOST_TEST(says(renewed.error(), "this one and " + std::to_string(without - 1) + " above have none"));
        }
        for (const auto& state : on.held()) BOOST_TEST(state.ends_with("new"));
        BOOST_TEST(on.model.mapping_count() == count);
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
