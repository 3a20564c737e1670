# The first instructions of a child payload: from 32-bit protected mode, paging off, flat segments (PVH: EBX = start
# info; multiboot 1: EAX = loader's magic, EBX = information) to Rust in long mode, the first 4 GiB mapped one to one.

.section .note.Xen, "a", @note
.balign 4
    .long   4, 4, 18                # sizes of name and value; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz  "Xen"
    .long   child_start

.section .boot, "ax"
.balign 4
multiboot_header:
    # With addresses, because starters differ in what they think of a 64-bit ELF image: the file's segments lie as far
    # apart as in memory, being all aligned to pages.
    .long   0x1BADB002, 0x10000, -0x1BADB002 - 0x10000
    .long   multiboot_header, multiboot_header, data_end, image_end, child_start

.code32
.global child_start
child_start:
    cli
    cld
    movl    $child_stack_top, %esp
    movl    %eax, %ebp

    # Four directories of 2 MiB pages, one after the other, below one table each of the upper levels.
    movl    $(child_pdpt + 7), child_pml4
    movl    $(child_directories + 7), %eax
    movl    $child_pdpt, %edi
1:  movl    %eax, (%edi)
    addl    $0x1000, %eax
    addl    $8, %edi
    cmpl    $(child_pdpt + 32), %edi
    jb      1b
    movl    $0x87, %eax
    movl    $child_directories, %edi
1:  movl    %eax, (%edi)
    addl    $0x200000, %eax
    addl    $8, %edi
    cmpl    $(child_directories + 0x4000), %edi
    jb      1b

    # CR4.PAE; CR3; EFER.LME and NXE; then CR0.PG, WP, NE, ET, PE.
    movl    $0x20, %eax
    movl    %eax, %cr4
    movl    $child_pml4, %eax
    movl    %eax, %cr3
    movl    $0xC0000080, %ecx
    rdmsr
    orl     $0x900, %eax
    wrmsr
    movl    $0x80010031, %eax
    movl    %eax, %cr0
    lgdt    child_gdt_pointer
    ljmp    $0x08, $child_long_mode

.code64
child_long_mode:
    movl    $0x10, %eax
    movl    %eax, %ss
    movl    %eax, %ds
    movl    %eax, %es
    xorl    %eax, %eax
    movl    %eax, %fs
    movl    %eax, %gs
    # The 32-bit halves: what is above them is not defined after the switch of modes.
    movl    %esp, %esp
    movl    %ebx, %edi
    movl    %ebp, %esi
    xorl    %ebp, %ebp
    call    payload_start
    ud2

.balign 8
child_gdt:
    .quad   0
    .quad   0x00AF9B000000FFFF      # 0x08: 64-bit code
    .quad   0x00CF93000000FFFF      # 0x10: data
child_gdt_pointer:
    .word   child_gdt_pointer - child_gdt - 1
    .long   child_gdt

.section .bss.child, "aw", @nobits
.balign 4096
.global child_pml4
child_pml4:         .skip 4096
child_pdpt:         .skip 4096
child_directories:  .skip 4096 * 4
child_stack:        .skip 128 * 1024
child_stack_top:

# Assembly of other modules may follow.
.text
