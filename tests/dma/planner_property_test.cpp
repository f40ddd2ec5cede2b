// SPDX-License-Identifier: Apache-2.0
//
// A million random batches, planned, carried out on a kernel that refuses whatever type1 would refuse, and compared with the
// same changes made one after the other, page by page, by a reference that is written to be obvious. Batches come in storms:
// each finds what the ones before it left, so what was merged or cut is later unmapped as it may be, and as it may not.
// A seed names a storm.

#include <algorithm>
#include <array>
#include <bit>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "dma/plain_plan.hpp"
#include "dma/planner_batches.hpp"
#include "dma/planner_reference.hpp"

using namespace tidemark;
using namespace tidemark::dma;
using namespace tidemark::dma::planning;

namespace {

// ---- What is counted, to know that the storms were storms ----

struct tally {
  std::uint64_t plans = 0, changes = 0, steps = 0, settled = 0, merged = 0, cut = 0, enlarged = 0, joined = 0,
                everything = 0, halves = 0, moved_halves = 0, kept_in_order = 0, whole_transactions = 0, taken_back = 0,
                at_the_end = 0, plain = 0, spanning = 0;
  std::map<int, std::uint64_t> refused;
};

// ---- A storm ----

class storm {
 public:
  storm(std::uint64_t seed, tally& counted) : engine_(seed), counted_(counted) {
    choose_ground();
    expected_.emplace(where_);
    kernel_.emplace(where_);
  }

  void rage(int batches) {
    author writes(engine_, where_);
    for (number_ = 0; number_ < batches; ++number_) {
      changes_ = writes.batch(*expected_);
      const auto available = below(3) == 0 ? below(8) : below(3) == 0 ? below(64) : 65535 - kernel_->size();
      where_.limits.mappings_available = available;
      where_.limits.can_unmap_all = below(2) == 0;
      where_.limits.can_unmap_gaps = below(2) == 0;
      kernel_->allow(available);
      plan_.clear();
      counted_.plain += make_plain_plan(book_, changes_, where_.limits, plan_) ? 1U : 0U;
      make_plan(book_, changes_, where_.limits, plan_);
      expected_->make(changes_, available);
      only_unmaps_ = has_only_unmaps();
      check_verdicts();
      check_steps();
      check_unmaps();
      carry_out();
      check_mappings();
      count();
    }
  }

  std::string describe() const {
    std::ostringstream text;
    text << "batch " << number_ << std::hex << ", pages of 0x" << where_.page() << " from 0x" << where_.base << ", pieces 0x"
         << where_.limits.piece_bytes << std::dec << ", available " << where_.limits.mappings_available << "\n";
    for (std::size_t i = 0; i < changes_.size(); ++i) {
      const auto& one = changes_[i];
      const auto from = static_cast<std::int64_t>((one.at.iova - where_.base) / where_.page());
      text << "  " << i << ": "
           << (one.what == kind::map     ? "map "
               : one.what == kind::unmap ? "unmap "
                                         : "everything ")
           << from << "+" << one.at.size / where_.page() << " host 0x" << std::hex << address_of(one.host) << " unit 0x"
           << one.unit << std::dec << (one.writable ? "" : " read-only") << (one.is_alone() ? " alone" : "")
           << " transaction " << one.transaction << " -> "
           << static_cast<int>(expected_->of(static_cast<std::uint32_t>(i)).what) << " "
           << expected_->of(static_cast<std::uint32_t>(i)).code.message();
      if (i < verdicts_.size())
        text << ", found " << static_cast<int>(verdicts_[i].what) << " " << verdicts_[i].code.message();
      text << "\n";
    }
    for (const auto& step : plan_.steps) {
      text << "  step " << static_cast<int>(step.what) << " " << (step.at.iova - where_.base) / where_.page() << "+"
           << step.at.size / where_.page() << (step.continues ? " continues" : "") << " for";
      for (const auto which : plan_.served_by(step)) text << " " << which;
      text << "\n";
    }
    return text.str();
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }

  void choose_ground() {
    constexpr std::array<std::uint64_t, 5> sizes{4096, 65536, 2ULL << 20, 1ULL << 30, 1ULL << 58};
    const auto page = sizes[below(sizes.size())];
    where_.limits.page_size = page;
    where_.limits.piece_bytes = below(3) == 0 ? half : page << std::min<std::uint64_t>(below(5), 5);
    if (page < (1ULL << 58)) {
      const std::array<std::uint64_t, 5> bases{0, 0 - pages * page, half - 20 * page, 4ULL << 30, (1ULL << 33) + 7 * page};
      where_.base = bases[below(bases.size())];
    }
    if (below(3) == 0) {
      for (std::uint64_t from = below(8); from < pages;) {
        const auto count = std::min<std::uint64_t>(8 + below(40), pages - from);
        where_.windows.push_back(where_.at(from, count));
        from += count + (below(2) == 0 ? 0 : below(6));
      }
    }
    where_.limits.windows = where_.windows;
  }

