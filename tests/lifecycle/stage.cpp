// SPDX-License-Identifier: Apache-2.0

#include "lifecycle/stage.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <unistd.h>

#include <array>
#include <fstream>

namespace tidemark::lifecycle {

namespace {

/// As Linux names files of VFIO, and the test devices' module those of its migration data.
bool is_of_vfio(const std::string& target) {
  return target.find("vfio") != std::string::npos || target.find("tidemark_test_migration") != std::string::npos;
}

std::size_t vfio_descriptors() {
  std::size_t count = 0;
  DIR* const folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  while (const dirent* entry = ::readdir(folder)) {
    std::array<char, 256> target{};
    const auto path = std::string("/proc/self/fd/") + entry->d_name;
    const auto length = ::readlink(path.c_str(), target.data(), target.size() - 1);
    if (length > 0 && is_of_vfio(target.data())) ++count;
  }
  ::closedir(folder);
  return count;
}

std::uint64_t locked_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::uint64_t kib = 0;
    if (word == "VmLck:" && status >> kib) return kib;
  }
  return 0;
}

kernel::model_options shaped(const stage::shape& change) {
  kernel::model_options options;
  options.groups = conformance::modelled_guest_groups();
  if (change) change(options);
  return options;
}

}  // namespace

std::ostream& operator<<(std::ostream& to, const holdings& what) {
  return to << what.descriptors << " descriptors, " << what.containers << " containers, " << what.mappings << " mappings, "
            << what.pinned_kib << " KiB pinned, " << what.kvm_groups << " groups of KVM, " << what.blockers
            << " discard blocks, " << what.devices << " devices";
}

kvm_vm::kvm_vm(kernel::files& kernel) {
  const int fd = kernel.open("/dev/kvm", O_RDWR);
  if (fd < 0) return;
  kvm_ = kernel::handle(kernel, fd);
  const int vm = kernel.ioctl(fd, KVM_CREATE_VM);
  if (vm < 0) return;
  vm_ = kernel::handle(kernel, vm);
  kvm_create_device request{};
  request.type = KVM_DEV_TYPE_VFIO;
  if (kernel.ioctl(vm, KVM_CREATE_DEVICE, &request) == 0) device_ = kernel::handle(kernel, static_cast<int>(request.fd));
}

stage::stage(on which, const shape& change)
    : model_(which == on::model ? std::make_unique<kernel::model>(shaped(change)) : nullptr),
      kernel_(bare_kernel()),
      groups_(which == on::model ? conformance::groups_of(shaped(change)) : conformance::discover()),
      vm_(std::make_unique<kvm_vm>(bare_kernel())),
      host_(std::make_unique<host>(
          kernel_, threads_,
          container_options{.kvm_device = vm_->device(), .warn = [this](const error& what) { warnings_.push_back(what); }})),
      memory_(static_cast<std::byte*>(
          mmap(nullptr, memory_pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))),
      space_(std::make_unique<address_space>(loop_.get_executor(), *host_)) {
  if (!space_->add_block({"ram", memory_, memory_pages * page})) throw std::logic_error("the RAM block was refused");
  descriptors_before_ = model_ ? model_->open_descriptors() : vfio_descriptors();
  pinned_before_kib_ = model_ ? 0 : locked_kib();
}

stage::~stage() {
  space_.reset();
  settle();
  munmap(memory_, memory_pages * page);
}

holdings stage::held() const {
  holdings now;
  now.descriptors = (model_ ? model_->open_descriptors() : vfio_descriptors()) - descriptors_before_;
  now.pinned_kib = (model_ ? model_->pinned_pages() * page / 1024 : locked_kib()) - pinned_before_kib_;
  now.blockers = host_->discards().blockers().size();
  now.devices = space_ ? space_->devices().size() : 0;
  if (!model_) return now;
  now.containers = model_->live_containers();
  now.mappings = model_->mapping_count();
  now.kvm_groups = model_->kvm_groups().size();
  return now;
}

void stage::settle() {
  do loop_.run_until_idle();
  while (threads_.run());
}

result<device> stage::attach_to(address_space& to, const std::string& which, attach_options options) {
  return done<device>([&](auto token) { to.async_attach(which, options, std::move(token)); });
}

result<void> stage::detach_from(address_space& from, const device& which) {
  return done<void>([&](auto token) { from.async_detach(which, std::move(token)); });
}

result<void> stage::add(std::uint64_t iova, std::uint64_t pages, std::uint64_t first_page) {
  const region added{{iova, pages * page}, 0, first_page * page, true};
  return done<void>([&](auto token) { space_->async_add(added, std::move(token)); });
}

result<void> stage::remove(std::uint64_t iova, std::uint64_t pages) {
  return done<void>([&](auto token) { space_->async_remove({iova, pages * page}, std::move(token)); });
}

std::string test_device(const conformance::group_name& group) { return "/sys/bus/platform/devices/" + group.device; }

}  // namespace tidemark::lifecycle
