// SPDX-License-Identifier: Apache-2.0
//
// The system calls of the model: paths and descriptors. What stands behind them is in model_objects.hpp.

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>

#include <tidemark/kernel_model.hpp>

#include "kernel/model_kvm.hpp"
#include "kernel/model_objects.hpp"

namespace tidemark::kernel {
namespace {

constexpr std::string_view device_folder = "/dev/vfio/";
constexpr std::string_view noiommu_prefix = "noiommu-";
constexpr std::string_view groups_folder = "/sys/kernel/iommu_groups/";
constexpr std::string_view link_name = "/iommu_group";

/// What stands between a prefix and a suffix, or nothing.
std::string_view between(std::string_view path, std::string_view prefix, std::string_view suffix) noexcept {
  if (path.size() <= prefix.size() + suffix.size()) return {};
  if (path.substr(0, prefix.size()) != prefix || path.substr(path.size() - suffix.size()) != suffix) return {};
  return path.substr(prefix.size(), path.size() - prefix.size() - suffix.size());
}

/// The device whose group link a sysfs path is; empty when it is none.
std::string_view device_of_link(std::string_view path) noexcept {
  for (const std::string_view folder :
       {"/sys/devices/platform/", "/sys/bus/platform/devices/", "/sys/bus/pci/devices/", "/sys/devices/pci0000:00/"}) {
    const std::string_view name = between(path, folder, link_name);
    const bool pci_name = name.find(':') != std::string_view::npos;
    const bool pci_folder = folder.find("/pci") != std::string_view::npos;
    if (!name.empty() && pci_name == pci_folder) return name;
  }
  return {};
}

/// A call's body, with want of memory as its answer rather than an exception.
template <class Body>
auto answered(Body body) noexcept -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
}

}  // namespace

struct model::machine {
  explicit machine(model_options given) : options(std::move(given)), memory(locked) {
    locked.limit_pages = options.memlock_pages;
    for (const model_group& about : options.groups) {
      auto made = std::make_unique<modelled::group>();
      made->about = about;
      for (const std::string& name : about.devices) {
        const auto known = about.functions.find(name);
        made->devices.push_back(
            {.name = name,
             .function = modelled::pci_function(known == about.functions.end() ? model_pci{} : known->second)});
      }
      groups.push_back(std::move(made));
    }
  }

  int open_container() {
    auto made = std::make_shared<modelled::container>(containers_opened++, options, locked, memory);
    containers.erase(std::remove_if(containers.begin(), containers.end(), [](const auto& c) { return c.expired(); }),
                     containers.end());
    containers.push_back(made);
    return descriptors.install(std::move(made));
  }

  modelled::group* find_group(std::string_view number_text) const noexcept {
    unsigned number = 0;
    const char* const stop = number_text.data() + number_text.size();
    const auto [end, failure] = std::from_chars(number_text.data(), stop, number);
    if (failure != std::errc{} || end != stop) return nullptr;
    const auto at = std::find_if(groups.begin(), groups.end(), [&](const auto& one) { return one->about.number == number; });
    return at == groups.end() ? nullptr : at->get();
  }

  int open_group(std::string_view name) {
    const bool noiommu = name.substr(0, noiommu_prefix.size()) == noiommu_prefix;
    modelled::group* const group = find_group(noiommu ? name.substr(noiommu_prefix.size()) : name);
    if (group == nullptr || group->about.noiommu != noiommu) return -ENOENT;
    if (noiommu && !options.raw_io) return -EPERM;
    if (group->open) return -EBUSY;
    return descriptors.install(std::make_shared<modelled::group_file>(*group, descriptors, options));
  }

  int open_group_name(std::string_view number) {
    const modelled::group* const group = find_group(number);
    if (group == nullptr || !group->about.noiommu) return -ENOENT;
    return descriptors.install(std::make_shared<modelled::text_file>("vfio-noiommu\n"));
  }

  int open_kvm() {
    if (!options.kvm) return -ENOENT;
    return descriptors.install(std::make_shared<modelled::kvm_file>(descriptors, kvm_devices, options));
  }

  const modelled::group* group_of(std::string_view device) const noexcept {
    for (const auto& group : groups) {
      for (const auto& member : group->devices) {
        if (member.name == device) return group.get();
      }
    }
    return nullptr;
  }

  template <class Call>
  auto on_file(int fd, Call call) -> decltype(call(std::declval<modelled::file&>())) {
    const std::lock_guard hold(mutex);
    const auto found = descriptors.find(fd);
    if (!found) return -EBADF;
    return call(*found);
  }