  /// Every change is one of served, settled and refused, and that which the reference says.
  void check_verdicts() {
    verdicts_.assign(changes_.size(), {});
    told_.assign(changes_.size(), 0);
    for (const auto which : plan_.served) told_.at(which) = 1;
    for (const auto which : plan_.settled) tell_once(which, outcome::settled);
    for (const auto& [which, why] : plan_.refused) {
      tell_once(which, outcome::refused);
      verdicts_[which].code = why.code;
      check_words(changes_[which], why);
    }
    require(std::is_sorted(plan_.refused.begin(), plan_.refused.end(),
                           [](const plan_refusal& a, const plan_refusal& b) { return a.which < b.which; }),
            "refusals out of order");
    for (std::uint32_t i = 0; i < changes_.size(); ++i) {
      require(told_[i] != 0, "a change was forgotten");
      require(verdicts_[i].what == expected_->of(i).what && verdicts_[i].code == expected_->of(i).code,
              "another verdict on a change than the reference's");
    }
  }

  void tell_once(std::uint32_t which, outcome what) {
    require(told_.at(which) == 0, "a change was told of twice");
    told_[which] = 1;
    verdicts_[which].what = what;
  }

  static void check_words(const change& what, const error& why) {
    require(why.range == what.at && why.what == (what.what == kind::map ? operation::map : operation::unmap),
            "a refusal of something else");
    require(!why.detail.empty(), "a refusal without a reason");
  }

  std::uint32_t group_of(std::uint32_t which) const {
    const auto number = changes_[which].transaction;
    while (number != 0 && which > 0 && changes_[which - 1].transaction == number) --which;
    return number == 0 ? 0 : which + 1;
  }

  /// Steps are about what their changes name, no more and no less, and as many as there have to be.
  void check_steps() {
    pieces_.assign(changes_.size(), 0);
    std::size_t further_pieces = 0;
    for (std::size_t i = 0; i < plan_.steps.size(); ++i) {
      const auto& step = plan_.steps[i];
      const auto served = plan_.served_by(step);
      require(!served.empty(), "a step that serves nobody");
      for (const auto which : served) {
        ++pieces_[which];
        require(group_of(which) == group_of(served.front()), "changes of two transactions in one step");
        require(!changes_[which].is_alone() || served.size() == 1, "an unmap that was to be alone is not");
      }
      const auto& first = changes_[served.front()];
      const bool follows = step.continues || (first.what == kind::unmap_everything && step.at.iova != 0);
      further_pieces += follows ? 1U : 0U;
      if (step.continues) check_cut(step, plan_.steps[i - 1]);
      if (first.what != kind::unmap_everything && !step.continues) check_range(i);
    }
    for (std::uint32_t i = 0; i < changes_.size(); ++i) check_pieces(i);
    const auto served = changes_.size() - plan_.settled.size() - plan_.refused.size();
    require(plan_.steps.size() <= served + further_pieces, "more ioctls than changes and pieces");
  }

  void check_pieces(std::uint32_t which) const {
    const auto& what = changes_[which];
    if (expected_->of(which).what != outcome::served)
      return require(pieces_[which] == 0, "a change served that was not to be");
    if (what.what == kind::map)
      return require(pieces_[which] == expected_->made_by(which).mappings, "not the pieces expected");
    if (what.what == kind::unmap) return require(pieces_[which] == 1, "an unmap in pieces");
    require(pieces_[which] == (where_.limits.can_unmap_all ? 1U : 2U), "everything, in pieces");
  }

  void check_cut(const plan_step& step, const plan_step& before) const {
    require(step.served == before.served && step.what == kind::map && last_of(before.at) + 1 == step.at.iova,
            "a piece that does not follow the one before it");
    const auto& whole = expected_->made_by(plan_.served_by(step).front());
    if (step.at.iova % (2ULL << 20) == address_of(step.host) % (2ULL << 20))
      require(step.at.iova % whole.piece == 0, "a cut inside a huge page");
    require(step.at.size <= whole.piece, "too large a piece");
  }

