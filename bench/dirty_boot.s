# SPDX-License-Identifier: Apache-2.0
#
# A boot sector that dirties memory at a set rate: the guest of QEMU's in tools/bench migrate. It does as our own guest does
# (src/cli/dirtier.cpp, demo_guest.cpp): each millisecond it writes a word to as many random pages as are due, a page may be
# met twice, and what is late is made up for, up to a bound. In between it halts, so that an emulated processor costs no more
# than a thread that waits.
#
# One processor in 32-bit protected mode, flat, no paging: all memory below 4 GiB. Time is the ACPI timer's, which stands
# still while the machine is stopped and goes on at the destination; the timer interrupt (IRQ 0, as SeaBIOS left it at
# vector 8) only wakes.
#
# tools/bench_parts/boot_sector.py writes the parameters, and reads what is told at 0x9000: the number of pages written so
# far, 64 bits. A byte on port 0xe9 says that the first was written.

  .set told, 0x9000                 # this and the stack are not in the code's page: writes to it are slow under emulation
  .set stack, 0xa000
  .set acpi_timer_port, 0x608       # where SeaBIOS puts it; 3579545 ticks a second, 24 bits
  .set tick_divisor, 1193           # of the PIT's 1193182 a second
  .set console_port, 0xe9

  .text
  .globl _start
  .code16
_start:
  cli
  cld
  ljmp $0, $flat
flat:
  xorw %ax, %ax
  movw %ax, %ds
  inb $0x92, %al                    # address line 20
  orb $2, %al
  andb $0xfe, %al
  outb %al, $0x92
  lgdt gdt_pointer
  lidt idt_pointer
  movl %cr0, %eax
  orb $1, %al
  movl %eax, %cr0
  ljmp $8, $protected

  .code32
protected:
  movw $16, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $stack, %esp
  xorl %eax, %eax
  movl %eax, told
  movl %eax, told + 4
  movb $0xfe, %al                   # no interrupt but the timer's
  outb %al, $0x21
  movb $0xff, %al
  outb %al, $0xa1
  movb $0x34, %al
  outb %al, $0x43
  movb $(tick_divisor & 255), %al
  outb %al, $0x40
  movb $(tick_divisor >> 8), %al
  outb %al, $0x40
  movl $2463534242, %esi            # esi: random
  xorl %edi, %edi                   # ebp.edi: pages that are due, as a fixed-point number
  movl $1, %ebp
  movw $acpi_timer_port, %dx
  inl %dx, %eax
  movl %eax, %ebx                   # ebx: the time they were reckoned at
  call dirty_what_is_due
  movb $'1', %al
  outb %al, $console_port
  sti
turn:
  hlt
  movw $acpi_timer_port, %dx
  inl %dx, %eax
  movl %eax, %ecx
  subl %ebx, %eax
  andl $0xffffff, %eax
  movl %ecx, %ebx
  mull pages_per_tick
  addl %eax, %edi
  adcl %edx, %ebp
  movl owed_pages_max, %eax
  cmpl %eax, %ebp
  jbe 1f
  movl %eax, %ebp
1:
  call dirty_what_is_due
  jmp turn

dirty_what_is_due:
  testl %ebp, %ebp
  jz 2f
1:
  movl %esi, %eax                   # xorshift32
  shll $13, %eax
  xorl %eax, %esi
  movl %esi, %eax
  shrl $17, %eax
  xorl %eax, %esi
  movl %esi, %eax
  shll $5, %eax
  xorl %eax, %esi
  movl %esi, %eax
  mull pages
  shll $12, %edx
  addl first_byte, %edx
  movl %esi, (%edx)
  addl $1, told
  adcl $0, told + 4
  decl %ebp
  jnz 1b
2:
  ret

timer:
  pushl %eax
  movb $0x20, %al
  outb %al, $0x20
  popl %eax
  iret

  .balign 8
gdt:
  .quad 0
  .quad 0x00cf9a000000ffff          # code, 0 to 4 GiB
  .quad 0x00cf92000000ffff          # data, the same
timer_gate:                         # the only entry of the interrupt table that is ever used, its ninth
  .word timer_low, 8, 0x8e00, 0
gdt_pointer:
  .word gdt_pointer - gdt - 8 - 1
  .long gdt
idt_pointer:
  .word 9 * 8 - 1
  .long timer_gate - 8 * 8
  .set timer_low, timer - _start + 0x7c00

  .org 494
pages_per_tick: .long 0             # 2^32 times the pages for each tick of the ACPI timer
pages: .long 0
first_byte: .long 0
owed_pages_max: .long 0
  .word 0xaa55
