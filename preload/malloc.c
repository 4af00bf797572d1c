/* C's allocation functions, by their manuals: malloc(3), posix_memalign(3), malloc_usable_size(3),
 * and C23's free_sized and free_aligned_sized. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "alloc/init.h"
#include "alloc/malloc.h"
#include "alloc/options.h"
#include "alloc/stats.h"
#include "arch/sys.h"
#include "preload/preload.h"

public_symbol void *malloc(size_t size) { return fast_malloc(size); }
public_symbol void free(void *p) { fast_free(p); }
public_symbol void *calloc(size_t count, size_t size) { return alloc_calloc(count, size); }
public_symbol void *realloc(void *p, size_t size) { return alloc_realloc(p, size); }

public_symbol void *reallocarray(void *p, size_t count, size_t size) {
  size_t total;
  if (unlikely(__builtin_mul_overflow(count, size, &total))) {
    errno = ENOMEM;
    return NULL;
  }
  return alloc_realloc(p, total);
}

void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t alignment, size_t size);

public_symbol void free_sized(void *p, size_t size) { fast_free_sized(p, size, false); }

/* The class follows from alignment and size together, so the size alone proves nothing. */
public_symbol void free_aligned_sized(void *p, unused size_t alignment, unused size_t size) {
  fast_free(p);
}

static void *aligned_or_einval(size_t align, size_t size) {
  if (unlikely(!is_power_of_two(align))) {
    errno = EINVAL;
    return NULL;
  }
  return alloc_aligned(align, size);
}

public_symbol void *aligned_alloc(size_t align, size_t size) {
  return aligned_or_einval(align, size);
}

public_symbol void *memalign(size_t align, size_t size) { return aligned_or_einval(align, size); }

/* The error is the result, errno is not set. Where it is takes a call to find out. */
static noinline int posix_memalign_miss(void **out, size_t align, size_t size) {
  int saved = errno;
  void *p = alloc_aligned(align, size);
  errno = saved;
  if (p == NULL) return ENOMEM;
  *out = p;
  return 0;
}

public_symbol int posix_memalign(void **out, size_t align, size_t size) {
  if (unlikely(!is_power_of_two(align) || align % sizeof(void *) != 0)) return EINVAL;
  void *p = fast_aligned(align, size);
  if (unlikely(p == NULL)) return posix_memalign_miss(out, align, size);
  *out = p;
  return 0;
}

public_symbol void *valloc(size_t size) { return alloc_aligned(sys_page_size(), size); }

public_symbol void *pvalloc(size_t size) {
  size_t page = sys_page_size();
  if (unlikely(size > PTRDIFF_MAX)) {
    errno = ENOMEM;
    return NULL;
  }
  return alloc_aligned(page, align_up(size_max(size, 1), page));
}

public_symbol size_t malloc_usable_size(void *p) { return alloc_usable_size(p); }

static __attribute__((constructor)) void library_loaded(void) {
  foreign = &preload_foreign;
  alloc_late_init();
  alloc_configure();
  if (options.stats) stats_prepare_at_exit();
}

static __attribute__((destructor)) void library_unloaded(void) {
  if (options.stats) stats_print_at_exit();
}
