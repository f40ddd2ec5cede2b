// SPDX-License-Identifier: Apache-2.0

#include <tidemark/container.hpp>

#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>

#include <algorithm>
#include <utility>

#include "dma/carrier.hpp"
#include "dma/container_request.hpp"
#include "dma/dirty_reading.hpp"
#include "dma/handover.hpp"
#include "dma/host_pages.hpp"
#include "dma/lane.hpp"

namespace tidemark {

namespace asio = boost::asio;

namespace {

/// Warnings arise in the lane and are told on the executor.
std::function<void(const error&)> posted(const any_io_executor& executor, std::function<void(const error&)> warn) {
  if (!warn) return {};
  return [executor = asio::prefer(executor, asio::execution::outstanding_work.untracked),
          warn = std::make_shared<std::function<void(const error&)>>(std::move(warn))](const error& what) {
    asio::post(executor, [warn, what] { (*warn)(what); });
  };
}

constexpr std::size_t in_place_bytes_a_turn = 256 << 10;

dma::change change_of(const mapping& what) {
  return {.what = dma::change::kind::map,
          .writable = what.writable,
          .resident = what.resident,
          .at = what.at,
          .host = static_cast<std::byte*>(what.host),
          .unit = what.unit};
}

dma::change change_of(const iova_range& range) { return {.what = dma::change::kind::unmap, .at = range}; }

}  // namespace

class container::state {
 public:
  state(const any_io_executor& executor, kernel::files& kernel, workers& threads, container_options options)
      : in_place_bytes_max_(std::min(options.in_place_bytes_max, options.piece_bytes)),  // what is cut takes turns
        carrier_(kernel, {.kvm_device = options.kvm_device, .warn = posted(executor, std::move(options.warn))},
                 options.piece_bytes),
        lane_(executor, threads, "tidemark-lane", {.queue_max = queue_max, .in_place_max = in_place_bytes_a_turn},
              [this](auto& taken, auto& done, const auto& closing) { return carrier_.turn(taken, done, closing); }) {}

  template <class T, class Call>
  void submit(operation what, iova_range range, placed_completion<T>&& done, Call call, const dma::submission& how = {}) {
    send(std::make_unique<dma::call_request<T, Call>>(what, range, std::move(call), std::move(done)), how);
  }

  /// For calls that need the IOMMU's driver. `call`: result<T>(backend::iommu&).
  template <class T, class Call>
  void on_driver(operation what, iova_range range, placed_completion<T>&& done, Call call) {
    submit(what, range, std::move(done), [=](const dma::lane_place& in) -> result<T> {
      const auto driver = in.file.driver(what, range);
      if (!driver) return driver.error();
      return call(**driver);
    });
  }

  /// For calls about all mappings there are. `call`: result<void>(const dma::lane_place&, backend::iommu&, const
  /// container_info&).
  template <class Call>
  void on_book(operation what, placed_completion<void> done, Call call) {
    submit(what, {}, std::move(done), [what, call = std::move(call)](const dma::lane_place& in) mutable -> result<void> {
      const auto driver = in.file.driver(what, {});
      if (!driver) return driver.error();
      return call(in, **driver, in.file.info().value());
    });
  }

  template <class T>
  void submit(const dma::change& asked, placed_completion<T>&& done) {
    send(dma::single_change<T>::make(asked, std::move(done)),
         {.gathers = asked.unit != 0, .cost = may_run_in_place(asked) ? asked.at.size : dma::submission::at_once});
  }

  void submit(std::vector<dma::change> all, placed_completion<void>&& done) {
    send(std::make_unique<dma::transaction>(std::move(all), std::move(done)));
  }

 private:
  template <class Request>
  void send(std::unique_ptr<Request> item, const dma::submission& how = {}) {
    if (auto slot = item->slot(); slot.is_connected()) slot.assign(lane_.canceller_of(*item));
    lane_.submit(std::move(item), how);
  }

  /// Whether it takes a few microseconds at most, once nobody else is in the lane.
  bool may_run_in_place(const dma::change& asked) const {
    if (asked.at.size == 0 || asked.at.size > in_place_bytes_max_) return false;
    return asked.what == dma::change::kind::unmap || asked.resident || dma::is_resident(asked.host, asked.at.size);
  }

