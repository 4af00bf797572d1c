#include "page/zone.h"

#include <errno.h>
#include <string.h>

#include "arch/lock.h"
#include "arch/sys.h"
#include "arch/zone_sys.h"
#include "page/hugepage.h"
#include "page/zone_impl.h"

enum {
  KERNEL_GOOD = 6012, /* stable kernels from here on carry the fixes of UFFDIO_MOVE */
  VIEW_LEAST = 64 << 20,
  TABLE_STEP = 64 << 10,
  MAPPINGS_SPARE = 4, /* one in so many of vm.max_map_count is the program's alone */
};

/* The backing of a frame as one word: 0 PLAIN, else its frame in the zone + 1; with FROZEN of a
 * zone that was given up. */
#define FROZEN ((uint32_t)1 << 31)

struct zone zone = {.fd = -1, .watch = -1};

static struct {
  struct lock lock;
  uint32_t *backing;       /* per frame of the arena; pages of it are touched as they are needed */
  struct zone_stats stats; /* stats.table: bytes of it that are writable, from the beginning */
} table = {.lock = LOCK_INIT(RANK_ZONE)};

static size_t table_bytes(void) {
  return align_up(arena.size / FRAME_SIZE * sizeof(uint32_t), sys_page_size());
}

static uint32_t word_of(pfn_t pfn) {
  const uint32_t *backing = load_acquire(&table.backing);
  return backing == NULL ? 0 : load_relaxed(&backing[pfn.n]);
}

/* ---- counting mappings: where two neighbours are not one ---- */

static bool parted(uint32_t left, uint32_t right) {
  if (left == 0 || right == 0) return left != right;
  return right != left + 1;
}

/* Mappings that begin at frames [from, + n]: of the last, only because of its left neighbour. */
static size_t count_parted(uint32_t from, size_t n) {
  size_t count = 0, end = arena.size / FRAME_SIZE;
  for (size_t i = 0; i <= n && from + i < end; i++) {
    uint32_t left = from + i == 0 ? 0 : table.backing[from + i - 1];
    count += parted(left, table.backing[from + i]);
  }
  return count;
}

static void count_word(uint32_t word, uint32_t pfn, size_t change) {
  if (word == 0) return;
  size_t *count = word & FROZEN     ? &table.stats.frozen
                  : word - 1 == pfn ? &table.stats.home
                                    : &table.stats.guest;
  store_relaxed(count, *count + change);
}

/* at: the frame of the zone that the first one gets, or NULL for PLAIN. */
static void record(pfn_t pfn, size_t n, const pfn_t *at) {
  size_t before = count_parted(pfn.n, n);
  for (size_t i = 0; i < n; i++) {
    uint32_t own = pfn.n + (uint32_t)i;
    uint32_t word = at == NULL ? 0 : at->n + (uint32_t)i + 1;
    count_word(table.backing[own], own, (size_t)-1);
    count_word(word, own, 1);
    store_relaxed(&table.backing[own], word);
  }
  store_relaxed(&table.stats.mappings, table.stats.mappings + count_parted(pfn.n, n) - before);
}

/* ---- opening ---- */

static int open_watch(int inherited) {
  int err = -EPERM;
  for (int source = WATCH_CALL; source < WATCH_SOURCES; source++) {
    if (source == WATCH_INHERITED && inherited < 0) break;
    int fd = zone_sys->watch_open((enum watch_source)source, inherited);
    if (fd >= 0) return fd;
    if (err != -ENOSYS || fd == -ENOSYS) err = fd;
  }
  return err;
}

/* Readable everywhere, writable as far as frames were ever of the zone. */
static int open_table(void) {
  void *p;
  if (table.backing != NULL) return 0;
  int err = sys->reserve(table_bytes(), &p);
  if (err != 0) return err;
  err = sys->open_read(p, table_bytes());
  if (err != 0) {
    (void)sys->unreserve(p, table_bytes());
    return err;
  }
  store_relaxed(&table.stats.table, 0);
  store_release(&table.backing, p);
  return 0;
}

/* Makes it writable for the frames before `end`; the lock is held. */
static int grow_table(size_t end) {
  size_t bytes = align_up(end * sizeof table.backing[0], TABLE_STEP);
  if (bytes > table_bytes()) bytes = table_bytes();
  size_t writable = table.stats.table;
  if (bytes <= writable) return 0;
  int err = sys->open_write((char *)table.backing + writable, bytes - writable);
  if (err == 0) store_relaxed(&table.stats.table, bytes);
  return err;
}