  /// The step at `index`, with the pieces that follow it, is its changes' ranges.
  void check_range(std::size_t index) const {
    iova_range at = plan_.steps[index].at;
    for (auto i = index + 1; i < plan_.steps.size() && plan_.steps[i].continues; ++i) at.size += plan_.steps[i].at.size;
    std::uint64_t size = 0;
    const auto served = plan_.served_by(plan_.steps[index]);
    for (const auto which : served) {
      require(changes_[which].what == plan_.steps[index].what, "a step of another kind than its change");
      require(covers(at, changes_[which].at), "a step that leaves out some of a change");
      size += changes_[which].at.size;
      const auto unit = changes_[which].unit;
      if (at.size != changes_[which].at.size && changes_[which].what == kind::map)
        require(unit != 0 && at.iova / unit == last_of(at) / unit, "a map merged across a unit's border");
    }
    const bool may_span = plan_.steps[index].what == kind::unmap && where_.limits.can_unmap_gaps;
    require(size == at.size || (may_span && size < at.size), "a step over what no change named");
  }

  /// Unmaps of neighbours in the book are one step. What is in between where they are not was seen to be there.
  void check_unmaps() const {
    const auto is_plain = [this](const plan_step& step) {
      const auto& first = changes_[plan_.served_by(step).front()];
      return first.what == kind::unmap && !first.is_alone();
    };
    for (std::size_t i = 0; i + 1 < plan_.steps.size() && is_plain(plan_.steps[i]) && is_plain(plan_.steps[i + 1]); ++i) {
      const auto& [a, b] = std::pair(plan_.steps[i], plan_.steps[i + 1]);
      const bool same = group_of(plan_.served_by(a).front()) == group_of(plan_.served_by(b).front());
      const bool all = a.at.iova == 0 && last_of(b.at) == ~0ULL;
      require(!same || all || last_of(a.at) + 1 != b.at.iova || b.at.iova == 0, "unmaps of neighbours were not joined");
      if (same && !all && where_.limits.can_unmap_gaps && only_unmaps_ && last_of(a.at) < b.at.iova)
        require(!book_.is_free({last_of(a.at) + 1, b.at.iova - last_of(a.at) - 1}) || last_of(a.at) + 1 == b.at.iova,
                "unmaps with nothing in between were not joined");
    }
  }

  /// Whether the batch is unmaps that have nothing to do with each other.
  bool has_only_unmaps() const {
    auto ranges = std::vector<iova_range>();
    for (const auto& one : changes_) {
      if (one.what != kind::unmap || one.at.size == 0 || last_of(one.at) < one.at.iova) return false;
      ranges.push_back(one.at);
    }
    std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.iova < b.iova; });
    return std::adjacent_find(ranges.begin(), ranges.end(), meet) == ranges.end();
  }

  bool names_all(const plan_step& step) const {
    std::uint64_t named = 0;
    for (const auto which : plan_.served_by(step)) named += changes_[which].at.size;
    return named == step.at.size;
  }

  /// No mapping goes that was not asked to.
  void check_gone(const plan_step& step) const {
    const auto served = plan_.served_by(step);
    if (step.what != kind::unmap || changes_[served.front()].what == kind::unmap_everything) return;
    for (const auto& [iova, what] : kernel_->mappings()) {
      const iova_range held{iova, what.size};
      const auto names = [&](std::uint32_t which) { return covers(changes_[which].at, held); };
      require(!meet(held, step.at) || std::any_of(served.begin(), served.end(), names), "an unmap of what no change named");
    }
  }

  void carry_out() {
    for (const auto& step : plan_.steps) {
      const bool is_half =
          step.what == kind::unmap && changes_[plan_.served_by(step).front()].what == kind::unmap_everything;
      check_gone(step);
      kernel_->carry_out(step, is_half, book_);
    }
  }

  /// What the kernel holds is, page by page, what the reference does, and may be unmapped where that may be.
  void check_mappings() const {
    std::vector<reference::cell> found(pages);
    std::size_t at_all = 0;
    for (const auto& [iova, what] : kernel_->mappings())
      for (std::uint64_t offset = 0; offset < what.size; offset += where_.page(), ++at_all)
        found.at((iova + offset - where_.base) / where_.page()) = {0, what.host + offset, what.writable};
    std::size_t expected = 0;
    for (std::size_t i = 0; i < pages; ++i) {
      const auto& cell = expected_->cells()[i];
      expected += cell.thing >= 0 ? 1U : 0U;
      require((cell.thing >= 0) == (found[i].thing >= 0), "mapped or not, unlike the reference");
      require(cell.thing < 0 || (cell.host == found[i].host && cell.writable == found[i].writable),
              "mapped to other memory");
    }
    require(at_all == expected, "mapped beyond what was asked for");
    require(book_.size() == kernel_->size(), "the book is not what the kernel holds");
    for (std::size_t i = 0; i + 1 < pages; ++i) {
      const auto &low = expected_->cells()[i], &high = expected_->cells()[i + 1];
      const bool one = low.thing >= 0 && low.thing == high.thing;
      require((book_.across(where_.page_at(i + 1).iova) != book_.end()) == one,
              "what is one is not what was asked for as one");
    }
  }

  void count() {
    ++counted_.plans;
    counted_.changes += changes_.size();
    counted_.steps += plan_.steps.size();
    counted_.settled += plan_.settled.size();
    for (const auto& [which, why] : plan_.refused) {
      ++counted_.refused[why.code.value()];
      counted_.taken_back += why.undone.empty() ? 0U : 1U;
    }
    bool mapped = false;
    for (const auto& step : plan_.steps) {
      const auto& first = changes_[plan_.served_by(step).front()];
      const bool everything = first.what == kind::unmap_everything;
      counted_.merged += step.what == kind::map && step.served_count > 1 ? 1U : 0U;
      counted_.joined += step.what == kind::unmap && step.served_count > 1 ? 1U : 0U;
      counted_.spanning += step.what == kind::unmap && step.served_count > 1 && !names_all(step) ? 1U : 0U;
      counted_.cut += step.continues ? 1U : 0U;
      counted_.enlarged += step.what == kind::map && step.at.size > where_.limits.piece_bytes ? 1U : 0U;
      counted_.everything += step.what == kind::unmap_everything ? 1U : 0U;
      counted_.halves += everything && step.at == iova_range{half, half} ? 1U : 0U;
      counted_.moved_halves += everything && step.at.iova != half && step.at.iova != 0 ? 1U : 0U;
      counted_.kept_in_order += mapped && step.what == kind::unmap && !everything ? 1U : 0U;
      counted_.whole_transactions += first.transaction != 0 ? 1U : 0U;
      counted_.at_the_end += step.at.size != 0 && last_of(step.at) == ~0ULL ? 1U : 0U;
      mapped = mapped || step.what == kind::map;
    }
  }

  std::mt19937_64 engine_;
  tally& counted_;
  ground where_;
  std::optional<reference> expected_;
  std::optional<strict_kernel> kernel_;
  mapping_book book_;
  plan plan_;
  std::vector<change> changes_;
  std::vector<verdict> verdicts_;
  std::vector<int> told_;
  std::vector<std::uint64_t> pieces_;  // steps, by change
  bool only_unmaps_ = false;
  int number_ = 0;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t storms = 1'000;
