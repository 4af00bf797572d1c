#include "tests/unit/fake_zone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/atomic.h"
#include "arch/sys.h"
#include "page/compact.h"
#include "page/zone.h"
#include "slab/mesh.h"
#include "tests/unit/check.h"

struct fake_zone fake_zone;

static void wrong(const char *what) {
  if (fake_zone.wrong == NULL) fake_zone.wrong = what;
}

/* ---- ranges ---- */

static void ranges_cut(struct fake_ranges *r, uintptr_t begin, uintptr_t end) {
  unsigned n = r->n;
  for (unsigned i = 0; i < n;) {
    struct fake_range *at = &r->at[i];
    if (at->end <= begin || at->begin >= end) {
      i++;
      continue;
    }
    if (at->begin < begin && at->end > end) {
      if (r->n == FAKE_ZONE_RANGES) return wrong("too many ranges");
      r->at[r->n++] = (struct fake_range){end, at->end};
      at->end = begin;
      i++;
    } else if (at->begin < begin) {
      at->end = begin;
      i++;
    } else if (at->end > end) {
      at->begin = end;
      i++;
    } else { /* whole: the last takes its place */
      *at = r->at[--r->n];
      if (n > r->n) n = r->n;
    }
  }
}

static void ranges_add(struct fake_ranges *r, uintptr_t begin, uintptr_t end) {
  ranges_cut(r, begin, end);
  if (r->n == FAKE_ZONE_RANGES) return wrong("too many ranges");
  r->at[r->n++] = (struct fake_range){begin, end};
}

static bool ranges_cover(const struct fake_ranges *r, uintptr_t begin, uintptr_t end) {
  while (begin < end) {
    unsigned i = 0;
    while (i < r->n && !(r->at[i].begin <= begin && begin < r->at[i].end)) i++;
    if (i == r->n) return false;
    begin = r->at[i].end;
  }
  return true;
}

/* ---- granting ---- */

static void log_call(enum fake_zone_call call, int result, void *p, void *to, size_t length) {
  unsigned at = add_relaxed(&fake_zone.logged, 1);
  if (at < FAKE_ZONE_LOG) fake_zone.log[at] = (struct fake_zone_entry){call, result, p, to, length};
}

static int grant(enum fake_zone_call call, void *p, void *to, size_t length) {
  unsigned nth = add_relaxed(&fake_zone.calls[call], 1) + 1;
  unsigned in_all = add_relaxed(&fake_zone.total, 1) + 1;
  const struct fake_zone_refusal *no = &fake_zone.refusal[call];
  bool refused =
      no->err != 0 && nth >= no->first && (no->times == 0 || nth < no->first + no->times);
  int err = refused ? no->err : in_all == fake_zone.refuse_at ? -ENOMEM : 0;
  log_call(call, err, p, to, length);
  if (err == 0 && fake_zone.seen != NULL) fake_zone.seen(call, p, to, length);
  return err;
}

void fake_zone_refuse(enum fake_zone_call call, int err, unsigned first, unsigned times) {
  fake_zone.refusal[call] = (struct fake_zone_refusal){err, fake_zone.calls[call] + first, times};
}

void fake_zone_permit(void) {
  memset(fake_zone.refusal, 0, sizeof fake_zone.refusal);
  memset(fake_zone.source, 0, sizeof fake_zone.source);
  fake_zone.refuse_at = 0;
  fake_zone.pinned = fake_zone.migrating = NULL;
}

/* ---- the file ---- */

static int fake_zone_open(size_t size) {
  int err = grant(FAKE_ZONE_OPEN, NULL, NULL, size);
  if (err != 0) return err;
  int fd = zone_sys_linux.open(size);
  fake_zone.open_files += fd >= 0;
  return fd;
}

static int fake_zone_view(int zone, size_t size, void **out) {
  int err = grant(FAKE_ZONE_VIEW, NULL, NULL, size);
  return err != 0 ? err : zone_sys_linux.view(zone, size, out);
}

/* What is mapped anew is not watched any more; who waited there still does. */
static int fake_zone_share(void *view, void *p, size_t length) {
  int err = grant(FAKE_ZONE_SHARE, p, view, length);
  if (err == 0) err = zone_sys_linux.share(view, p, length);
  if (err == 0) ranges_cut(&fake_zone.watched, (uintptr_t)p, (uintptr_t)p + length);
  return err;
}

static int fake_zone_freeze(int zone, void *p, size_t length, uint64_t offset) {
  int err = grant(FAKE_ZONE_FREEZE, p, NULL, length);
  return err != 0 ? err : zone_sys_linux.freeze(zone, p, length, offset);
}

