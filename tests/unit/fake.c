#include "tests/unit/fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/sys.h"
#include "page/folio.h"
#include "page/owned.h"
#include "page/pin.h"
#include "page/poison.h"
#include "slab/bin.h"

#define MADE_UP_BASE ((uintptr_t)0x300000000000)

static const size_t made_up_size = (size_t)1 << 44;

struct fake fake;
static uintptr_t made_up_next;
static struct frames_options options = {FRAMES_HUGE_NEVER, 0, 1000};

static bool is_made_up(const void *p) { return (uintptr_t)p - MADE_UP_BASE < made_up_size; }

/* Whether the call is granted; counts and logs it. */
static int grant(enum fake_call call, void *p, void *to, size_t length) {
  unsigned nth = add_relaxed(&fake.total, 1) + 1;
  add_relaxed(&fake.calls[call], 1);
  if (fake.refuse[call] != 0) return fake.refuse[call];
  if (nth == fake.refuse_at || (fake.refuse_every != 0 && nth % fake.refuse_every == 0))
    return -ENOMEM;
  if (fake.seen != NULL) fake.seen(call, p, to, length);
  unsigned at = add_relaxed(&fake.logged, 1);
  if (at < FAKE_LOG) fake.log[at] = (struct fake_entry){call, p, length};
  return 0;
}

static int fake_reserve(size_t length, void **out) {
  int err = grant(FAKE_RESERVE, NULL, NULL, length);
  if (err != 0) return err;
  if (fake.reserve_most != 0 && length > fake.reserve_most) return -ENOMEM;
  if (fake.made_up_from == 0 || length < fake.made_up_from) return sys_linux.reserve(length, out);
  *out = (void *)made_up_next; /* off a hugepage's boundary, as kernels do */
  made_up_next += align_up(length, HUGEPAGE_SIZE) + HUGEPAGE_SIZE;
  return 0;
}

static int fake_unreserve(void *p, size_t length) {
  int err = grant(FAKE_UNRESERVE, p, NULL, length);
  return err != 0 || is_made_up(p) ? err : sys_linux.unreserve(p, length);
}

static int fake_open_read(void *p, size_t length) {
  int err = grant(FAKE_OPEN_READ, p, NULL, length);
  return err != 0 || is_made_up(p) ? err : sys_linux.open_read(p, length);
}

static int fake_open_write(void *p, size_t length) {
  int err = grant(FAKE_OPEN_WRITE, p, NULL, length);
  if (err != 0) return err;
  if (fake.commit_most != 0 && fake.committed + length > fake.commit_most) return -ENOMEM;
  add_relaxed(&fake.committed, length);
  return is_made_up(p) ? 0 : sys_linux.open_write(p, length);
}

static int fake_close(void *p, size_t length) {
  int err = grant(FAKE_CLOSE, p, NULL, length);
  return err != 0 || is_made_up(p) ? err : sys_linux.close(p, length);
}

static int fake_discard(void *p, size_t length) {
  int err = grant(FAKE_DISCARD, p, NULL, length);
  return err != 0 || is_made_up(p) ? err : sys_linux.discard(p, length);
}

static int fake_advise_huge(void *p, size_t length, bool huge) {
  int err = grant(FAKE_ADVISE_HUGE, p, huge ? p : NULL, length);
  return err != 0 || is_made_up(p) ? err : sys_linux.advise_huge(p, length, huge);
}

static int fake_collapse(void *p, size_t length) {
  int err = grant(FAKE_COLLAPSE, p, NULL, length);
  return err != 0 || is_made_up(p) ? err : sys_linux.collapse(p, length);
}

static int fake_populate(void *p, size_t length) {
  int err = grant(FAKE_POPULATE, p, NULL, length);
  if (err == 0) {
    add_relaxed(&fake.faults, fake.populate_faults);
    add_relaxed(&fake.cpu_us, fake.populate_us);
  }
  return err != 0 || is_made_up(p) ? err : sys_linux.populate(p, length);
}

