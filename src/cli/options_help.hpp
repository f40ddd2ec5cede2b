// SPDX-License-Identifier: Apache-2.0
//
// The running text of --help. Constants.

#pragma once

#include <string_view>

namespace tidemark::cli {

inline constexpr std::string_view main_description =
    "tidemark maps guest memory for VFIO devices, tracks the pages they dirty, and migrates it while they do.";

inline constexpr std::string_view main_footer =
    R"(Examples:
  tidemark doctor                                   what this host offers, and what is missing
  tidemark devices                                  its VFIO devices, and who has them
  tidemark demo                                     migrate 1 GiB from one process to another
  tidemark receive tcp:192.0.2.7:7000 --psk key     take a guest in
  tidemark migrate tcp:192.0.2.7:7000 --psk key     send one there
  tidemark bench map                                how fast memory is mapped, beside a plain loop of ioctls

Settings come from config/tidemark.toml (built in), then the file of --config, then options.
Exit status: 0 it worked, 1 it failed (standard error says why), 2 it was asked for wrongly and nothing was begun.)";

inline constexpr std::string_view demo_footer =
    R"(A size is a whole number of bytes, or one with KiB, MiB, GiB or TiB (K, M, G and T for short).

The demo makes RAM blocks, lets a CPU thread and a VFIO device dirty them, adds and removes regions, and migrates the memory
to a second process over TCP: rounds of pre-copy, then a stop. Both sides compare a checksum of every RAM block at the end.

Examples:
  tidemark demo --memory 4GiB --cpu-rate 256MiB --downtime-ms 50
  tidemark demo --kernel linux --device tidemark-test.1
  tidemark demo --role destination --address 127.0.0.1:7000
  tidemark demo --role source --address 127.0.0.1:7000

Its connection is plain, so it stays on this host: between hosts there are tidemark receive and tidemark migrate.
Exit status: 0 identical, 1 failed or not identical, 2 asked for wrongly and nothing was begun.)";

inline constexpr std::string_view migrate_footer =
    R"(Over tcp: both sides prove who they are: with certificates, or with a key in a file of each (--psk). unix: and fd: are on
this host, and the socket's file says who may connect. file: makes a snapshot, and the guest goes on here. fd: hands the
memory itself over, and copies nothing.

The guest is made up: its memory is this program's (--memory) or that of files (--ram), and --cpu-rate and --device-rate keep
dirtying it. What other processes write into those files meanwhile is not seen.

Ctrl-C (SIGINT, or SIGTERM) cancels the migration, and the guest goes on here; a second one ends the program at once.

Examples:
  openssl rand -hex 32 > key && chmod 600 key
  tidemark receive tcp:127.0.0.1:7000 --psk key
  tidemark migrate tcp:127.0.0.1:7000 --psk key --memory 2GiB --cpu-rate 200MiB --channels 2 --report migration.html
  tidemark migrate file:guest.snapshot --memory 1GiB
  tidemark receive file:guest.snapshot

Exit status: 0 the guest has gone (or is in the file), 1 it has not, and goes on here unless standard error says otherwise,
2 asked for wrongly and nothing was begun.)";

inline constexpr std::string_view receive_footer =
    R"(Takes one migration in, then ends. A connection that makes no sense, or whose peer cannot prove who it is, is refused, and it
goes on listening. A source says what RAM it has; --ram files must be of those sizes. Ctrl-C (SIGINT, or SIGTERM) ends it, and
the guest goes on at its source; a second one ends the program at once.

Exit status: 0 the guest arrived, 1 it did not, 2 asked for wrongly and nothing was begun.)";

inline constexpr std::string_view bench_footer =
    R"(Exit status: 0 it was measured, 1 it could not be (standard error says why), 2 it was asked for wrongly.)";

inline constexpr std::string_view map_bench_footer =
    R"(Each pattern runs several times on the engine and on a plain loop that makes the same ioctls one after the other, taking
turns. Both sides' operations a second, latencies and ioctls are printed, and beside what they have in common:

  regions        32 large maps at once, then their unmaps
  viommu         random pages of 4KiB, mapped and unmapped, as many in flight as said
  viommu_depth1  the same, each awaited before the next
  burst          up to 512 neighbours mapped at once, in one call; those within 2MiB may become one ioctl
  burst_each     the same, in a call each
  churn          pages mapped and unmapped while half of the memory is pinned
  stall          how long the loop stands still while all of the memory is pinned
  planner        what the engine costs on a kernel that does nothing, with many mappings held

The device's group is taken for as long, and the device is opened and closed many times, which may reset it: give it a device
that nothing uses. The memory is the program's own, and no device is told to touch it.

Examples:
  tidemark bench map --json
  tidemark bench map --kernel linux --device 0000:01:00.0 --pages thp --svg map.svg
  tidemark bench map --pattern burst --map-size 64KiB

Exit status: 0 it was measured, 1 it could not be (standard error says why), 2 it was asked for wrongly.)";

inline constexpr std::string_view devices_footer =
    R"(A device is attachable when its whole group is VFIO's, this user may open the group, and no process was seen to have it.
Processes are looked into, not groups opened, which would get in the way of a program that is about to. So a process of
another user, or outside of this container, may have a device unseen; it is said when that may be. Root sees most. Never
seen is a program that has closed its group's file and kept a device's.

Each other device comes with the commands that make it attachable; nothing is changed. What the host uses stops working for
the host: its disk, its network.
Exit status: 0 also when there are none, 2 it was asked for wrongly.)";

inline constexpr std::string_view doctor_footer =
    R"(Each finding is ok, a note (nothing is wrong), a warning, or missing. The last two come with the commands that mend
them. Nothing is changed. Run it as the user who will run Tidemark.
Exit status: 0 the demo can run here with the kernel that is built in, 1 it cannot (io_uring is not usable).)";

}  // namespace tidemark::cli