static int open_staging(void) {
  void *p;
  int err = 0;
  if (zone.staging == NULL) {
    err = sys->reserve(2 * HUGEPAGE_SIZE, &p);
    if (err != 0) return err;
    char *staging = (char *)align_up((uintptr_t)p, HUGEPAGE_SIZE);
    err = sys->open_write(staging, HUGEPAGE_SIZE);
    if (err != 0) {
      (void)sys->unreserve(p, 2 * HUGEPAGE_SIZE);
      return err;
    }
    (void)sys->advise_huge(staging, HUGEPAGE_SIZE, true);
    zone.staging = staging;
  }
  /* Can it be done at all? */
  err = zone_sys->watch(zone.watch, zone.staging, HUGEPAGE_SIZE);
  return err != 0 ? err : zone_sys->unwatch(zone.watch, zone.staging, HUGEPAGE_SIZE);
}

/* As long as the zone would be a danger: a program that locks all its memory has all of it filled.
 */
static int open_view(size_t least) {
  void *view;
  size_t opened = (size_t)arena.opened * HUGEPAGE_SIZE;
  size_t size = size_min(arena.size, size_max(VIEW_LEAST, 2 * size_max(least, opened)));
  int err = zone_sys->view(zone.fd, size, &view);
  if (err != 0) return err;
  if (zone.view != NULL) (void)sys->unreserve(zone.view, zone.view_size);
  zone.view = view;
  zone.view_size = size;
  return 0;
}

static enum zone_state open_all(bool force, int inherited) {
  if (sys_page_size() != FRAME_SIZE) return ZONE_NO_PAGES;
  if (!force && zone_sys->kernel() < KERNEL_GOOD) return ZONE_NO_KERNEL;
  zone.watch = open_watch(inherited);
  if (zone.watch < 0) return zone.watch == -ENOSYS ? ZONE_NO_KERNEL : ZONE_NO_WATCH;
  zone.fd = zone_sys->open(arena.size);
  if (zone.fd < 0 || open_view(0) != 0) return ZONE_NO_MEMORY;
  if (open_table() != 0 || open_staging() != 0) return ZONE_NO_MEMORY;
  table.stats.max_mappings = zone_sys->max_mappings();
  return ZONE_OPEN;
}

static void close_all(void) {
  if (zone.view != NULL) (void)sys->unreserve(zone.view, zone.view_size);
  if (zone.fd >= 0) zone_sys->close(zone.fd);
  if (zone.watch >= 0) zone_sys->close(zone.watch);
  zone.view = NULL;
  zone.view_size = 0;
  zone.fd = zone.watch = -1;
}

enum zone_state zone_open(bool force, int inherited) {
  if (zone.state == ZONE_OPEN) return ZONE_OPEN;
  enum zone_state state = open_all(force, inherited);
  if (state != ZONE_OPEN) close_all();
  store_relaxed(&zone.state, state);
  return state;
}

enum zone_state zone_state(void) { return load_relaxed(&zone.state); }

const char *zone_state_text(uint64_t state) {
  static const char *const texts[] = {
      [ZONE_CLOSED] = "not open",
      [ZONE_OPEN] = "open",
      [ZONE_NO_WATCH] = "userfaultfd is not permitted",
      [ZONE_NO_KERNEL] = "the kernel has no safe UFFDIO_MOVE (Linux 6.12)",
      [ZONE_NO_MEMORY] = "no file of memory or no address space",
      [ZONE_NO_PAGES] = "system pages are larger than frames",
  };
  return state < array_size(texts) ? texts[state] : "unknown";
}

/* ---- changing the backing ---- */

int zone_map(pfn_t pfn, size_t n, pfn_t at) {
  int err = -EBADF;
  lock_acquire(&table.lock);
  if (zone.fd >= 0) {
    err = grow_table((size_t)pfn.n + n);
    if (err == 0) err = zone_sys->share(zone_view(at), arena_addr(pfn), n * FRAME_SIZE);
    if (err == 0)
      record(pfn, n, &at);
    else
      table.stats.failures++;
  }
  lock_release(&table.lock);
  return err;
}

/* A mapping like its neighbours', or they could not be one again. */
static int refresh(pfn_t pfn, size_t n) {
  void *p = arena_addr(pfn);
  int err = sys->refresh(p, n * FRAME_SIZE);
  if (err != 0) {
    table.stats.failures++;
    return err;
  }
  bool huge = (arena.hugepages[pfn_hugepage(pfn).n].flags & HUGEPAGE_ADVISED) != 0;
  (void)sys->advise_huge(p, n * FRAME_SIZE, huge);
  return 0;
}