static bool fake_zone_contended(unused void *view) {
  if (!fake_zone_quiet()) wrong("looked for others while somebody waits");
  if (fake_zone.contended == 0) return false;
  fake_zone.contended--;
  return true;
}

/* Nobody has these frames of the zone. */
static int fake_zone_punch(int zone, uint64_t offset, size_t length) {
  int err = grant(FAKE_ZONE_PUNCH, (char *)arena.base + offset, NULL, length);
  return err != 0 ? err : zone_sys_linux.punch(zone, offset, length);
}

/* ---- the watch ---- */

static int watch_file = -1;

static int fake_zone_watch_open(enum watch_source source, int inherited) {
  int err = grant(FAKE_ZONE_WATCH_OPEN, NULL, NULL, (size_t)source);
  if (err == 0) err = fake_zone.source[source];
  if (err != 0) return err;
  if (source == WATCH_INHERITED && inherited < 0) return -EBADF;
  watch_file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  fake_zone.open_files += watch_file >= 0;
  return watch_file;
}

static bool is_private(void *p, size_t length) {
  return !arena_contains(p) || zone_is_plain(arena_pfn(p), length / FRAME_SIZE);
}

static int fake_zone_watch(int watch, void *p, size_t length) {
  int err = grant(FAKE_ZONE_WATCH, p, NULL, length);
  if (err != 0) return err;
  if (watch < 0 || watch != watch_file) return -EBADF;
  /* Copying instead of moving pages must not make hugepages in the staging range. */
  if (!arena_contains(p)) (void)madvise(p, length, MADV_NOHUGEPAGE);
  ranges_add(&fake_zone.watched, (uintptr_t)p, (uintptr_t)p + length);
  ranges_add(&fake_zone.waiting, (uintptr_t)p, (uintptr_t)p + length);
  return 0;
}

/* Wakes those in ranges that are still watched, as the kernel does. */
static int fake_zone_unwatch(int watch, void *p, size_t length) {
  int err = grant(FAKE_ZONE_UNWATCH, p, NULL, length);
  if (err != 0) return err;
  if (watch < 0 || watch != watch_file) return -EBADF;
  for (uintptr_t at = (uintptr_t)p; at < (uintptr_t)p + length; at += FRAME_SIZE)
    if (ranges_cover(&fake_zone.watched, at, at + FRAME_SIZE))
      ranges_cut(&fake_zone.waiting, at, at + FRAME_SIZE);
  ranges_cut(&fake_zone.watched, (uintptr_t)p, (uintptr_t)p + length);
  return 0;
}

static int fake_zone_wake(int watch, void *p, size_t length) {
  int err = grant(FAKE_ZONE_WAKE, p, NULL, length);
  if (err != 0) return err;
  if (watch < 0 || watch != watch_file) return -EBADF;
  ranges_cut(&fake_zone.waiting, (uintptr_t)p, (uintptr_t)p + length);
  return 0;
}

static bool is_there(const char *p) {
  unsigned char there = 0;
  return mincore((void *)(uintptr_t)p, FRAME_SIZE, &there) == 0 && (there & 1) != 0;
}

enum { UNCOUNTED = 3 }; /* pages that are moved by a call before it fails of its own miscounting */

static int fake_zone_shift(int watch, void *from, void *to, size_t length) {
  int err = grant(FAKE_ZONE_SHIFT, from, to, length);
  if (err != 0) return err;
  if (watch < 0 || watch != watch_file) return -EBADF;
  if (!ranges_cover(&fake_zone.watched, (uintptr_t)to, (uintptr_t)to + length)) {
    wrong("pages moved into a range that isn't watched");
    return -EINVAL;
  }
  if (!is_private(from, length) || !is_private(to, length)) return -EINVAL;
  size_t end = length;
  bool miscounted = false;
  for (size_t done = 0; done < end; done += FRAME_SIZE) {
    char *a = (char *)from + done, *b = (char *)to + done;
    if (is_there(b)) return -EEXIST; /* the first thing that the kernel looks at */
    if (a == fake_zone.pinned) return -EBUSY;
    if (!is_there(a)) continue;
    if (a == fake_zone.migrating) {
      fake_zone.migrating = NULL;
      miscounted = true;
      end = size_min(end, done + UNCOUNTED * FRAME_SIZE);
    }
    memcpy(b, a, FRAME_SIZE);
    if (madvise(a, FRAME_SIZE, MADV_DONTNEED) != 0) return -EINVAL;
  }
  return miscounted ? -EEXIST : 0;
}

static int fake_zone_holds(const void *page) {
  int err = grant(FAKE_ZONE_HOLDS, (void *)(uintptr_t)page, NULL, FRAME_SIZE);
  return err != 0 ? err : zone_sys_linux.holds(page);
}

