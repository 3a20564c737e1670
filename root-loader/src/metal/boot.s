# The first instructions of the root partition: from the PVH entry state (32-bit protected mode, paging off, flat
# segments, EBX = start info) to Rust in long mode at the linked address.
#
# It runs wherever the hypervisor has put it, so it finds its base first and uses offsets from it. All names it needs are
# in this one section, so that differences between them are constants.
#
# Registers: ESI base of the image, EBX start info, EBP processor features (CPUID 8000_0001 EDX).

.section .boot, "awx"
.code32
.global loader_start
loader_start:
    cli
    cld
    # No stack is promised. EBX is the only address known to be RAM, so its first word (the magic) lends itself
    # to the return address of the one call, and gets its value back.
    movl    (%ebx), %ebp
    leal    4(%ebx), %esp
    call    here
here:
    popl    %esi
    movl    %ebp, (%ebx)
    subl    $(here - loader_start), %esi
    leal    (early_stack_top - loader_start)(%esi), %esp

    # Long mode (bit 29) and no-execute pages (bit 20) must be there.
    pushl   %ebx
    movl    $0x80000000, %eax
    cpuid
    cmpl    $0x80000001, %eax
    jb      unsuitable
    movl    $0x80000001, %eax
    cpuid
    movl    %edx, %ebp
    popl    %ebx
    andl    $0x20100000, %edx
    cmpl    $0x20100000, %edx
    jne     unsuitable

    # Top level: the first 4 GiB at 0 (for the next instructions) and at the direct map; the image in the last entry.
    leal    (low_pdpt - loader_start + 3)(%esi), %eax
    movl    %eax, (pml4 - loader_start)(%esi)
    movl    %eax, (pml4 - loader_start + 8 * 256)(%esi)
    leal    (high_pdpt - loader_start + 3)(%esi), %eax
    movl    %eax, (pml4 - loader_start + 8 * 511)(%esi)
    leal    (high_pd - loader_start + 3)(%esi), %eax
    movl    %eax, (high_pdpt - loader_start + 8 * 511)(%esi)
    leal    (high_pt - loader_start + 3)(%esi), %eax
    movl    %eax, (high_pd - loader_start)(%esi)

    # The image: 2 MiB in small pages, as its base is only aligned to 4 KiB.
    xorl    %ecx, %ecx
    leal    3(%esi), %eax
1:  movl    %eax, (high_pt - loader_start)(%esi, %ecx, 8)
    addl    $0x1000, %eax
    incl    %ecx
    cmpl    $512, %ecx
    jb      1b

    # The first 4 GiB: four directories of 2 MiB pages, one after the other.
    xorl    %ecx, %ecx
    movl    $0x83, %eax
1:  movl    %eax, (low_pds - loader_start)(%esi, %ecx, 8)
    addl    $0x200000, %eax
    incl    %ecx
    cmpl    $2048, %ecx
    jb      1b
    xorl    %ecx, %ecx
    leal    (low_pds - loader_start + 3)(%esi), %eax
1:  movl    %eax, (low_pdpt - loader_start)(%esi, %ecx, 8)
    addl    $0x1000, %eax
    incl    %ecx
    cmpl    $4, %ecx
    jb      1b

    # CR4.PAE; CR3; EFER.LME and NXE; then CR0.PG, WP, NE, PE.
    movl    $0x20, %eax
    movl    %eax, %cr4
    leal    (pml4 - loader_start)(%esi), %eax
    movl    %eax, %cr3
    movl    $0xC0000080, %ecx
    rdmsr
    orl     $0x900, %eax
    wrmsr
    movl    $0x80010021, %eax
    movl    %eax, %cr0

    # A 64-bit code segment, by a far return, because a far jump would need an absolute address.
    leal    (gdt - loader_start)(%esi), %eax
    movl    %eax, (gdt_pointer - loader_start + 2)(%esi)
    lgdt    (gdt_pointer - loader_start)(%esi)
    leal    (long_mode - loader_start)(%esi), %eax
    pushl   $0x08
    pushl   %eax
    lret

unsuitable:
    # Without a working Rust there is still COM1.
    leal    (unsuitable_text - loader_start)(%esi), %esi
1:  movw    $0x3FD, %dx
2:  inb     %dx, %al
    testb   $0x20, %al
    jz      2b
    lodsb
    testb   %al, %al
    jz      3f
    movw    $0x3F8, %dx
    outb    %al, %dx
    jmp     1b
3:  cli
    hlt
    jmp     3b

.code64
long_mode:
    movl    $0x10, %eax
    movl    %eax, %ss
    movl    %eax, %ds
    movl    %eax, %es
    xorl    %eax, %eax
    movl    %eax, %fs
    movl    %eax, %gs
    movabsq $loader_stack_top, %rsp
    # The 32-bit halves: what is above them is not defined after the switch of modes.
    movl    %ebx, %edi
    movl    %esi, %esi
    movl    %ebp, %edx
    xorl    %ebp, %ebp
    movabsq $loader_main, %rax
    call    *%rax
    ud2

unsuitable_text:
    .asciz  "root-loader: this processor has no long mode or no no-execute pages (CPUID 8000_0001 EDX bits 29 and 20); halted\r\n"

.balign 8
gdt:
    .quad   0
    .quad   0x00AF9B000000FFFF      # 0x08: 64-bit code
    .quad   0x00CF93000000FFFF      # 0x10: data
gdt_pointer:
    .word   gdt_pointer - gdt - 1
    .long   0

.balign 16
    .skip   256
early_stack_top:

.balign 4096
pml4:       .skip 4096
low_pdpt:   .skip 4096
low_pds:    .skip 4096 * 4
high_pdpt:  .skip 4096
high_pd:    .skip 4096
high_pt:    .skip 4096

.section .stack, "aw", @nobits
.balign 16
    .skip   256 * 1024
loader_stack_top:
