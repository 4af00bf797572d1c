/* A stack of pointers that its owner thread pushes and pops with plain loads and stores, and that
 * another thread can nevertheless take away.
 *
 * Where the kernel has restartable sequences and libc registered the thread for them, push and pop
 * are such a sequence: all of it up to the one store that commits, or the kernel starts it again.
 * So another thread may set `cur` to a locked value by compare-and-swap, fence all sequences
 * (sys->rseq_fence), and if the locked value still stands, no push or pop that began before can
 * commit any more, and those that begin later miss. The owner pays one store a call. Only rseq_cs
 * of the kernel's area is written. Elsewhere (sanitizers, libc without rseq, big-endian aarch64)
 * push and pop are plain, and nobody may take the stack away: rseq_stack_area() says NULL.
 *
 * No barrier is needed on a weakly ordered machine either. The fence is a full one on every
 * processor that runs a thread of the process, so what the owner stored before it is seen after it;
 * and the owner reaches the slots only through `cur`, so its stores to them can't pass its reading
 * of what the taker stored there with release.
 *
 * Layout: slots[0] holds NULL, so that an empty stack pops NULL; cur points to the last slot
 * pushed, limit to the last slot that may be used. Locked: cur points to a slot that holds NULL and
 * lies above limit.
 *
 * Sources: Documentation/userspace-api/rseq.rst and uapi/linux/rseq.h of Linux 6.18; the signatures
 * are of glibc's bits/rseq.h. */
#ifndef QUIRE_ARCH_RSEQ_STACK_H
#define QUIRE_ARCH_RSEQ_STACK_H

#include "arch/atomic.h"
#include "arch/compiler.h"

enum { RSEQ_STACKS = 114 };

/* Many stacks, their tops dense in one place: a push or pop finds its top by an indexed load. */
struct rseq_stacks {
  void **cur[RSEQ_STACKS];
  void **limit[RSEQ_STACKS];
};

/* Where this thread's rseq_cs field is; NULL when it has none. */
uint64_t *rseq_stack_area(void);

/* The descriptor of a sequence from label 1 to label 2, which starts again at label 4, where an
 * abort handler stands that jumps to label 3. */
#define RSEQ_DESCRIPTOR                                                                            \
  ".pushsection __rseq_cs, \"aw\"\n"                                                               \
  ".balign 32\n"                                                                                   \
  "5: .long 0, 0\n"                                                                                \
  ".quad 1f, 2f - 1f, 4f\n"                                                                        \
  ".popsection\n"

#if defined(__x86_64__) && !defined(QUIRE_NO_RSEQ)

enum { RSEQ_STACK_TAKEABLE = 1 };

/* The four bytes before an abort handler are the signature that glibc registered with; the three
 * before make an instruction of them (ud1). */
#define RSEQ_BEGIN                                                                                 \
  RSEQ_DESCRIPTOR                                                                                  \
  ".pushsection __rseq_failure, \"ax\"\n"                                                          \
  ".byte 0x0f, 0xb9, 0x3d\n"                                                                       \
  ".long 0x53053053\n"                                                                             \
  "4: jmp 3f\n"                                                                                    \
  ".popsection\n"                                                                                  \
  "3: leaq 5b(%%rip), %[t]\n"                                                                      \
  "movq %[t], (%[cs])\n"                                                                           \
  "1:\n"

static always_inline void *rseq_stack_pop(struct rseq_stacks *stacks, size_t i, uint64_t *cs) {
  void *p, *t;
  __asm__ volatile goto(RSEQ_BEGIN "movq (%[cur],%[i],8), %[t]\n"
                                   "movq (%[t]), %[p]\n"
                                   "testq %[p], %[p]\n"
                                   "jz %l[empty]\n"
                                   "subq $8, %[t]\n"
                                   "movq %[t], (%[cur],%[i],8)\n"
                                   "2:\n"
                        : [p] "=&r"(p), [t] "=&r"(t)
                        : [cur] "r"(stacks->cur), [i] "r"(i), [cs] "r"(cs)
                        : "memory", "cc"
                        : empty);
  if (p == NULL) __builtin_unreachable(); /* the sequence jumped */
  return p;
empty:
  return NULL;
}

