// SPDX-License-Identifier: Apache-2.0

#include <tidemark/container.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/prefer.hpp>

#include <optional>
#include <utility>

#include "backend/type1.hpp"
#include "dma/lane.hpp"

namespace tidemark {

namespace asio = boost::asio;

namespace {

/// What every request of a container's lane can do: be carried out on the backend.
class container_request : public dma::lane::request {
 public:
  virtual void carry_out(backend::type1& backend) = 0;
};

template <class Executor>
auto tracked(Executor executor) {
  return asio::prefer(std::move(executor), asio::execution::outstanding_work.tracked);
}

/// One request with its handler. `Call` is what to do: result<T>(backend::type1&).
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

  void carry_out(backend::type1& backend) override { outcome_.emplace(call_(backend)); }

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
  state(const any_io_executor& executor, kernel::files& kernel, workers& threads)
      : executor_(executor),
        backend_(kernel),
        lane_(executor, threads, "tidemark-lane", queue_max, [this](dma::lane::batch& requests) {
          for (auto& item : requests) carry_out(static_cast<container_request&>(item));
        }) {}

  template <class T, class Call>
  void submit(operation what, iova_range range, completion<T> handler, Call call) {
    auto item = std::make_unique<bound_request<T, Call>>(executor_, what, range, std::move(call), std::move(handler));
    if (auto slot = item->slot(); slot.is_connected()) slot.assign(lane_.canceller_of(*item));
    lane_.submit(std::move(item));
  }

 private:
  /// When the container ends nobody waits longer than for the ioctl under way.
  void carry_out(container_request& item) {
    if (lane_.closing()) return item.refuse(asio::error::operation_aborted);
    item.carry_out(backend_);
  }

  any_io_executor executor_;
  backend::type1 backend_;
  dma::lane lane_;  // last: its worker uses the backend
};

container::container(any_io_executor executor, kernel::files& kernel, workers& threads)
    : executor_(std::move(executor)), state_(std::make_unique<state>(executor_, kernel, threads)) {}

container::~container() = default;

void container::start_connect(completion<container_info> done, unsigned group) {
  state_->submit(operation::connect_container, {}, std::move(done),
                 [group](backend::type1& backend) { return backend.connect(group); });
}

void container::start_open_device(completion<device> done, unsigned group, std::string name) {
  state_->submit(operation::open_device, {}, std::move(done),
                 [group, name = std::move(name)](backend::type1& backend) { return backend.open_device(group, name); });
}

void container::start_map(completion<void> done, mapping what) {
  state_->submit(operation::map, what.at, std::move(done), [what](backend::type1& backend) { return backend.map(what); });
}

void container::start_unmap(completion<std::uint64_t> done, iova_range range, std::span<std::uint64_t> dirty) {
  state_->submit(operation::unmap, range, std::move(done),
                 [range, dirty](backend::type1& backend) { return backend.unmap(range, dirty); });
}

void container::start_tracking(completion<void> done, bool on) {
  const auto what = on ? operation::start_dirty_tracking : operation::stop_dirty_tracking;
  state_->submit(what, {}, std::move(done), [on](backend::type1& backend) { return backend.set_dirty_tracking(on); });
}

void container::start_query_dirty(completion<void> done, iova_range range, std::span<std::uint64_t> dirty) {
  state_->submit(operation::query_dirty, range, std::move(done),
                 [range, dirty](backend::type1& backend) { return backend.query_dirty(range, dirty); });
}

}  // namespace tidemark
