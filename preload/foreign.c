/* Pointers that another allocator handed out: libc's own, by a call that did not come through quire
 * (its internal names, or memory from before quire was loaded). They go back where they came from,
 * if that can be told; anything else is misuse, and reported as such rather than handed to a
 * stranger.
 *
 * glibc's malloc, of which only what malloc/malloc.c documents as its chunk layout is used: the
 * word before an object holds the chunk's size and three flags (1 the previous is in use, 2 mapped
 * by itself, 4 not of the main arena). An object of the main arena lies in the brk heap. */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "arch/sys.h"
#include "preload/preload.h"

enum { CHUNK_MAPPED = 2, CHUNK_NON_MAIN = 4, CHUNK_FLAGS = 7, CHUNK_HEADER = 16 };

/* Below brk's end, and in no loaded object: the program's own data may lie just below brk's
 * beginning. */
static bool in_brk_heap(const void *p) {
  uintptr_t top = (uintptr_t)sbrk(0), at = (uintptr_t)p;
  Dl_info object;
  return at < top && top - at < (uintptr_t)1 << 36 && dladdr(p, &object) == 0;
}

static bool looks_like_libcs(const void *p) {
  uintptr_t at = (uintptr_t)p, word;
  if (at % 16 != 0 || !sys_probe_read((const void *)(at - 8), &word, sizeof word)) return false;
  size_t size = word & ~(uintptr_t)CHUNK_FLAGS;
  if (size < 32) return false;
  if (word & CHUNK_MAPPED) {
    size_t page = sys_page_size();
    return at % page == CHUNK_HEADER && (size & (page - 1)) == 0;
  }
  return (word & CHUNK_NON_MAIN) != 0 ? at % ((uintptr_t)64 << 20) > CHUNK_HEADER : in_brk_heap(p);
}

/* The next definition behind quire; NULL in a static program, and where that is quire itself. */
static void *next_symbol(const char *name) { return dlsym(RTLD_NEXT, name); }

static bool foreign_free(void *p) {
  void (*next)(void *) = (void (*)(void *))next_symbol("free");
  if (next == NULL || !looks_like_libcs(p)) return false;
  next(p);
  return true;
}

static bool foreign_realloc(void *p, size_t size, void **out) {
  void *(*next)(void *, size_t) = (void *(*)(void *, size_t))next_symbol("realloc");
  if (next == NULL || !looks_like_libcs(p)) return false;
  *out = next(p, size);
  return true;
}

static bool foreign_usable_size(const void *p, size_t *out) {
  size_t (*next)(void *) = (size_t(*)(void *))next_symbol("malloc_usable_size");
  if (next == NULL || !looks_like_libcs(p)) return false;
  *out = next((void *)(uintptr_t)p);
  return true;
}

const struct foreign_ops preload_foreign = {foreign_free, foreign_realloc, foreign_usable_size};