#else
constexpr std::uint64_t storms = 40'000;
#endif
constexpr int batches_a_storm = 25;

}  // namespace

BOOST_AUTO_TEST_SUITE(planner_properties)

// covers R14, R19, R20, R21, R22
BOOST_AUTO_TEST_CASE(plans_do_what_the_changes_one_after_the_other_would) {
  tally counted;
  for (std::uint64_t seed = 1; seed <= storms; ++seed) {
    storm rages(seed, counted);
    try {
      rages.rage(batches_a_storm);
    } catch (const failure& what) {
      BOOST_FAIL(what.what() << ": storm " << seed << ", " << rages.describe());
    }
  }
  BOOST_TEST_MESSAGE(counted.plans << " plans, " << counted.changes << " changes, " << counted.steps << " steps");
  for (const auto& [code, times] : counted.refused) BOOST_TEST_MESSAGE("refused with " << code << ": " << times);
  BOOST_TEST_MESSAGE("settled " << counted.settled << ", merged " << counted.merged << ", cut " << counted.cut
                                << ", enlarged " << counted.enlarged << ", joined " << counted.joined << ", everything "
                                << counted.everything << ", halves " << counted.halves << ", moved halves "
                                << counted.moved_halves << ", in order " << counted.kept_in_order << ", in transactions "
                                << counted.whole_transactions << ", taken back " << counted.taken_back << ", at the end "
                                << counted.at_the_end << ", plain " << counted.plain << ", spanning " << counted.spanning);
  // Each of what there is to be seen was seen, and not by accident.
  for (const auto seen :
       {counted.settled, counted.merged, counted.cut, counted.enlarged, counted.joined, counted.everything, counted.halves,
        counted.moved_halves, counted.kept_in_order, counted.whole_transactions, counted.taken_back, counted.at_the_end,
        counted.plain, counted.spanning, counted.refused[EINVAL], counted.refused[EEXIST],
        counted.refused[static_cast<int>(errc::outside_window)], counted.refused[static_cast<int>(errc::no_mapping_left)]})
    BOOST_TEST(seen > storms / 100);
}

BOOST_AUTO_TEST_SUITE_END()
