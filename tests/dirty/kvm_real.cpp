// SPDX-License-Identifier: Apache-2.0
//
// A VM of the real KVM, whose vCPU runs a few bytes of real mode code a page. Only for the test guest (tools/vm): elsewhere
// a vCPU may hang where there is no nested virtualisation, and take its thread along.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "dirty/kvm_machine.hpp"

namespace tidemark::tests {

namespace {

std::byte* mapped(std::size_t bytes, int flags, int fd, long offset) {
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, offset);
  if (at == MAP_FAILED) throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
  return static_cast<std::byte*>(at);
}

class real_machine final : public kvm_machine {
 public:
  explicit real_machine(logging how)
      : kvm_machine(mapped(pages * page_bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
        kvm_(own("open /dev/kvm", kernel().open("/dev/kvm", O_RDWR))),
        vm_(own("KVM_CREATE_VM", kernel().ioctl(kvm_.get(), KVM_CREATE_VM))) {
    enable(how);
    make(slot(0, 0, 1, 0, 0));
    for (const auto& one : slots()) make(one);
    vcpu_ = own("KVM_CREATE_VCPU", kernel().ioctl(vm(), KVM_CREATE_VCPU));
    run_bytes_ =
        static_cast<std::size_t>(check("KVM_GET_VCPU_MMAP_SIZE", kernel().ioctl(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE)));
    run_ = static_cast<kvm_run*>(static_cast<void*>(mapped(run_bytes_, MAP_SHARED, vcpu_.get(), 0)));
    if (how == logging::ring) map_ring();
    flat_real_mode();
  }
  ~real_machine() override {
    if (ring_ != nullptr) ::munmap(ring_, ring_bytes);
    ::munmap(run_, run_bytes_);
    vcpu_.reset();
    vm_.reset();
    ::munmap(memory(), pages * page_bytes);
  }

  kernel::files& kernel() override { return kernel::host_kernel(); }
  int vm() override { return vm_.get(); }
  std::span<kvm_dirty_gfn> ring() override { return {ring_, ring_ == nullptr ? 0U : ring_entries}; }

  void program(const std::vector<std::uint64_t>& pages_to_write) override {
    auto* at = reinterpret_cast<unsigned char*>(memory());
    for (const auto page : pages_to_write) {
      const auto segment = static_cast<std::uint16_t>(page * page_bytes / 16);
      const unsigned char code[] = {0xb8,
                                    static_cast<unsigned char>(segment & 0xff),
                                    static_cast<unsigned char>(segment >> 8),
                                    0x8e,
                                    0xd8,  // mov ax, segment; mov ds, ax
                                    0xfe,
                                    0x06,
                                    0x00,
                                    0x00};  // inc byte [0]
      at = std::copy(std::begin(code), std::end(code), at);
    }
    *at = 0xf4;  // hlt
    kvm_regs registers{};
    registers.rflags = 2;
    check("KVM_SET_REGS", kernel().ioctl(vcpu_.get(), KVM_SET_REGS, &registers));
  }

  ended run() override {
    check("KVM_RUN", kernel().ioctl(vcpu_.get(), KVM_RUN));
    if (run_->exit_reason == KVM_EXIT_HLT) return ended::halted;
    if (run_->exit_reason == KVM_EXIT_DIRTY_RING_FULL) return ended::ring_full;
    throw std::runtime_error("KVM_RUN ended with exit " + std::to_string(run_->exit_reason));
  }

 private:
  static constexpr std::size_t ring_bytes = ring_entries * sizeof(kvm_dirty_gfn);

  int check(const char* what, int answer) const {
    if (answer < 0) throw std::runtime_error(std::string(what) + ": " + std::strerror(-answer));
    return answer;
  }
  kernel::handle own(const char* what, int answer) { return {kernel(), check(what, answer)}; }

  void enable(logging how) {
    kvm_enable_cap request{};
    if (how == logging::plain) return;
    request.cap = how == logging::ring ? KVM_CAP_DIRTY_LOG_RING : KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
    request.args[0] = how == logging::ring ? ring_bytes : KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    if (how == logging::manual_initially_set) request.args[0] |= KVM_DIRTY_LOG_INITIALLY_SET;
    check("KVM_ENABLE_CAP", kernel().ioctl(vm(), KVM_ENABLE_CAP, &request));
  }

  void make(const kvm_slot& of) {
    kvm_userspace_memory_region region{of.id, 0, of.memory->guest_address, of.pages * page_bytes,
                                       reinterpret_cast<std::uintptr_t>(of.memory->host)};
    check("KVM_SET_USER_MEMORY_REGION", kernel().ioctl(vm(), KVM_SET_USER_MEMORY_REGION, &region));
  }

  void map_ring() {
    ring_ = static_cast<kvm_dirty_gfn*>(static_cast<void*>(
        mapped(ring_bytes, MAP_SHARED, vcpu_.get(), KVM_DIRTY_LOG_PAGE_OFFSET * static_cast<long>(page_bytes))));
  }

  void flat_real_mode() {
    kvm_sregs registers{};
    check("KVM_GET_SREGS", kernel().ioctl(vcpu_.get(), KVM_GET_SREGS, &registers));
    registers.cs.base = 0;
    registers.cs.selector = 0;
    check("KVM_SET_SREGS", kernel().ioctl(vcpu_.get(), KVM_SET_SREGS, &registers));
  }

  kernel::handle kvm_;
  kernel::handle vm_;
  kernel::handle vcpu_;
  std::size_t run_bytes_ = 0;
  kvm_run* run_ = nullptr;
  kvm_dirty_gfn* ring_ = nullptr;
};

}  // namespace

std::unique_ptr<kvm_machine> make_real_machine(logging how) { return std::make_unique<real_machine>(how); }

}  // namespace tidemark::tests