  const std::uint64_t in_place_bytes_max_;
  dma::carrier carrier_;
  dma::lane lane_;  // last: its worker uses the carrier
};

std::string_view name_of(iommu_type type) noexcept {
  switch (type) {
    case iommu_type::type1v2:
      return "type1v2";
    case iommu_type::type1:
      return "type1";
    case iommu_type::spapr_v2:
      return "sPAPR v2";
    case iommu_type::spapr_v1:
      return "sPAPR v1";
    case iommu_type::noiommu:
      return "noiommu";
  }
  return "unknown";
}

container::container(any_io_executor executor, kernel::files& kernel, workers& threads, container_options options)
    : executor_(std::move(executor)), state_(std::make_unique<state>(executor_, kernel, threads, std::move(options))) {}

container::~container() = default;

void container::start_connect(placed_completion<container_info> done, unsigned group) {
  state_->submit(operation::connect_container, {}, std::move(done),
                 [group](const dma::lane_place& in) -> result<container_info> {
                   // The kernel answers EBUSY, as if it did not fit: the next container would map from old addresses.
                   if (auto there = dma::all_have_addresses(in.book, operation::connect_container); !there)
                     return there.error();
                   return in.file.connect(group);
                 });
}

void container::start_disconnect(placed_completion<void> done, unsigned group) {
  state_->submit(
      operation::detach, {}, std::move(done), [group](const dma::lane_place& in) { return in.file.disconnect(group); },
      dma::submission{.always = true});
}

void container::start_info(placed_completion<container_info> done) {
  state_->submit(operation::get_info, {}, std::move(done), [](const dma::lane_place& in) { return in.file.info(); });
}

void container::start_open_device(placed_completion<device> done, unsigned group, std::string name) {
  state_->submit(operation::open_device, {}, std::move(done),
                 [group, name = std::move(name)](const dma::lane_place& in) { return in.file.open_device(group, name); });
}

void container::start_close_device(placed_completion<void> done, device which) {
  state_->submit(
      operation::detach, {}, std::move(done),
      [which](const dma::lane_place&) mutable {
        which.close();
        return result<void>{};
      },
      dma::submission{.always = true});
}

void container::start_map(placed_completion<void> done, mapping what) { state_->submit(change_of(what), std::move(done)); }

void container::start_unmap(placed_completion<std::uint64_t> done, iova_range range, std::span<std::uint64_t> dirty) {
  auto asked = change_of(range);
  asked.dirty = dirty;
  state_->submit(asked, std::move(done));
}

void container::start_unmap_all(placed_completion<std::uint64_t> done) {
  dma::change everything;
  everything.what = dma::change::kind::unmap_everything;
  state_->submit(everything, std::move(done));
}

void container::start_apply(placed_completion<void> done, std::vector<change> changes) {
  std::vector<dma::change> all;
  all.reserve(changes.size());
  for (const auto& one : changes) all.push_back(std::visit([](const auto& what) { return change_of(what); }, one));
  state_->submit(std::move(all), std::move(done));
}

void container::start_tracking(placed_completion<void> done, bool on) {
  const auto what = on ? operation::start_dirty_tracking : operation::stop_dirty_tracking;
  state_->on_driver(what, {}, std::move(done), [on](backend::iommu& driver) { return driver.set_dirty_tracking(on); });
}

void container::start_query_dirty(placed_completion<void> done, iova_range range, std::span<std::uint64_t> dirty) {
  state_->submit(operation::query_dirty, range, std::move(done), [range, dirty](const dma::lane_place& in) -> result<void> {
    const auto driver = in.file.driver(operation::query_dirty, range);
    if (!driver) return driver.error();
    return dma::query_dirty(in, **driver, range, dirty);
  });
}

void container::start_call(placed_completion<void> done, operation what, iova_range range,
                           std::function<result<void>(const dma::lane_place&)> call) {
  state_->submit(what, range, std::move(done), std::move(call), dma::submission{.always = what == operation::detach});
}

void container::start_release_addresses(placed_completion<void> done) {
  state_->on_book(operation::release_addresses, std::move(done),
                  [](const dma::lane_place& in, backend::iommu& driver, const container_info& info) {
                    return dma::release_addresses(in.book, driver, info);
                  });
}

void container::start_renew_addresses(placed_completion<void> done, std::vector<moved_memory> all) {
  state_->on_book(
      operation::renew_addresses, std::move(done),
      [all = std::move(all)](const dma::lane_place& in, backend::iommu& driver, const container_info& info) mutable {
        return dma::renew_addresses(in.book, driver, info, std::move(all), in.closing);
      });
}

}  // namespace tidemark