int zone_plain(pfn_t pfn, size_t n) {
  int err = 0;
  if (zone_is_plain(pfn, n)) return 0;
  lock_acquire(&table.lock);
  while (n > 0 && table.backing[pfn.n] == 0) pfn = pfn_add(pfn, 1), n--;
  while (n > 0 && table.backing[pfn.n + n - 1] == 0) n--;
  if (n > 0) err = refresh(pfn, n);
  if (n > 0 && err == 0) record(pfn, n, NULL);
  lock_release(&table.lock);
  return err;
}

void zone_punch(pfn_t pfn, size_t n) {
  lock_acquire(&table.lock);
  if (zone.fd >= 0) (void)zone_sys->punch(zone.fd, (uint64_t)pfn.n * FRAME_SIZE, n * FRAME_SIZE);
  lock_release(&table.lock);
}

bool zone_is_plain(pfn_t pfn, size_t n) {
  if (load_acquire(&table.backing) == NULL) return true;
  for (size_t i = 0; i < n; i++)
    if (word_of(pfn_add(pfn, i)) != 0) return false;
  return true;
}

enum zone_backing zone_backing(pfn_t pfn) {
  uint32_t word = word_of(pfn);
  if (word == 0) return ZONE_PLAIN;
  if (word & FROZEN) return ZONE_FROZEN;
  return word - 1 == pfn.n ? ZONE_HOME : ZONE_GUEST;
}

bool zone_is_home(pfn_t pfn, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (zone_backing(pfn_add(pfn, i)) != ZONE_HOME) return false;
  return true;
}

bool zone_has_home(pfn_t pfn, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (zone_backing(pfn_add(pfn, i)) == ZONE_HOME) return true;
  return false;
}

bool zone_is_shared(pfn_t pfn, size_t n) {
  bool stuck = load_relaxed(&table.stats.stuck) != 0;
  for (size_t i = 0; i < n; i++) {
    uint32_t word = word_of(pfn_add(pfn, i));
    if (word != 0 && (stuck || (word & FROZEN) == 0)) return true;
  }
  return false;
}

pfn_t zone_frame_of(pfn_t pfn) { return (pfn_t){(word_of(pfn) & ~FROZEN) - 1}; }

int zone_reach(pfn_t pfn, size_t n) {
  size_t end = ((size_t)pfn.n + n) * FRAME_SIZE;
  return end <= zone.view_size ? 0 : open_view(end);
}

void *zone_view(pfn_t pfn) { return zone.view + (size_t)pfn.n * FRAME_SIZE; }

/* The kernel makes no hugepage of nothing at all, but one of a single page: now, while nobody uses
 * it. Later it would copy 512 pages, and who touches one of them would wait for it. */
int zone_populate(hpn_t hpn) {
  int err = zone_reach(hugepage_pfn(hpn), HUGEPAGE_FRAMES);
  if (err != 0) return err;
  void *p = zone_view(hugepage_pfn(hpn));
  err = sys->populate(p, FRAME_SIZE);
  if (err != 0) return err;
  (void)sys->collapse(p, HUGEPAGE_SIZE);
  return sys->populate(p, HUGEPAGE_SIZE);
}

/* ---- freezing ---- */

/* The next run before `end` that one mapping covers, at or after *at; its length, 0 when there is
 * none. */
static size_t next_shared(uint32_t *at, uint32_t end) {
  while (*at < end && (table.backing[*at] == 0 || (table.backing[*at] & FROZEN))) ++*at;
  if (*at >= end) return 0;
  size_t n = 1;
  while (*at + n < end && table.backing[*at + n] == table.backing[*at] + n) n++;
  return n;
}

/* Stores meanwhile are no harm: a page that is mapped privately here and shared there changes only
 * in bytes that are not live here. */
static int freeze_run(uint32_t at, size_t n) {
  uint64_t offset = (uint64_t)(table.backing[at] - 1) * FRAME_SIZE;
  int err = zone_sys->freeze(zone.fd, arena_addr((pfn_t){at}), n * FRAME_SIZE, offset);
  if (err != 0) table.stats.failures++;
  return err;
}

static void record_frozen(uint32_t at, size_t n) {
  for (uint32_t i = at; i < at + n; i++) {
    count_word(table.backing[i], i, (size_t)-1);
    store_relaxed(&table.backing[i], table.backing[i] | FROZEN);
    count_word(table.backing[i], i, 1);
  }
}

