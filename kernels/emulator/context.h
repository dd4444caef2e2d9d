// A place in a program to go back to, with its own stack. As `ucontext`, which asks the system at each switch; that took most
// of the time of a kernel.
#pragma once
#include <cstddef>
#include <cstdint>
#include <ucontext.h>

#if defined(__x86_64__)

/// Keeps what a function keeps for its caller, leaves for another stack, and takes up what was kept there.
extern "C" void leave_for(void **own_stack, void *other_stack);
asm(R"(
.text
leave_for:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

struct Context {
    void *stack = nullptr;

    /// `start` never returns.
    void begin(void (*start)(), char *memory, size_t bytes) {
        void **top = reinterpret_cast<void **>(uintptr_t(memory + bytes) / 16 * 16);
        *--top = nullptr;
        *--top = reinterpret_cast<void *>(start);
        for (int kept = 0; kept < 6; kept++) *--top = nullptr;
        stack = top;
    }

    void go_to(const Context &other) { leave_for(&stack, other.stack); }
};

#else

struct Context {
    ucontext_t context;

    void begin(void (*start)(), char *memory, size_t bytes) {
        getcontext(&context);
        context.uc_stack.ss_sp = memory;
        context.uc_stack.ss_size = bytes;
        context.uc_link = nullptr;
        makecontext(&context, start, 0);
    }

    void go_to(const Context &other) { swapcontext(&context, &other.context); }
};

#endif
