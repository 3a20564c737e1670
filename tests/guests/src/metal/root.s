# The first instructions of a payload root: from the state in which the root loader leaves it (long mode, RDI = GPA of the
# start info) to Rust on a stack of its own.

.section .boot, "ax"
.code64
.global root_start
root_start:
    cli
    cld
    leaq    root_stack_top(%rip), %rsp
    xorl    %esi, %esi
    xorl    %ebp, %ebp
    call    payload_start
    ud2

.section .bss.root, "aw", @nobits
.balign 4096
root_stack:         .skip 256 * 1024
root_stack_top:

# Assembly of other modules may follow.
.text
