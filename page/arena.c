/* Arena and memmap.
 *
 * Theory. Address space is plenty, so the arena is reserved once, far larger than memory, and a
 * frame number is a subtraction and a shift for ever. Commitment is what is scarce: access is
 * opened in steps of whole hugepages (growing with the arena, so that the number of calls is
 * logarithmic), the tables that describe them first. The order matters for peekers: a hugepage is
 * opened only after its words and its descriptor can be read and written; `opened` is raised last,
 * with release.
 *
 * States of a hugepage's address range: reserved (PROT_NONE) -> opened; never back. Lock: all but
 * arena_init run under the frames lock (frames.c). Fork: plain private memory, nothing to do. */
#include "page/arena.h"

#include <errno.h>

#include "arch/sys.h"
#include "page/desc.h"
#include "page/hugepage.h"

enum {
  RAM_MULTIPLE = 16,
  TABLE_STEP = 64 << 10, /* tables are opened in multiples of this (and of the system page) */
  MIN_ARENA = 16 * HUGEPAGE_SIZE /* below this a program can't be served */
};

/* The descriptor region is 1/32 of the arena: the smallest class needs 192 bytes per 8 KiB slab;
 * but at most what a desc_ref reaches. */
enum { DESCRIPTOR_FRACTION = 32 };
#define DESCRIPTORS_MOST ((size_t)UINT32_MAX * DESC_UNIT)

struct arena arena;

static const char *const type_names[16] = {"none", "free",  "slab",   "folio",
                                           "meta", "owned", "poison", "reserved"};

const char *memdesc_type_name(enum memdesc_type type) {
  const char *name = type_names[type & MEMDESC_TYPE_MASK];
  return name != NULL ? name : "invalid";
}

static size_t memmap_bytes(size_t size) {
  return align_up(size / FRAME_SIZE * sizeof(memdesc_t), TABLE_STEP);
}

static size_t hugepages_bytes(size_t size) {
  return align_up(size / HUGEPAGE_SIZE * sizeof(struct hugepage), TABLE_STEP);
}

static size_t descriptors_bytes(size_t size) {
  return size_min(align_up(size / DESCRIPTOR_FRACTION, TABLE_STEP),
                  align_down(DESCRIPTORS_MOST, TABLE_STEP));
}

static size_t tables_bytes(size_t size) {
  return memmap_bytes(size) + hugepages_bytes(size) + descriptors_bytes(size);
}

/* Reserves `size` bytes aligned to a hugepage: reserve a hugepage more, give the edges back. */
static int reserve_aligned(size_t size, uintptr_t *out) {
  void *raw;
  int err = sys->reserve(size + HUGEPAGE_SIZE, &raw);
  if (err != 0) return err;
  uintptr_t start = align_up((uintptr_t)raw, HUGEPAGE_SIZE);
  size_t before = start - (uintptr_t)raw, after = HUGEPAGE_SIZE - before;
  /* An edge that can't be given back (the process is at its limit of mappings) costs address space
   * only. */
  if (before != 0) (void)sys->unreserve(raw, before);
  if (after != 0) (void)sys->unreserve((void *)(start + size), after);
  *out = start;
  return 0;
}

static int try_size(size_t size) {
  uintptr_t base;
  void *tables;
  int err = sys->reserve(tables_bytes(size), &tables);
  if (err != 0) return err;
  err = sys->open_read(tables, memmap_bytes(size));
  if (err == 0) err = reserve_aligned(size, &base);
  if (err != 0) {
    (void)sys->unreserve(tables, tables_bytes(size));
    return err;
  }
  arena.memmap = tables;
  arena.hugepages = (struct hugepage *)((char *)tables + memmap_bytes(size));
  arena.descriptors = (char *)tables + memmap_bytes(size) + hugepages_bytes(size);
  arena.descriptors_size = descriptors_bytes(size);
  arena.nhugepages = (uint32_t)(size / HUGEPAGE_SIZE);
  arena.opened = 0;
  arena.tables_opened = 0;
  arena.size = size;
  arena.memmap_by_address = (uintptr_t)tables - (base >> FRAME_SHIFT) * sizeof(memdesc_t);
  store_release(&arena.base, base);
  return 0;
}

int arena_init(size_t want) {
  size_t limit = (size_t)1 << 43; /* 8 TiB keeps pfn within 32 bits and leaves others their room */
  uint64_t allowed = sys_address_space_limit();
  size_t size = want != 0 ? want : (size_t)sys_physical_memory() * RAM_MULTIPLE;
  /* A program that was given a limit needs part of it for its own mappings and stacks. */
  if (allowed != UINT64_MAX) size = size_min(size, (size_t)(allowed / 4 * 3));
  size = align_up(size_min(size, limit), HUGEPAGE_SIZE);
  for (size = size_max(size, MIN_ARENA); size >= MIN_ARENA;
       size = align_down(size / 2, HUGEPAGE_SIZE))
    if (try_size(size) == 0) return 0;
  return -ENOMEM;
}