/* As with share. Nothing of the arena is ever to be replaced. */
static int fake_zone_replace(void *from, void *to, size_t length) {
  int err = grant(FAKE_ZONE_REPLACE, from, to, length);
  for (size_t at = 0; at < length; at += FRAME_SIZE)
    if (is_there((char *)to + at)) wrong("a page was replaced that is there");
  if (err == 0) err = zone_sys_linux.replace(from, to, length);
  if (err == 0) ranges_cut(&fake_zone.watched, (uintptr_t)to, (uintptr_t)to + length);
  return err;
}

/* With the watch's descriptor go all its ranges, and everybody goes on. */
static void fake_zone_close(int descriptor) {
  fake_zone.open_files--;
  if (descriptor == watch_file) {
    fake_zone.watched.n = fake_zone.waiting.n = 0;
    watch_file = -1;
  }
  if (close(descriptor) != 0) wrong("closed what isn't open");
}

static size_t fake_zone_max_mappings(void) { return fake_zone.max_mappings; }
static unsigned fake_zone_waiters(uintptr_t *out, unsigned most) {
  for (unsigned i = 0; i < fake_zone.nwaiters && i < most; i++) out[i] = fake_zone.waiters[i];
  return fake_zone.nwaiters;
}

static unsigned fake_zone_kernel(void) { return fake_zone.kernel; }

static const struct zone_sys_ops fake_zone_ops = {
    .open = fake_zone_open,
    .view = fake_zone_view,
    .share = fake_zone_share,
    .freeze = fake_zone_freeze,
    .contended = fake_zone_contended,
    .punch = fake_zone_punch,
    .watch_open = fake_zone_watch_open,
    .watch = fake_zone_watch,
    .unwatch = fake_zone_unwatch,
    .wake = fake_zone_wake,
    .shift = fake_zone_shift,
    .holds = fake_zone_holds,
    .replace = fake_zone_replace,
    .close = fake_zone_close,
    .max_mappings = fake_zone_max_mappings,
    .waiters = fake_zone_waiters,
    .kernel = fake_zone_kernel,
};

/* ---- heaps ---- */

void zone_heap_begin(size_t size) {
  heap_begin(size, false);
  memset(&fake_zone, 0, sizeof fake_zone);
  fake_zone.kernel = 6018;
  fake_zone.max_mappings = 65530;
  watch_file = -1;
  zone_sys = &fake_zone_ops;
}

void zone_heap_end(void) {
  fake_zone_permit();
  fake_zone.seen = NULL;
  memset(fake.refuse, 0, sizeof fake.refuse);
  fake.refuse_at = fake.refuse_every = 0;
  fake.seen = NULL;
  zone_fini();
  compact_fini();
  mesh_fini();
  zone_sys = &zone_sys_linux;
  heap_end();
}

void fake_zone_clear_log(void) {
  memset(fake_zone.calls, 0, sizeof fake_zone.calls);
  fake_zone.logged = fake_zone.total = 0;
}

unsigned fake_zone_logged(enum fake_zone_call call) {
  unsigned n = 0;
  for (unsigned i = 0; i < fake_zone.logged && i < FAKE_ZONE_LOG; i++)
    n += fake_zone.log[i].call == call && fake_zone.log[i].result == 0;
  return n;
}

static bool none_in_arena(const struct fake_ranges *r) {
  for (unsigned i = 0; i < r->n; i++)
    if (arena_contains((void *)r->at[i].begin)) return false;
  return true;
}

bool fake_zone_quiet(void) {
  return none_in_arena(&fake_zone.watched) && none_in_arena(&fake_zone.waiting);
}

/* Tried on the real calls: a page written through the view is seen where it was shared. */
static bool can_share(void) {
  void *view = NULL, *p = NULL;
  bool ok = false;
  int fd = zone_sys_linux.open(4 * FRAME_SIZE);
  if (fd >= 0 && zone_sys_linux.view(fd, 4 * FRAME_SIZE, &view) == 0 &&
      sys_linux.reserve(4 * FRAME_SIZE, &p) == 0) {
    char *third = (char *)view + 2 * FRAME_SIZE;
    *third = 3;
    ok = zone_sys_linux.share(third, p, FRAME_SIZE) == 0 && *(char *)p == 3;
  }
  if (p != NULL) (void)sys_linux.unreserve(p, 4 * FRAME_SIZE);
  if (view != NULL) (void)sys_linux.unreserve(view, 4 * FRAME_SIZE);
  if (fd >= 0) zone_sys_linux.close(fd);
  return ok;
}

int zone_unit_main(const char *suite, const struct unit_test *tests) {
  if (can_share()) return unit_main(suite, tests);
  for (; tests->name != NULL; tests++)
    printf("SKIP %s: mremap can't map a part of a mapping twice here\n", tests->name);
  return 0;
}
