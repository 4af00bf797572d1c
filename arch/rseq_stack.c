#include "arch/rseq_stack.h"

/* glibc 2.35 and later register each thread and say where, relative to the thread pointer; a size
 * of 0 says that they did not (a tunable, valgrind, an old kernel). Weak, so that older libcs still
 * load quire. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

enum { RSEQ_CS_OFFSET = 8 }; /* struct rseq: cpu_id_start, cpu_id, rseq_cs */

uint64_t *rseq_stack_area(void) {
  if (!RSEQ_STACK_TAKEABLE || &__rseq_size == NULL || __rseq_size == 0) return NULL;
  char *thread = __builtin_thread_pointer();
  return (uint64_t *)(thread + __rseq_offset + RSEQ_CS_OFFSET);
}
