/* Atomics whose memory order is in the name: the order a reader must justify is never a default. */
#ifndef QUIRE_ARCH_ATOMIC_H
#define QUIRE_ARCH_ATOMIC_H

#include <stddef.h>
#include <stdint.h>

#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define exchange_acquire(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE)
#define exchange_release(p, v) __atomic_exchange_n((p), (v), __ATOMIC_RELEASE)
#define exchange_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define sub_release(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELEASE)
#define or_relaxed(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELAXED)
#define and_relaxed(p, v) __atomic_fetch_and((p), (v), __ATOMIC_RELAXED)
#define cas_acquire(p, expected, v)                                                                \
  __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
#define cas_acq_rel(p, expected, v)                                                                \
  __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
#define cas_relaxed(p, expected, v)                                                                \
  __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define fence_seq_cst() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* Stores `value` to n words, each whole, after everything before (release). Many words by one
 * string instruction where there is one: it stores aligned words whole. */
#if defined(__x86_64__)
static inline void store_release_words(uint64_t *words, size_t n, uint64_t value) {
  enum { MANY = 64 };
  __atomic_thread_fence(__ATOMIC_RELEASE);
  if (n >= MANY) {
    __asm__ volatile("rep stosq" : "+D"(words), "+c"(n) : "a"(value) : "memory");
    return;
  }
  for (size_t i = 0; i < n; i++) store_relaxed(&words[i], value);
}
#else
static inline void store_release_words(uint64_t *words, size_t n, uint64_t value) {
  __atomic_thread_fence(__ATOMIC_RELEASE);
  for (size_t i = 0; i < n; i++) store_relaxed(&words[i], value);
}
#endif

#if defined(__x86_64__)
static inline void cpu_relax(void) { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
static inline void cpu_relax(void) { __asm__ volatile("isb" ::: "memory"); }
#else
#error "quire runs on x86-64 and aarch64"
#endif

#endif
