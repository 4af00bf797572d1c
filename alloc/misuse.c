/* Last words about a pointer: one line that says what the memmap knows, then abort. Locks may be
 * held and the heap may be in any state, so nothing here allocates, locks or uses stdio. */
#include <stdlib.h>

#include "alloc/malloc.h"
#include "arch/sys.h"
#include "page/folio.h"
#include "slab/bin.h"

static size_t say_slab(char *out, size_t size, const struct slab *slab, const void *p) {
  const struct size_class *c = &size_classes[slab->size_class];
  size_t offset = (size_t)((const char *)p - (const char *)slab_addr(slab));
  unsigned slot = class_slot(c, offset);
  if (slot >= slab->nslots)
    return sys_format(out, size, "in the tail of a slab of %u-byte objects", c->size);
  bool is_free = slab->free[slot / 64] >> slot % 64 & 1;
  return sys_format(out, size, "%zu bytes into slot %u of %u of a slab of %u-byte objects, %s",
                    offset - (size_t)slot * c->size, slot, slab->nslots, c->size,
                    is_free ? "a free slot" : "a slot in use or cached");
}

static size_t say_folio(char *out, size_t size, const struct folio *folio, const void *p) {
  return sys_format(out, size, "%zu bytes into a large allocation of %zu bytes",
                    (size_t)((const char *)p - (const char *)folio_addr(folio)), folio_size(folio));
}

static size_t say_pointer(char *out, size_t size, const void *p) {
  if (!arena_contains(p)) return sys_format(out, size, "it is outside of quire's memory");
  pfn_t pfn = arena_pfn(p);
  memdesc_t d = memmap_peek(pfn);
  size_t n = sys_format(out, size, "frame %u is ", pfn.n);
  switch (memdesc_type(d)) {
  case MEMDESC_SLAB:
    return n + say_slab(out + n, size - n, memdesc_owner(d), p);
  case MEMDESC_FOLIO:
    return n + say_folio(out + n, size - n, memdesc_owner(d), p);
  case MEMDESC_OWNED:
    return n + sys_format(out + n, size - n, "an owner's of the program's own");
  case MEMDESC_NONE:
    return n + sys_format(out + n, size - n, "never used");
  case MEMDESC_FREE:
    return n + sys_format(out + n, size - n, "free");
  default:
    return n + sys_format(out + n, size - n, "of type %s", memdesc_type_name(memdesc_type(d)));
  }
}

_Noreturn void misuse_report(const char *what, const void *p, size_t given) {
  char line[384];
  size_t n = sys_format(line, sizeof line, "quire: %s: %p", what, p);
  if (given != 0) n += sys_format(line + n, sizeof line - n, " with size %zu", given);
  n += sys_format(line + n, sizeof line - n, ": ");
  n += say_pointer(line + n, sizeof line - n, p);
  n += sys_format(line + n, sizeof line - n, "; aborting\n");
  sys_write_all(2, line, n);
  abort();
}

static void bin_misuse(const void *p, enum bin_misuse what) {
  static const char *const names[] = {
      [MISUSE_DOUBLE_FREE] = "double free",
      [MISUSE_INTERIOR] = "free of an interior pointer",
      [MISUSE_NOT_ALLOCATED] = "free of a pointer that is not allocated (double free?)",
      [MISUSE_WRONG_CLASS] = "free of a pointer whose frame changed hands (double free?)",
  };
  misuse_report(names[what], p, 0);
}

bin_misuse_fn *bin_misuse_handler = bin_misuse;
