// SPDX-License-Identifier: Apache-2.0
//
// Who may give guest memory back to the host while the guest runs, and who must not be undercut by it.
//
// Pages that a device has mapped are pinned: when a balloon discards one behind the IOMMU's back, the guest gets a new page
// and the device keeps writing the old. So whoever pins *blocks* discarding, and whoever discards *requires* it; what
// excludes each other is refused, by name. Discarding comes in two kinds. Uncoordinated: anything, any time (a balloon).
// Coordinated: the discarder tells address spaces of every populate and discard first (virtio-mem), so mappings follow.
//
//   block                  is refused while                     refuses
//   uncoordinated          uncoordinated is required            requiring uncoordinated
//   all                    anything is required                 requiring anything
//
// Type1 containers block `uncoordinated`, sPAPR containers `all`. A block or a requirement is a value: it ends when the
// value does, exactly once.
//
// Threading: any thread. Life: the service outlives what it handed out.

#pragma once

#include <tidemark/error.hpp>

#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace tidemark {

class ram_discard {
 public:
  enum class blocked : std::uint8_t { uncoordinated, all };
  enum class required : std::uint8_t { uncoordinated, coordinated };

  /// One who holds something, for people to read.
  struct holder {
    std::string who;  ///< "group 7", "balloon0"
    std::string why;  ///< "a type1 container pins guest memory"

    friend bool operator==(const holder&, const holder&) = default;
  };

 private:
  template <class Kind>
  struct entry {
    Kind kind;
    holder by;
  };
  template <class Kind>
  using entries = std::list<entry<Kind>>;

 public:
  /// Holds a place in the service until it is destroyed. Move-only; may be empty.
  template <class Kind>
  class [[nodiscard]] claim {
   public:
    claim() noexcept = default;
    claim(claim&& other) noexcept : service_(std::exchange(other.service_, nullptr)), place_(other.place_) {}
    claim& operator=(claim&& other) noexcept {
      std::swap(service_, other.service_);
      std::swap(place_, other.place_);
      return *this;
    }
    ~claim() {
      if (service_) service_->release(place_);
    }
    explicit operator bool() const noexcept { return service_ != nullptr; }

   private:
    friend class ram_discard;
    claim(ram_discard& service, typename entries<Kind>::iterator place) noexcept : service_(&service), place_(place) {}

    ram_discard* service_ = nullptr;
    typename entries<Kind>::iterator place_;
  };
  using block = claim<blocked>;
  using requirement = claim<required>;

  ram_discard() = default;
  ram_discard(const ram_discard&) = delete;

  /// EBUSY, naming who requires what this would forbid.
  result<block> try_block(blocked kind, holder by);
  /// EBUSY, naming who blocks it.
  result<requirement> try_require(required kind, holder by);

  /// Whether a requirement of this kind would be granted now.
  bool allows(required kind) const;

  /// All who block, and all who require, oldest first.
  std::vector<holder> blockers() const;
  std::vector<holder> requirers() const;

 private:
  static bool conflict(blocked a, required b) noexcept { return a == blocked::all || b == required::uncoordinated; }

  void release(entries<blocked>::iterator place);
  void release(entries<required>::iterator place);

  mutable std::mutex mutex_;
  entries<blocked> blocks_;
  entries<required> requirements_;
};

}  // namespace tidemark