/* The kernel has mapped the same runs before, so it does again. */
static size_t freeze_all(void) {
  size_t failed = 0, n;
  uint32_t end = arena.opened * HUGEPAGE_FRAMES;
  for (uint32_t at = 0; (n = next_shared(&at, end)) != 0; at += (uint32_t)n) {
    if (freeze_run(at, n) != 0) {
      failed += n;
      store_relaxed(&table.stats.stuck, table.stats.stuck + n);
    }
    record_frozen(at, n);
  }
  return failed;
}

/* Each may cut one mapping into three. */
static bool mappings_are_left(void) {
  size_t most = table.stats.max_mappings;
  return table.stats.mappings + 2 <= most - most / MAPPINGS_SPARE;
}

static int freeze_within(uint32_t at, size_t n) {
  size_t before = count_parted(at, n);
  int err = mappings_are_left() ? freeze_run(at, n) : -ENOMEM;
  if (err == 0) record_frozen(at, n);
  store_relaxed(&table.stats.mappings, table.stats.mappings + count_parted(at, n) - before);
  return err;
}

int zone_freeze_part(pfn_t pfn, size_t n, uint32_t *home) {
  int err = 0;
  uint32_t at = pfn.n, end = pfn.n + (uint32_t)n;
  *home = 0;
  lock_acquire(&table.lock);
  while (zone.fd >= 0 && err == 0 && (n = next_shared(&at, end)) != 0) {
    bool is_home = table.backing[at] - 1 == at;
    err = freeze_within(at, n);
    if (err == 0 && is_home) *home |= (uint32_t)((((uint64_t)1 << n) - 1) << (at - pfn.n));
    at += (uint32_t)n;
  }
  lock_release(&table.lock);
  return err;
}

/* As if every page were written to, but by the kernel: no store of the program's can get lost by
 * it, and memory that has run out is an error and no signal. */
int zone_settle(pfn_t pfn, size_t n) {
  return zone_is_plain(pfn, n) ? 0 : sys->populate(arena_addr(pfn), n * FRAME_SIZE);
}

size_t zone_freeze(void) {
  if (zone.state != ZONE_OPEN) return 0;
  lock_acquire(&table.lock);
  size_t failed = freeze_all();
  close_all();
  store_relaxed(&zone.state, ZONE_CLOSED);
  store_relaxed(&table.stats.mappings, count_parted(0, (size_t)arena.opened * HUGEPAGE_FRAMES));
  table.stats.freezes++;
  lock_release(&table.lock);
  return failed;
}

void zone_forget(void) {
  zone.view = NULL;
  zone.view_size = 0;
  zone.fd = zone.watch = -1;
  zone.state = ZONE_CLOSED;
}

/* ---- looking ---- */

void zone_stats(struct zone_stats *out) {
  lock_acquire(&table.lock);
  *out = table.stats;
  lock_release(&table.lock);
}

struct zone_places zone_places(void) {
  return (struct zone_places){&table.stats, &zone.state, &table.backing};
}

size_t zone_mappings(void) { return load_relaxed(&table.stats.mappings); }

void zone_lock(void) { lock_acquire(&table.lock); }
void zone_unlock(void) { lock_release(&table.lock); }
void zone_reset(void) { lock_reset(&table.lock); }

bool zone_consistent(void) {
  struct zone_stats counted = {0};
  bool ok = true;
  if (table.backing == NULL) return true;
  lock_acquire(&table.lock);
  size_t end = (size_t)arena.opened * HUGEPAGE_FRAMES;
  for (uint32_t i = 0; i < end; i++) {
    uint32_t word = table.backing[i];
    if (word == 0) continue;
    if (word & FROZEN)
      counted.frozen++;
    else if (word - 1 == i)
      counted.home++;
    else
      counted.guest++;
  }
  counted.mappings = count_parted(0, end);
  if (zone.state != ZONE_OPEN) ok = ok && counted.home + counted.guest == 0;
  ok = ok && counted.home == table.stats.home && counted.guest == table.stats.guest &&
       counted.frozen == table.stats.frozen && counted.mappings == table.stats.mappings;
  lock_release(&table.lock);
  return ok;
}

void zone_fini(void) {
  close_all();
  if (table.backing != NULL) (void)sys->unreserve(table.backing, table_bytes());
  table.backing = NULL;
  table.stats = (struct zone_stats){0};
  zone.staging = NULL;
  zone.state = ZONE_CLOSED;
}