void arena_fini(void) {
  (void)sys->unreserve((void *)arena.base, arena.size);
  (void)sys->unreserve(arena.memmap, tables_bytes(arena.size));
  arena = (struct arena){0};
}

/* Opens [from, to) of a table, widened to steps: what is open already may be opened again. */
static int open_table(char *table, size_t from, size_t to) {
  size_t step = size_max(TABLE_STEP, sys_page_size());
  from = align_down(from, step);
  to = align_up(to, step);
  return sys->open_write(table + from, to - from);
}

static int open_tables(uint32_t from, uint32_t to) {
  size_t words = HUGEPAGE_FRAMES * sizeof(memdesc_t);
  int err = 0;
  /* The last step opened may cover these already. */
  size_t step = size_max(TABLE_STEP, sys_page_size());
  if (from == 0 || align_up(from * words, step) < to * words)
    err = open_table((char *)arena.memmap, from * words, to * words);
  size_t each = sizeof(struct hugepage);
  if (err == 0 && (from == 0 || align_up(from * each, step) < to * each))
    err = open_table((char *)arena.hugepages, from * each, to * each);
  if (err == 0) arena.tables_opened = align_up(to * words, step) + align_up(to * each, step);
  return err;
}

static int open_exactly(uint32_t count) {
  uint32_t from = arena.opened, to = from + count;
  int err = open_tables(from, to);
  if (err == 0)
    err = sys->open_write(hugepage_addr((hpn_t){from}), (size_t)count << HUGEPAGE_SHIFT);
  if (err != 0) return err;
  for (uint32_t n = from; n < to; n++) hugepage_init(&arena.hugepages[n]);
  store_release(&arena.opened, to);
  return 0;
}

int arena_open(uint32_t count) {
  uint32_t left = arena.nhugepages - arena.opened;
  if (count > left) return -ENOMEM;
  uint32_t step = (uint32_t)size_min(left, size_max(count, arena.opened / 8));
  int err = open_exactly(step);
  if (err != 0 && step > count) err = open_exactly(count); /* strict overcommit near its limit */
  return err;
}

void memmap_set(pfn_t pfn, size_t nframes, memdesc_t to) {
  for (size_t i = 0; DEBUG_CHECKS && i < nframes; i++)
    assert_always((arena.memmap[pfn.n + i].word & MEMDESC_TYPE_MASK) <= MEMDESC_FREE);
  store_release_words(&arena.memmap[pfn.n].word, nframes, to.word);
}

void memmap_reclass(pfn_t pfn, size_t nframes, unsigned size_class) {
  for (size_t i = 0; i < nframes; i++) {
    memdesc_t *d = &arena.memmap[pfn.n + i];
    uint64_t others = d->word & ~((uint64_t)0xff << MEMDESC_CLASS_SHIFT);
    store_release(&d->word, others | (uint64_t)size_class << MEMDESC_CLASS_SHIFT);
  }
}

void memmap_flag(pfn_t pfn, size_t nframes, unsigned flag, bool on) {
  for (size_t i = 0; i < nframes; i++) {
    uint64_t *word = &arena.memmap[pfn.n + i].word;
    (void)(on ? or_relaxed(word, (uint64_t)flag) : and_relaxed(word, ~(uint64_t)flag));
  }
}

bool memmap_flagged(pfn_t pfn, size_t nframes, unsigned flag) {
  for (size_t i = 0; i < nframes; i++)
    if (memdesc_flags(memmap_get(pfn_add(pfn, i))) & flag) return true;
  return false;
}

/* The bits in which some of n words are not `as`. A large folio has thousands of words; by fours
 * they take a third of the time. */
static uint64_t differing(const uint64_t *words, size_t n, uint64_t as) {
  typedef uint64_t two __attribute__((vector_size(16), aligned(8), may_alias));
  const two expected = {as, as};
  two a = {0}, b = {0};
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    a |= *(const two *)(words + i) ^ expected;
    b |= *(const two *)(words + i + 2) ^ expected;
  }
  a |= b;
  uint64_t bits = a[0] | a[1];
  for (; i < n; i++) bits |= words[i] ^ as;
  return bits;
}

void memmap_clear(pfn_t pfn, size_t nframes, enum memdesc_type from) {
  while (nframes > 0) {
    hpn_t hpn = pfn_hugepage(pfn);
    size_t here = size_min(nframes, HUGEPAGE_FRAMES - pfn_index(pfn));
    uint64_t *words = &arena.memmap[pfn.n].word;
    assert_always((differing(words, here, from) & MEMDESC_TYPE_MASK) == 0);
    store_release_words(words, here, memdesc_make(MEMDESC_FREE, 0, &arena.hugepages[hpn.n]).word);
    pfn = pfn_add(pfn, here);
    nframes -= here;
  }
}
