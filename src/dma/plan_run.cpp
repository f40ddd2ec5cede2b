// SPDX-License-Identifier: Apache-2.0

#include "dma/plan_run.hpp"

#include <boost/asio/error.hpp>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>

#include "core/bitmap.hpp"
#include "dma/dirty_slices.hpp"
#include "dma/host_pages.hpp"

namespace tidemark::dma {

namespace {

constexpr iova_range everything{};                          // of unmap_everything
constexpr std::uint64_t populate_from_bytes = 32ULL << 20;  // from where several processors are worth their threads

bool is_errno(const error& what, int errno_value) {
  return what.code.category() == boost::system::system_category() && what.code.value() == errno_value;
}

bool ends_at_the_top(const iova_range& range) noexcept { return range.size != 0 && range.iova + range.size == 0; }

mapping mapping_of(const plan_step& step) { return {.at = step.at, .host = step.host, .writable = step.writable}; }

/// What error::undone says of the pieces before one that failed.
std::string taken_back(const result<void>& undone) {
  return undone ? "nothing of it is mapped" : "not undone: " + undone.error().message();
}

std::string in_words(std::uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

}  // namespace

void plan_run::start(std::span<const change> changes, std::uint64_t page_size) {
  changes_ = changes;
  outcomes_.resize(changes.size());
  for (auto& one : outcomes_) one.reset();
  deeds_.clear();
  looked_through_ = 0;
  page_size_ = page_size;
  next_ = 0;
}

change_outcome& plan_run::carry_out(const change& only, const plan_step& planned, std::uint64_t page_size,
                                    backend::iommu& driver) {
  start({&only, 1}, page_size);
  plan_.clear();
  plan_.served.push_back(0);
  planned.what == change::kind::map ? map(planned, driver) : unmap(planned, driver);
  return outcomes_.front();
}

void plan_run::begin(std::span<const change> changes, const plan_limits& limits) {
  start(changes, limits.page_size);
  make_plan(book_, changes_, limits, plan_);
  for (auto& refusal : plan_.refused) outcomes_[refusal.which].failure = std::make_unique<error>(std::move(refusal.why));
  if (!plan_.settled.empty()) answer_settled();
}

/// An unmap that cancelled maps unmapped as much as they would have mapped.
void plan_run::answer_settled() {
  std::vector<bool> settled(changes_.size());
  for (const auto i : plan_.settled) settled[i] = true;
  std::map<std::uint64_t, std::uint64_t> mapped;  // size by IOVA, of maps that were cancelled
  for (std::size_t i = 0; i < changes_.size(); ++i) {
    const auto& asked = changes_[i];
    if (asked.what == change::kind::map) {
      if (settled[i]) mapped[asked.at.iova] = asked.at.size;
      continue;
    }
    if (outcomes_[i].failure) continue;
    const bool all = asked.at == everything;
    auto at = all ? mapped.begin() : mapped.lower_bound(asked.at.iova);
    for (; at != mapped.end() && (all || at->first - asked.at.iova < asked.at.size); at = mapped.erase(at))
      outcomes_[i].cancelled += at->second;
    if (settled[i]) std::fill(changes_[i].dirty.begin(), changes_[i].dirty.end(), 0);
  }
}

/// Whether all that it serves has failed already: a piece of a map, a part of a transaction.
bool plan_run::is_dead(const plan_step& step) const {
  const auto changes = plan_.served_by(step);
  return std::all_of(changes.begin(), changes.end(), [&](std::uint32_t i) { return outcomes_[i].failure != nullptr; });
}

bool plan_run::advance(backend::iommu& driver, const std::atomic<bool>& closing) {
  while (next_ < plan_.steps.size()) {
    if (closing) return abandon(driver), false;
    const auto& step = plan_.steps[next_++];
    if (!is_dead(step)) step.what == change::kind::map ? map(step, driver) : unmap(step, driver);
    const bool in_between = next_ < plan_.steps.size() && plan_.steps[next_].continues && !is_dead(plan_.steps[next_]);
    if (in_between) return true;
  }
  return false;
}

void plan_run::abandon(backend::iommu& driver) {
  const boost::system::error_code code = boost::asio::error::operation_aborted;
  for (; next_ < plan_.steps.size(); ++next_) {
    const auto& step = plan_.steps[next_];
    if (is_dead(step)) continue;
    error why{code, step.what == change::kind::map ? operation::map : operation::unmap, step.at, {}, {}};
    if (step.continues) why.undone = taken_back(take_back_pieces(step, driver));
    for (const auto i : plan_.served_by(step)) fail(i, why, driver);
  }
}

// --- maps ---

void plan_run::map(const plan_step& step, backend::iommu& driver) {
  auto mapped = map_range(step, driver);
  const auto changes = plan_.served_by(step);
  if (mapped) {
    book_.add(step.at.iova, {step.at.size, step.host, step.writable, step.continues});
    return note(changes_[changes.front()].transaction, step.at);
  }
  skip_pieces();
  const auto undone = step.continues ? take_back_pieces(step, driver) : result<void>{};
  if (changes.size() > 1 && undone) return map_one_by_one(step, driver);
  error why = mapped.error();
  if (step.continues) why.undone = taken_back(undone);
  for (const auto i : changes) {
    why.range = changes_[i].at;
    fail(i, why, driver);
  }
}

/// Those behind one that failed.
void plan_run::skip_pieces() {
  while (next_ < plan_.steps.size() && plan_.steps[next_].continues) ++next_;
}

result<void> plan_run::map_range(const plan_step& step, backend::iommu& driver) {
  if (step.at.size >= populate_from_bytes) populate(step.host, step.at.size, step.writable);
  auto mapped = driver.map(mapping_of(step));
  if (mapped || !(is_errno(mapped.error(), EEXIST) || is_errno(mapped.error(), EBUSY)) || !book_.is_free(step.at))
    return mapped;
  const auto unmapped = driver.unmap(step.at, {});
  if (!unmapped) return mapped;
  warn(kernel_error(operation::map, EEXIST, step.at,
                    "the kernel held a mapping there that nobody knew of: " + in_words(*unmapped) + " were unmapped"));
  return driver.map(mapping_of(step));
}

void plan_run::map_one_by_one(const plan_step& step, backend::iommu& driver) {
  for (const auto i : plan_.served_by(step)) {
    if (outcomes_[i].failure) continue;  // with the rest of its transaction
    const auto& asked = changes_[i];
    const plan_step single{.what = asked.what, .at = asked.at, .host = asked.host, .writable = asked.writable};
    if (auto mapped = map_range(single, driver); !mapped) {
      fail(i, mapped.error(), driver);
      continue;
    }
    book_.add(asked.at.iova, {asked.at.size, asked.host, asked.writable, false});
    note(asked.transaction, asked.at);
  }
}

/// The pieces before this one.
result<void> plan_run::take_back_pieces(const plan_step& failed, backend::iommu& driver) {
  const auto first = changes_[plan_.served_by(failed).front()].at.iova;
  const iova_range before{first, failed.at.iova - first};
  const auto whole = driver.unmap(before, {});
  if (whole && *whole == before.size) {
    book_.remove(before);
    return {};
  }
  const auto left = unmap_each(before, driver);
  return left.empty() ? result<void>{} : left.front().why;
}

// --- unmaps ---

std::vector<plan_run::entry> plan_run::entries_in(iova_range range) const {
  std::vector<entry> list;
  const bool all = range == everything;
  for (auto at = all ? book_.begin() : book_.first_in(range); at != book_.end(); ++at) {
    if (!all && at->first - range.iova >= range.size) break;
    list.emplace_back(at->first, at->second);
  }
  return list;
}

std::uint64_t plan_run::bytes_in(iova_range range) const {
  std::uint64_t bytes = 0;
  const bool all = range == everything;
  for (auto at = all ? book_.begin() : book_.first_in(range); at != book_.end(); ++at) {
    if (!all && at->first - range.iova >= range.size) break;
    bytes += at->second.size();
  }
  return bytes;
}

/// Each mapping in the range by itself. What the kernel keeps.
std::vector<plan_run::leftover> plan_run::unmap_each(iova_range range, backend::iommu& driver) {
  std::vector<leftover> left;
  for (const auto& [iova, held] : entries_in(range)) {
    const iova_range one{iova, held.size()};
    if (const auto unmapped = driver.unmap(one, {})) {
      book_.remove(one);
    } else {
      left.push_back({one, unmapped.error()});
    }
  }
  return left;
}

/// Notes what each change will have unmapped, and gives the bytes of the whole step.
std::uint64_t plan_run::expect(const plan_step& step) {
  const auto changes = plan_.served_by(step);
  if (!step.is_just_what_is_held) {
    // A step that serves one change is all of it or, of everything, a half.
    for (const auto i : changes) outcomes_[i].bytes += bytes_in(changes.size() == 1 ? step.at : changes_[i].at);
    return bytes_in(step.at);
  }
  std::uint64_t held = 0;
  for (const auto i : changes) held += outcomes_[i].bytes = changes_[i].at.size;
  return held;
}

void plan_run::unmap(const plan_step& step, backend::iommu& driver) {
  const auto changes = plan_.served_by(step);
  const auto transaction = changes_[changes.front()].transaction;
  if (const auto why = cannot_be_taken_back(transaction)) return fail(changes.front(), *why, driver);
  const auto held = expect(step);
  if (transaction != 0) deeds_.push_back({transaction, {}, entries_in(step.at)});
  const auto unmapped = unmap_range(step, changes_[changes.front()].dirty, driver);
  if (unmapped && *unmapped == held) {
    step.at == everything ? book_.clear() : book_.remove(step.at);
    return;
  }
  if (unmapped) {
    warn(kernel_error(operation::unmap, EIO, step.at,
                      "the kernel unmapped " + in_words(*unmapped) + " where " + in_words(held) + " were mapped"));
    return unmap_one_by_one(step, driver);
  }
  // What the driver refused by itself, as a bitmap it cannot fill, it has not begun; and of one mapping there is no part.
  const bool is_as_before = unmapped.error().code.category() == tidemark_category() || entries_in(step.at).size() <= 1;
  if (!is_as_before) return unmap_one_by_one(step, driver);
  for (const auto i : changes) fail(i, unmapped.error(), driver);
}

/// Looked for in all that is left of the transaction, before the first of it is unmapped.
std::unique_ptr<error> plan_run::cannot_be_taken_back(std::uint32_t transaction) {
  if (transaction == 0 || !book_.may_be_released() || std::exchange(looked_through_, transaction) == transaction) return {};
  for (auto i = next_ - 1; i < plan_.steps.size(); ++i) {
    const auto& step = plan_.steps[i];
    const auto which = plan_.served_by(step).front();
    if (step.what == change::kind::map || changes_[which].transaction != transaction) continue;
    for (const auto& [iova, held] : entries_in(step.at))
      if (held.released())
        return std::make_unique<error>(make_error(operation::unmap, errc::addresses_released, {iova, held.size()},
                                                  "it could not be mapped again, should a change fail: renew it first"));
  }
  return {};
}

result<std::uint64_t> plan_run::unmap_range(const plan_step& step, std::span<std::uint64_t> dirty, backend::iommu& driver) {
  if (step.what == change::kind::unmap_everything) return driver.unmap_all();
  if (const auto max = driver.dirty_range_bytes_max(); !dirty.empty() && max != 0 && step.at.size > max)
    return unmap_in_slices(step.at, dirty, driver);
  auto unmapped = driver.unmap(step.at, dirty);
  if (unmapped || !ends_at_the_top(step.at) || !is_errno(unmapped.error(), EINVAL) || step.at.size == page_size_)
    return unmapped;
  return driver.unmap({step.at.iova, step.at.size - page_size_}, dirty);
}

/// A bitmap that is too large for one ioctl. A mapping that is too large by itself is found before anything is unmapped: the
/// driver refuses it.
result<std::uint64_t> plan_run::unmap_in_slices(iova_range range, std::span<std::uint64_t> dirty, backend::iommu& driver) {
  const auto bytes_max = driver.dirty_range_bytes_max();
  for (const auto& [iova, held] : entries_in(range))
    if (held.size() > bytes_max) return driver.unmap(range, dirty);
  std::fill(dirty.begin(), dirty.end(), 0);
  std::uint64_t bytes = 0;
  std::vector<std::uint64_t> bits;
  for (auto left = range;;) {
    const auto slice = first_slice(book_, left, bytes_max);
    if (slice.size == 0) return bytes;
    bits.resize(core::words_for(slice.size / page_size_));
    auto unmapped = driver.unmap(slice, bits);
    if (!unmapped) return unmapped;
    place_bits(dirty, (slice.iova - range.iova) / page_size_, bits, slice.size / page_size_);
    bytes += *unmapped;
    left = behind(left, slice);
  }
}

/// The kernel has done a part of it, and does not say which (R18).
void plan_run::unmap_one_by_one(const plan_step& step, backend::iommu& driver) {
  const auto changes = plan_.served_by(step);
  for (const auto i : changes) std::fill(changes_[i].dirty.begin(), changes_[i].dirty.end(), ~std::uint64_t{0});
  const auto left = unmap_each(step.at, driver);
  for (const auto i : changes) {
    const auto& asked = changes_[i].at;
    const auto stays = std::find_if(left.begin(), left.end(), [&](const leftover& one) {
      return asked == everything || one.at.iova - asked.iova < asked.size;
    });
    if (stays == left.end()) continue;
    error why = stays->why;
    why.range = asked;
    const auto still = bytes_in(asked);
    why.undone = in_words(outcomes_[i].bytes - still) + " are unmapped, " + in_words(still) + " are still mapped";
    fail(i, std::move(why), driver);
  }
}

// --- transactions ---

void plan_run::note(std::uint32_t transaction, iova_range mapped) {
  if (transaction != 0) deeds_.push_back({transaction, mapped, {}});
}

void plan_run::fail(std::uint32_t which, error why, backend::iommu& driver) {
  const auto transaction = changes_[which].transaction;
  if (transaction != 0) why.undone = take_back(transaction, driver);
  for (std::uint32_t i = 0; transaction != 0 && i < changes_.size(); ++i)
    if (i != which && changes_[i].transaction == transaction && !outcomes_[i].failure)
      outcomes_[i].failure = std::make_unique<error>(why);
  if (!outcomes_[which].failure) outcomes_[which].failure = std::make_unique<error>(std::move(why));
}

/// What error::undone says of the transaction.
std::string plan_run::take_back(std::uint32_t transaction, backend::iommu& driver) {
  std::string failed;
  for (auto done = deeds_.rbegin(); done != deeds_.rend(); ++done) {
    if (done->transaction != transaction) continue;
    if (auto undone = take_back(*done, driver); !undone) failed = undone.error().message();
    done->transaction = 0;
  }
  return failed.empty() ? "the mappings are as before" : "not undone everywhere: " + failed;
}

result<void> plan_run::take_back(const deed& done, backend::iommu& driver) {
  if (done.mapped.size != 0) {
    const auto unmapped = driver.unmap(done.mapped, {});
    if (!unmapped) return unmapped.error();
    book_.remove(done.mapped);
    return {};
  }
  result<void> outcome;
  for (const auto& [iova, held] : done.unmapped) {
    const iova_range range{iova, held.size()};
    if (!book_.is_free(range)) continue;  // it never went
    auto mapped = driver.map({.at = range, .host = held.host(), .writable = held.writable()});
    if (mapped) {
      auto restored = held;
      restored.set_continues(held.continues() && !book_.is_free({iova - 1, 1}));  // unless what it went on from stays away
      book_.add(iova, restored);
    } else {
      outcome = mapped;
    }
  }
  return outcome;
}

}  // namespace tidemark::dma
