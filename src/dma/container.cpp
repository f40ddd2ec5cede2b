// SPDX-License-Identifier: Apache-2.0

#include <tidemark/container.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>

#include <optional>
#include <utility>

#include "backend/container_file.hpp"
#include "dma/lane.hpp"

namespace tidemark {

namespace asio = boost::asio;

namespace {

/// What every request of a container's lane can do: be carried out on the backend.
class container_request : public dma::lane::request {
 public:
  virtual void carry_out(backend::container_file& backend) = 0;
};

/// Warnings arise in the lane and are told on the executor.
std::function<void(const error&)> posted(const any_io_executor& executor, std::function<void(const error&)> warn) {
  if (!warn) return {};
  return [executor = asio::prefer(executor, asio::execution::outstanding_work.untracked),
          warn = std::make_shared<std::function<void(const error&)>>(std::move(warn))](const error& what) {
    asio::post(executor, [warn, what] { (*warn)(what); });
  };
}

template <class Executor>
auto tracked(Executor executor) {
  return asio::prefer(std::move(executor), asio::execution::outstanding_work.tracked);
}

/// One request with its handler. `Call` is what to do: result<T>(backend::container_file&).
template <class T, class Call>
class bound_request final : public container_request {
 public:
  bound_request(const any_io_executor& executor, operation what, iova_range range, Call call, completion<T> handler)
      : call_(std::move(call)),
        handler_(std::move(handler)),
        what_(what),
        range_(range),
        work_(tracked(executor)),
        handler_work_(tracked(asio::get_associated_executor(handler_, executor))) {}

  void carry_out(backend::container_file& backend) override { outcome_.emplace(call_(backend)); }

  void refuse(boost::system::error_code code) noexcept override {
    outcome_.emplace(error{code, what_, range_, {}, "nothing was changed"});
  }

  // The slot belongs to the handler's executor: a signal may come there up to the moment the handler is called, and finds
  // the request.
  void complete(std::unique_ptr<request> self) override {
    const auto where = handler_work_;
    work_ = {};
    asio::dispatch(where, [self = std::move(self), this]() mutable {
      slot().clear();
      auto handler = std::move(handler_);
      auto outcome = std::move(*outcome_);
      self.reset();  // and with it this: its memory is free before the handler asks for more
      std::move(handler)(std::move(outcome));
    });
  }

  auto slot() const noexcept { return asio::get_associated_cancellation_slot(handler_); }

 private:
  Call call_;
  completion<T> handler_;
  operation what_;
  iova_range range_;
  std::optional<result<T>> outcome_;
  any_io_executor work_;  // the container's executor does not run dry while the request is under way, the handler's not
                          // before it is called
  decltype(tracked(asio::get_associated_executor(handler_, std::declval<any_io_executor>()))) handler_work_;
};

}  // namespace

class container::state {
 public:
  state(const any_io_executor& executor, kernel::files& kernel, workers& threads, container_options options)
      : executor_(executor),
        backend_(kernel, {options.kvm_device, posted(executor, std::move(options.warn))}),
        lane_(executor, threads, "tidemark-lane", queue_max, [this](dma::lane::batch& requests) {
          for (auto& item : requests) carry_out(static_cast<container_request&>(item));
        }) {}

  template <class T, class Call>
  void submit(operation what, iova_range range, completion<T> handler, Call call,
              dma::lane::room room = dma::lane::room::needed) {
    auto item = std::make_unique<bound_request<T, Call>>(executor_, what, range, std::move(call), std::move(handler));
    if (auto slot = item->slot(); slot.is_connected()) slot.assign(lane_.canceller_of(*item));
    lane_.submit(std::move(item), room);
  }

  /// For requests that need the IOMMU's driver. `call`: result<T>(backend::iommu&).
  template <class T, class Call>
  void on_driver(operation what, iova_range range, completion<T> handler, Call call) {
    submit(what, range, std::move(handler), [=](backend::container_file& backend) -> result<T> {
      const auto driver = backend.driver(what, range);
      if (!driver) return driver.error();
      return call(**driver);
    });
  }

 private:
  /// When the container ends nobody waits longer than for the ioctl under way.
  void carry_out(container_request& item) {
    if (lane_.closing()) return item.refuse(asio::error::operation_aborted);
    item.carry_out(backend_);
  }

  any_io_executor executor_;
  backend::container_file backend_;
  dma::lane lane_;  // last: its worker uses the backend
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

void container::start_connect(completion<container_info> done, unsigned group) {
  state_->submit(operation::connect_container, {}, std::move(done),
                 [group](backend::container_file& backend) { return backend.connect(group); });
}

void container::start_disconnect(completion<void> done, unsigned group) {
  state_->submit(
      operation::detach, {}, std::move(done),
      [group](backend::container_file& backend) { return backend.disconnect(group); }, dma::lane::room::always);
}

void container::start_info(completion<container_info> done) {
  state_->submit(operation::get_info, {}, std::move(done), [](backend::container_file& backend) { return backend.info(); });
}

void container::start_open_device(completion<device> done, unsigned group, std::string name) {
  state_->submit(
      operation::open_device, {}, std::move(done),
      [group, name = std::move(name)](backend::container_file& backend) { return backend.open_device(group, name); });
}

void container::start_close_device(completion<void> done, device which) {
  state_->submit(
      operation::detach, {}, std::move(done),
      [which](backend::container_file&) mutable {
        which.close();
        return result<void>{};
      },
      dma::lane::room::always);
}

void container::start_map(completion<void> done, mapping what) {
  state_->on_driver(operation::map, what.at, std::move(done), [what](backend::iommu& driver) { return driver.map(what); });
}

void container::start_unmap(completion<std::uint64_t> done, iova_range range, std::span<std::uint64_t> dirty) {
  state_->on_driver(operation::unmap, range, std::move(done),
                    [range, dirty](backend::iommu& driver) { return driver.unmap(range, dirty); });
}

void container::start_tracking(completion<void> done, bool on) {
  const auto what = on ? operation::start_dirty_tracking : operation::stop_dirty_tracking;
  state_->on_driver(what, {}, std::move(done), [on](backend::iommu& driver) { return driver.set_dirty_tracking(on); });
}

void container::start_query_dirty(completion<void> done, iova_range range, std::span<std::uint64_t> dirty) {
  state_->on_driver(operation::query_dirty, range, std::move(done),
                    [range, dirty](backend::iommu& driver) { return driver.query_dirty(range, dirty); });
}

}  // namespace tidemark
