/* Compiler attributes under short names. Every `#if` by compiler lives here. */
#ifndef QUIRE_ARCH_COMPILER_H
#define QUIRE_ARCH_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define always_inline inline __attribute__((__always_inline__))
#define noinline __attribute__((__noinline__))
#define cold __attribute__((__cold__, __noinline__))
#define nodiscard __attribute__((warn_unused_result))
#define unused __attribute__((__unused__))
#define cacheline_aligned __attribute__((aligned(64)))
#define aligned_to(n) __attribute__((aligned(n)))
#define tls_initial_exec __attribute__((tls_model("initial-exec")))
#define public_symbol __attribute__((visibility("default")))
/* For functions that read, without a lock, what others may be writing with plain stores, and look
 * again afterwards whether it was worth anything: a race detector can't know that. */
#define peeker __attribute__((__no_sanitize_thread__))
#define printf_like(at, first) __attribute__((format(printf, at, first)))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define array_size(a) (sizeof(a) / sizeof((a)[0]))

#ifdef QUIRE_DEBUG
#define DEBUG_CHECKS true
#else
#define DEBUG_CHECKS false
#endif

/* One line on stderr, then abort: for broken invariants of quire itself, never for callers' errors.
 */
_Noreturn void quire_bug(const char *file, int line, const char *what);

/* assert_always: cheap checks that guard somebody's data. debug_assert: debug builds only. */
#define assert_always(x) (likely(x) ? (void)0 : quire_bug(__FILE__, __LINE__, #x))
#define debug_assert(x) (!DEBUG_CHECKS || (x) ? (void)0 : quire_bug(__FILE__, __LINE__, #x))

static inline size_t align_up(size_t n, size_t align) { return (n + align - 1) & ~(align - 1); }
static inline size_t align_down(size_t n, size_t align) { return n & ~(align - 1); }
static inline size_t size_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t size_max(size_t a, size_t b) { return a > b ? a : b; }
static inline bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

#endif