  std::mutex mutex;
  const model_options options;
  modelled::locked_memory locked;
  modelled::registry memory;
  modelled::kvm_devices kvm_devices;  // may name gone ones
  std::vector<std::unique_ptr<modelled::group>> groups;
  std::vector<std::weak_ptr<modelled::container>> containers;  // for the facts; may name gone ones
  std::size_t containers_opened = 0;
  modelled::descriptor_table descriptors;  // last: goes first, and its files release groups and containers
};

model::model(model_options options) : machine_(std::make_unique<machine>(std::move(options))) {}
model::~model() = default;

int model::open(const char* path, int) noexcept {
  return answered([&] {
    const std::lock_guard hold(machine_->mutex);
    const std::string_view whole = path;
    const std::string_view name = between(whole, device_folder, "");
    if (name == "vfio") return machine_->open_container();
    if (whole == "/dev/kvm") return machine_->open_kvm();
    if (const auto number = between(whole, groups_folder, "/name"); !number.empty())
      return machine_->open_group_name(number);
    return name.empty() ? -ENOENT : machine_->open_group(name);
  });
}

int model::close(int fd) noexcept {
  const std::lock_guard hold(machine_->mutex);
  return machine_->descriptors.take(fd) ? 0 : -EBADF;  // what only the descriptor held goes here, under the mutex
}

int model::ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept {
  return answered([&] { return machine_->on_file(fd, [&](modelled::file& f) { return f.ioctl(request, argument); }); });
}

ssize_t model::read(int fd, void* buffer, std::size_t bytes) noexcept {
  return answered([&] { return machine_->on_file(fd, [&](modelled::file& f) { return f.read(buffer, bytes); }); });
}

ssize_t model::write(int fd, const void* buffer, std::size_t bytes) noexcept {
  return answered([&] { return machine_->on_file(fd, [&](modelled::file& f) { return f.write(buffer, bytes); }); });
}

ssize_t model::pread(int fd, void* buffer, std::size_t bytes, std::uint64_t offset) noexcept {
  return answered([&] { return machine_->on_file(fd, [&](modelled::file& f) { return f.pread(buffer, bytes, offset); }); });
}

ssize_t model::pwrite(int fd, const void* buffer, std::size_t bytes, std::uint64_t offset) noexcept {
  return answered([&] { return machine_->on_file(fd, [&](modelled::file& f) { return f.pwrite(buffer, bytes, offset); }); });
}

ssize_t model::readlink(const char* path, char* target, std::size_t bytes) noexcept {
  return answered([&]() -> ssize_t {
    if (bytes == 0) return -EINVAL;
    const std::lock_guard hold(machine_->mutex);
    const modelled::group* group = machine_->group_of(device_of_link(path));
    if (group == nullptr) return -ENOENT;
    const std::string link = "../../../kernel/iommu_groups/" + std::to_string(group->about.number);
    const std::size_t told = std::min(bytes, link.size());
    std::memcpy(target, link.data(), told);
    return static_cast<ssize_t>(told);
  });
}

std::vector<model_mapping> model::mappings() const {
  const std::lock_guard hold(machine_->mutex);
  std::vector<model_mapping> all;
  for (const auto& known : machine_->containers) {
    if (const auto alive = known.lock()) alive->list(all);
  }
  return all;
}

std::size_t model::mapping_count() const {
  const std::lock_guard hold(machine_->mutex);
  std::size_t count = 0;
  for (const auto& known : machine_->containers) {
    if (const auto alive = known.lock()) count += alive->mapping_count();
  }
  return count;
}

std::size_t model::open_descriptors() const {
  const std::lock_guard hold(machine_->mutex);
  return machine_->descriptors.size();
}

std::size_t model::live_containers() const {
  const std::lock_guard hold(machine_->mutex);
  return static_cast<std::size_t>(
      std::count_if(machine_->containers.begin(), machine_->containers.end(), [](const auto& c) { return !c.expired(); }));
}

std::uint64_t model::pinned_pages() const {
  const std::lock_guard hold(machine_->mutex);
  return machine_->locked.pages;
}

std::vector<unsigned> model::kvm_groups() const {
  const std::lock_guard hold(machine_->mutex);
  std::vector<unsigned> numbers;
  for (const auto& known : machine_->kvm_devices) {
    const auto alive = known.lock();
    if (!alive) continue;
    for (const auto& group : alive->groups()) numbers.push_back(group->about().about.number);
  }
  return numbers;
}

}  // namespace tidemark::kernel