/* False when it is full, locked, or p is what was pushed last: the caller finds out which. */
static always_inline bool rseq_stack_push(struct rseq_stacks *stacks, size_t i, void *p,
                                          uint64_t *cs) {
  void *t;
  __asm__ volatile goto(RSEQ_BEGIN "movq (%[cur],%[i],8), %[t]\n"
                                   "cmpq %c[limit](%[cur],%[i],8), %[t]\n"
                                   "jae %l[miss]\n"
                                   "cmpq %[p], (%[t])\n"
                                   "je %l[miss]\n"
                                   "movq %[p], 8(%[t])\n"
                                   "addq $8, %[t]\n"
                                   "movq %[t], (%[cur],%[i],8)\n"
                                   "2:\n"
                        : [t] "=&r"(t)
                        : [cur] "r"(stacks->cur), [i] "r"(i), [cs] "r"(cs), [p] "r"(p),
                          [limit] "i"(offsetof(struct rseq_stacks, limit))
                        : "memory", "cc"
                        : miss);
  return true;
miss:
  return false;
}

#elif defined(__aarch64__) && !defined(__AARCH64EB__) && !defined(QUIRE_NO_RSEQ)

enum { RSEQ_STACK_TAKEABLE = 1 };

/* As above; the signature is itself an instruction (brk). */
#define RSEQ_BEGIN                                                                                 \
  RSEQ_DESCRIPTOR                                                                                  \
  ".pushsection __rseq_failure, \"ax\"\n"                                                          \
  ".balign 4\n"                                                                                    \
  ".inst 0xd428bc00\n"                                                                             \
  "4: b 3f\n"                                                                                      \
  ".popsection\n"                                                                                  \
  "3: adrp %[t], 5b\n"                                                                             \
  "add %[t], %[t], :lo12:5b\n"                                                                     \
  "str %[t], [%[cs]]\n"                                                                            \
  "1:\n"

static always_inline void *rseq_stack_pop(struct rseq_stacks *stacks, size_t i, uint64_t *cs) {
  void *p, *t;
  __asm__ volatile goto(RSEQ_BEGIN "ldr %[t], [%[cur], %[i], lsl #3]\n"
                                   "ldr %[p], [%[t]], #-8\n"
                                   "cbz %[p], %l[empty]\n"
                                   "str %[t], [%[cur], %[i], lsl #3]\n"
                                   "2:\n"
                        : [p] "=&r"(p), [t] "=&r"(t)
                        : [cur] "r"(stacks->cur), [i] "r"(i), [cs] "r"(cs)
                        : "memory"
                        : empty);
  if (p == NULL) __builtin_unreachable(); /* the sequence jumped */
  return p;
empty:
  return NULL;
}

/* As above. */
static always_inline bool rseq_stack_push(struct rseq_stacks *stacks, size_t i, void *p,
                                          uint64_t *cs) {
  void *t, *u;
  __asm__ volatile goto(RSEQ_BEGIN "ldr %[t], [%[cur], %[i], lsl #3]\n"
                                   "add %[u], %[cur], %[i], lsl #3\n"
                                   "ldr %[u], [%[u], %[limit]]\n"
                                   "cmp %[t], %[u]\n"
                                   "b.hs %l[miss]\n"
                                   "ldr %[u], [%[t]]\n"
                                   "cmp %[u], %[p]\n"
                                   "b.eq %l[miss]\n"
                                   "str %[p], [%[t], #8]!\n"
                                   "str %[t], [%[cur], %[i], lsl #3]\n"
                                   "2:\n"
                        : [t] "=&r"(t), [u] "=&r"(u)
                        : [cur] "r"(stacks->cur), [i] "r"(i), [cs] "r"(cs), [p] "r"(p),
                          [limit] "i"(offsetof(struct rseq_stacks, limit))
                        : "memory", "cc"
                        : miss);
  return true;
miss:
  return false;
}

#else

enum { RSEQ_STACK_TAKEABLE = 0 };

static always_inline void *rseq_stack_pop(struct rseq_stacks *stacks, size_t i,
                                          unused uint64_t *cs) {
  void **cur = load_relaxed(&stacks->cur[i]);
  void *p = *cur;
  if (likely(p != NULL)) store_relaxed(&stacks->cur[i], cur - 1);
  return p;
}

static always_inline bool rseq_stack_push(struct rseq_stacks *stacks, size_t i, void *p,
                                          unused uint64_t *cs) {
  void **cur = load_relaxed(&stacks->cur[i]);
  if (unlikely(cur >= stacks->limit[i]) || unlikely(*cur == p)) return false;
  cur[1] = p;
  store_relaxed(&stacks->cur[i], cur + 1);
  return true;
}

#endif
#endif