static int fake_move(void *from, void *to, size_t length) {
  int err = grant(FAKE_MOVE, from, to, length);
  return err != 0 || is_made_up(from) ? err : sys_linux.move(from, to, length);
}

static int fake_refresh(void *p, size_t length) {
  int err = grant(FAKE_REFRESH, p, NULL, length);
  return err != 0 || is_made_up(p) ? err : sys_linux.refresh(p, length);
}

static int fake_refresh_hugetlb(void *p, size_t length) {
  int err = grant(FAKE_REFRESH_HUGETLB, p, NULL, length);
  return err != 0 || is_made_up(p) ? err : sys_linux.refresh_hugetlb(p, length);
}

static uint64_t fake_now_ms(void) {
  return fake.real_clock ? sys_linux.now_ms() : load_relaxed(&fake.now);
}

static uint64_t fake_minor_faults(void) { return load_relaxed(&fake.faults); }

static uint64_t fake_thread_cpu_us(void) { return load_relaxed(&fake.cpu_us); }

static unsigned fake_runnable(void) { return fake.runnable; }
static void fake_rest(void) { (void)add_relaxed(&fake.rests, 1); }

static int fake_rseq_fence(void) {
  int err = grant(FAKE_RSEQ_FENCE, NULL, NULL, 0);
  return err != 0 ? err : sys_linux.rseq_fence();
}

static const struct sys_ops fake_ops = {
    .reserve = fake_reserve,
    .unreserve = fake_unreserve,
    .open_read = fake_open_read,
    .open_write = fake_open_write,
    .close = fake_close,
    .discard = fake_discard,
    .advise_huge = fake_advise_huge,
    .collapse = fake_collapse,
    .populate = fake_populate,
    .move = fake_move,
    .refresh = fake_refresh,
    .refresh_hugetlb = fake_refresh_hugetlb,
    .now_ms = fake_now_ms,
    .minor_faults = fake_minor_faults,
    .thread_cpu_us = fake_thread_cpu_us,
    .runnable = fake_runnable,
    .rest = fake_rest,
    .rseq_fence = fake_rseq_fence,
};

void fake_install(void) {
  memset(&fake, 0, sizeof fake);
  fake.now = 1000000;
  fake.populate_faults = 1;
  made_up_next = MADE_UP_BASE + (5 << 16);
  sys = &fake_ops;
}

void fake_remove(void) {
  sys = &sys_linux;
  sys_set_page_size(0);
}

void heap_begin(size_t size, bool made_up) {
  fake_install();
  if (made_up) fake.made_up_from = size;
  heap_configure(FRAMES_HUGE_NEVER, 0, 1000);
  if (arena_init(size) != 0) {
    printf("FAIL heap_begin: no arena of %zu bytes\n", size);
    exit(1);
  }
}

void heap_configure(enum frames_huge huge, size_t threshold, uint64_t decay_ms) {
  options = (struct frames_options){huge, threshold, decay_ms};
  frames_configure(&options);
}

void heap_end(void) {
  memset(fake.refuse, 0, sizeof fake.refuse);
  fake.refuse_at = fake.refuse_every = 0;
  fake.seen = NULL;
  arena_fini();
  frames_fini();
  bin_fini_all();
  desc_fini();
  desc_cache_fini(&slab_cache_small);
  desc_cache_fini(&slab_cache_large);
  desc_cache_fini(&folio_cache);
  owned_fini();
  pin_fini();
  poison_fini();
  fake_remove();
}

unsigned fake_logged(enum fake_call call, unsigned from) {
  unsigned n = 0;
  for (unsigned i = from; i < fake.logged && i < FAKE_LOG; i++) n += fake.log[i].call == call;
  return n;
}

size_t fake_resident(const void *p, size_t length) {
  size_t pages = length / (size_t)4096, resident = 0;
  unsigned char *map = malloc(pages);
  if (mincore((void *)(uintptr_t)p, length, map) == 0)
    for (size_t i = 0; i < pages; i++) resident += map[i] & 1;
  free(map);
  return resident * 4096;
}
