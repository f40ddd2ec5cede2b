// SPDX-License-Identifier: Apache-2.0

#include "cli/demo.hpp"

#include "cli/child.hpp"
#include "cli/demo_destination.hpp"
#include "cli/demo_source.hpp"
#include "cli/demo_view.hpp"

namespace tidemark::cli {

namespace {

int fail(demo_view& view, const error& failure) {
  view.failed(failure);
  return 1;
}

int run_source_alone(const demo_request& request, demo_view& view) {
  auto outcome = run_source(request, request.address, view);
  if (!outcome) return fail(view, outcome.error());
  view.summary(*outcome, std::nullopt);
  return 0;
}

int run_destination_alone(const demo_request& request, demo_view& view) {
  auto outcome = run_destination(request, view);
  if (!outcome) return fail(view, outcome.error());
  view.received(*outcome);
  return 0;
}

/// The destination is this program again, in a process of its own.
int run_both(const demo_request& request, demo_view& view) {
  auto child = destination_child::start(request);
  if (!child) return fail(view, child.error());
  auto outcome = run_source(request, child->address(), view);
  if (!outcome) return fail(view, outcome.error());
  auto received = child->wait();
  if (!received) return fail(view, received.error());
  view.summary(*outcome, *received);
  return 0;
}

}  // namespace

int run_demo(const demo_request& request) {
  demo_view view(request);
  switch (request.role) {
    case demo_role::source:
      return run_source_alone(request, view);
    case demo_role::destination:
      return run_destination_alone(request, view);
    case demo_role::both:
      return run_both(request, view);
  }
  return 1;
}

}  // namespace tidemark::cli
