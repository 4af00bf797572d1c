/* The zone: opening it, the backing of frames against a model, its mappings against the kernel's
 * own list, freezing. */
#include "page/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/sys.h"
#include "page/zone_impl.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/fake_zone.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)32 * HUGEPAGE_SIZE)

enum { N = 2 * HUGEPAGE_FRAMES }; /* frames that the tests have, neither end at the arena's */

static pfn_t first;

static void begin_closed(void) {
  struct frames_run run;
  zone_heap_begin(ARENA);
  CU_ASSERT_EQUAL_FATAL(frames_alloc(N + 2 * HUGEPAGE_FRAMES, 1, FRAMES_SLAB, &run), 0);
  first = pfn_add(run.pfn, HUGEPAGE_FRAMES);
}

static void begin(void) {
  begin_closed();
  CU_ASSERT_EQUAL_FATAL(zone_open(false, -1), ZONE_OPEN);
  fake_zone_clear_log();
}

static void end(void) {
  CU_ASSERT_TRUE(zone_consistent());
  CU_ASSERT_TRUE(fake_zone_quiet());
  CU_ASSERT_PTR_NULL(fake_zone.wrong);
  zone_fini();
  CU_ASSERT_EQUAL(fake_zone.open_files, 0);
  zone_heap_end();
}

static pfn_t frame(size_t i) { return pfn_add(first, i); }
static volatile uint32_t *word(size_t i) { return arena_addr(frame(i)); }
static volatile uint32_t *zone_word(size_t i) { return zone_view(frame(i)); }

static struct zone_stats stats_now(void) {
  struct zone_stats stats;
  zone_stats(&stats);
  return stats;
}

/* ---- opening ---- */

static void asks_each_source_until_one_grants(void) {
  static const struct {
    int source[WATCH_SOURCES];
    int inherited;
    enum zone_state state;
    unsigned asked;
  } cases[] = {
      {{0, 0, 0}, -1, ZONE_OPEN, 1},
      {{-EPERM, 0, 0}, -1, ZONE_OPEN, 2},
      {{-EPERM, -ENOENT, 0}, 7, ZONE_OPEN, 3},
      {{-ENOSYS, -EACCES, 0}, 7, ZONE_OPEN, 3},
      {{-EPERM, -ENOENT, 0}, -1, ZONE_NO_WATCH, 2}, /* nothing was inherited */
      {{-EPERM, -EACCES, -EBADF}, 7, ZONE_NO_WATCH, 3},
      {{-ENOSYS, -ENOENT, 0}, -1, ZONE_NO_KERNEL, 2},
      {{-EPERM, -ENOSYS, 0}, -1, ZONE_NO_KERNEL, 2}, /* it may be used, and lacks the move */
  };
  for (unsigned i = 0; i < array_size(cases); i++) {
    begin_closed();
    memcpy(fake_zone.source, cases[i].source, sizeof fake_zone.source);
    CU_ASSERT_EQUAL(zone_open(false, cases[i].inherited), cases[i].state);
    CU_ASSERT_EQUAL(zone_state(), cases[i].state);
    CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_WATCH_OPEN], cases[i].asked);
    if (cases[i].state != ZONE_OPEN) CU_ASSERT_EQUAL(fake_zone.open_files, 0);
    end();
  }
}

static void old_kernels_are_refused_unless_forced(void) {
  begin_closed();
  fake_zone.kernel = 6011;
  CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_NO_KERNEL);
  CU_ASSERT_EQUAL(fake_zone.total, 0); /* nothing was tried */
  CU_ASSERT_EQUAL(zone_open(true, -1), ZONE_OPEN);
  end();
  begin_closed();
  fake_zone.kernel = 6012;
  CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
  end();
}

static void large_system_pages_have_none(void) {
  begin_closed();
  sys_set_page_size(64 << 10);
  CU_ASSERT_EQUAL(zone_open(true, -1), ZONE_NO_PAGES);
  CU_ASSERT_EQUAL(fake_zone.total, 0);
  sys_set_page_size(0);
  end();
}

static void it_opens_once(void) {
  begin();
  CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
  CU_ASSERT_EQUAL(fake_zone.total, 0);
  CU_ASSERT_EQUAL(stats_now().max_mappings, fake_zone.max_mappings);
  end();
}

/* Every call that opening makes, refused: nothing stays open, the reason is told, and the next
 * attempt succeeds and leaves a staging range that can be used. */
static void a_refused_opening_leaves_nothing(void) {
  unsigned refused = 0;
  for (unsigned n = 1;; n++) {
    begin_closed();
    fake_zone.refuse_at = n;
    enum zone_state state = zone_open(false, -1);
    bool reached = fake_zone.total >= n;
    if (state != ZONE_OPEN) {
      refused++;
      CU_ASSERT_TRUE(state == ZONE_NO_MEMORY || state == ZONE_NO_WATCH);
      CU_ASSERT_EQUAL(fake_zone.open_files, 0);
      CU_ASSERT_PTR_NULL(zone.view);
      CU_ASSERT_EQUAL(zone_map(frame(0), 1, frame(0)), -EBADF);
    }
    CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
    memset(zone.staging, 1, HUGEPAGE_SIZE);
    CU_ASSERT_EQUAL(sys->discard(zone.staging, HUGEPAGE_SIZE), 0);
    end();
    if (!reached) break;
  }
  CU_ASSERT_TRUE(refused >= 4); /* file, view, watch, unwatch */
}

/* In a child: without access the test would end here. */
static void try_staging(void) {
  memset(zone.staging, 1, HUGEPAGE_SIZE);
  child_check(zone.staging[HUGEPAGE_SIZE - 1] == 1);
}

/* The same for memory: the zone's table and its staging range. */
static void memory_that_ran_out_is_told(void) {
  unsigned refused = 0;
  for (unsigned n = 1;; n++) {
    begin_closed();
    unsigned before = fake.total;
    fake.refuse_at = before + n;
    enum zone_state state = zone_open(false, -1);
    bool reached = fake.total >= before + n;
    if (state != ZONE_OPEN) {
      refused++;
      CU_ASSERT_EQUAL(state, ZONE_NO_MEMORY);
      CU_ASSERT_EQUAL(fake_zone.open_files, 0);
    }
    CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
    CU_ASSERT_TRUE(child_lives(try_staging));
    end();
    if (!reached) break;
  }
  CU_ASSERT_TRUE(refused >= 4); /* reserve and open, of either */
}

static void every_state_has_a_text(void) {
  for (int s = ZONE_CLOSED; s <= ZONE_NO_PAGES; s++)
    CU_ASSERT_PTR_NOT_NULL(zone_state_text((enum zone_state)s));
}

/* ---- backing ---- */

static void host_and_guest_share_memory(void) {
  begin();
  *zone_word(3) = 33;
  CU_ASSERT_EQUAL(zone_map(frame(3), 1, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_map(frame(8), 1, frame(3)), 0);
  CU_ASSERT_EQUAL(*word(3), 33);
  word(8)[1] = 88;
  CU_ASSERT_EQUAL(word(3)[1], 88);
  CU_ASSERT_EQUAL(zone_word(3)[1], 88);
  CU_ASSERT_EQUAL(zone_backing(frame(3)), ZONE_HOME);
  CU_ASSERT_EQUAL(zone_backing(frame(8)), ZONE_GUEST);
  CU_ASSERT_EQUAL(zone_backing(frame(4)), ZONE_PLAIN);
  CU_ASSERT_EQUAL(zone_frame_of(frame(8)).n, frame(3).n);
  CU_ASSERT_TRUE(zone_is_home(frame(3), 1));
  CU_ASSERT_FALSE(zone_is_home(frame(3), 2));
  CU_ASSERT_FALSE(zone_is_home(frame(8), 1));
  CU_ASSERT_EQUAL(zone_plain(frame(8), 1), 0);
  CU_ASSERT_EQUAL(word(8)[1], 0);
  CU_ASSERT_EQUAL(word(3)[1], 88);
  end();
}

static void plain_frames_at_the_ends_are_left_alone(void) {
  begin();
  for (size_t i = 0; i < 10; i++) *word(i) = 1;
  CU_ASSERT_EQUAL(zone_map(frame(3), 2, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_map(frame(6), 1, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_plain(frame(0), 10), 0);
  for (size_t i = 0; i < 10; i++)
    CU_ASSERT_EQUAL(*word(i), i < 3 || i > 6 ? 1 : 0); /* 5 lay between */
  unsigned calls = fake.total;
  CU_ASSERT_EQUAL(zone_plain(frame(0), 10), 0);
  CU_ASSERT_EQUAL(fake.total, calls);
  end();
}

static void refused_remaps_change_nothing(void) {
  begin();
  *word(1) = 11;
  fake_zone_refuse(FAKE_ZONE_SHARE, -ENOMEM, 1, 1);
  CU_ASSERT_EQUAL(zone_map(frame(1), 1, frame(1)), -ENOMEM);
  CU_ASSERT_EQUAL(zone_backing(frame(1)), ZONE_PLAIN);
  CU_ASSERT_EQUAL(*word(1), 11);
  CU_ASSERT_EQUAL(stats_now().failures, 1);
  CU_ASSERT_EQUAL(zone_mappings(), 0);
  CU_ASSERT_EQUAL(zone_map(frame(1), 1, frame(1)), 0);
  *word(1) = 12;
  fake.refuse[FAKE_REFRESH] = -ENOMEM;
  CU_ASSERT_EQUAL(zone_plain(frame(1), 1), -ENOMEM);
  CU_ASSERT_EQUAL(zone_backing(frame(1)), ZONE_HOME);
  CU_ASSERT_EQUAL(*word(1), 12);
  CU_ASSERT_EQUAL(stats_now().failures, 2);
  fake.refuse[FAKE_REFRESH] = 0;
  /* Advice that is refused is no failure. */
  fake.refuse[FAKE_ADVISE_HUGE] = -EINVAL;
  CU_ASSERT_EQUAL(zone_plain(frame(1), 1), 0);
  CU_ASSERT_EQUAL(*word(1), 0);
  end();
}

static void punched_frames_read_as_zeros(void) {
  begin();
  for (size_t i = 0; i < 8; i++) *zone_word(i) = 1;
  zone_punch(frame(2), 4);
  for (size_t i = 0; i < 8; i++) CU_ASSERT_EQUAL(*zone_word(i), i < 2 || i > 5);
  end();
}

static void a_hugepage_is_populated_whole(void) {
  begin();
  hpn_t hpn = {pfn_hugepage(frame(0)).n + 1};
  char *view = zone_view(hugepage_pfn(hpn));
  CU_ASSERT_EQUAL(zone_populate(hpn), 0);
  CU_ASSERT_EQUAL(fake_resident(view, HUGEPAGE_SIZE), HUGEPAGE_SIZE);
  for (size_t i = 0; i < HUGEPAGE_SIZE; i += FRAME_SIZE) CU_ASSERT_EQUAL(view[i], 0);
  /* Without hugepages of memory too. */
  fake.refuse[FAKE_COLLAPSE] = -EINVAL;
  hpn.n++;
  CU_ASSERT_EQUAL(zone_populate(hpn), 0);
  CU_ASSERT_EQUAL(fake_resident(zone_view(hugepage_pfn(hpn)), HUGEPAGE_SIZE), HUGEPAGE_SIZE);
  fake.refuse[FAKE_POPULATE] = -ENOMEM;
  CU_ASSERT_EQUAL(zone_populate(hpn), -ENOMEM);
  end();
}

static int collapse_said;

static int collapse_and_note(void *p, size_t length) {
  return collapse_said = sys_linux.collapse(p, length);
}

/* Does this kernel make a hugepage of a file's single page? */
static int kernel_collapses(void) {
  void *view;
  int fd = zone_sys_linux.open(2 * HUGEPAGE_SIZE);
  CU_ASSERT_TRUE_FATAL(fd >= 0);
  CU_ASSERT_EQUAL_FATAL(zone_sys_linux.view(fd, 2 * HUGEPAGE_SIZE, &view), 0);
  CU_ASSERT_EQUAL((uintptr_t)view % HUGEPAGE_SIZE, 0);
  *(char *)view = 1;
  int err = sys_linux.collapse(view, HUGEPAGE_SIZE);
  CU_ASSERT_EQUAL(sys_linux.unreserve(view, 2 * HUGEPAGE_SIZE), 0);
  zone_sys_linux.close(fd);
  return err;
}

/* It does not of nothing: what is asked for too early leaves small pages, to be copied later. */
static void it_is_populated_by_a_hugepage(void) {
  begin();
  const struct sys_ops *before = sys;
  struct sys_ops noting = *sys;
  noting.collapse = collapse_and_note;
  sys = &noting;
  collapse_said = 1;
  CU_ASSERT_EQUAL(zone_populate((hpn_t){pfn_hugepage(frame(0)).n + 1}), 0);
  sys = before;
  CU_ASSERT_TRUE(collapse_said <= 0);
  if (collapse_said != -ENOMEM && collapse_said != -EAGAIN && kernel_collapses() == 0)
    CU_ASSERT_EQUAL(collapse_said, 0);
  end();
}

static size_t mappings_of_files(void) {
  FILE *f = fopen("/proc/self/maps", "r");
  size_t n = 0;
  char line[512];
  while (f != NULL && fgets(line, sizeof line, f) != NULL)
    n += strstr(line, "/memfd:quire") != NULL;
  if (f != NULL) fclose(f);
  return n;
}

/* The kernel's own: tried on the file, it changes nothing. */
static void a_look_for_others_leaves_nothing_behind(void) {
  void *view;
  int fd = zone_sys_linux.open(2 * HUGEPAGE_SIZE);
  CU_ASSERT_TRUE_FATAL(fd >= 0);
  CU_ASSERT_EQUAL_FATAL(zone_sys_linux.view(fd, 2 * HUGEPAGE_SIZE, &view), 0);
  *(char *)view = 1;
  (void)zone_sys_linux.contended(view);
  size_t before = mappings_of_files();
  for (int i = 0; i < 20; i++) (void)zone_sys_linux.contended(view);
  CU_ASSERT_TRUE(before > 0 && mappings_of_files() == before);
  CU_ASSERT_EQUAL(*(char *)view, 1);
  CU_ASSERT_EQUAL(sys_linux.unreserve(view, 2 * HUGEPAGE_SIZE), 0);
  zone_sys_linux.close(fd);
}

/* ---- against a model ---- */

struct model_frame {
  enum zone_backing backing;
  uint32_t at;    /* HOME, GUEST, FROZEN: its frame of the zone */
  uint32_t value; /* PLAIN, FROZEN: its first word */
};

static struct model_frame model[N];
static uint32_t zone_values[N]; /* of the zone's frames */
static const char *differs;

static bool joined(const struct model_frame *a, const struct model_frame *b) {
  if (a->backing == ZONE_PLAIN || b->backing == ZONE_PLAIN) return a->backing == b->backing;
  return (a->backing == ZONE_FROZEN) == (b->backing == ZONE_FROZEN) && b->at == a->at + 1;
}

static size_t model_mappings(void) {
  struct model_frame plain = {0};
  size_t n = !joined(&plain, &model[0]) + !joined(&model[N - 1], &plain);
  for (size_t i = 1; i < N; i++) n += !joined(&model[i - 1], &model[i]);
  return n;
}

/* Mappings that the kernel has in the opened part of the arena. */
static size_t kernel_mappings(void) {
  FILE *f = fopen("/proc/self/maps", "r");
  size_t n = 0;
  unsigned long from, to;
  char line[512];
  while (f != NULL && fgets(line, sizeof line, f) != NULL)
    if (sscanf(line, "%lx-%lx", &from, &to) == 2)
      n += from < arena.base + (size_t)arena.opened * HUGEPAGE_SIZE && to > arena.base;
  if (f != NULL) fclose(f);
  return n;
}

static void compare(void) {
  size_t count[4] = {0};
  struct zone_stats stats = stats_now();
  for (size_t i = 0; i < N; i++) {
    const struct model_frame *m = &model[i];
    bool shared = m->backing == ZONE_HOME || m->backing == ZONE_GUEST;
    uint32_t value = shared ? zone_values[m->at] : m->value;
    if (zone_backing(frame(i)) != m->backing) differs = "backing";
    if (m->backing != ZONE_PLAIN && zone_frame_of(frame(i)).n != frame(m->at).n) differs = "place";
    if (*word(i) != value) differs = "contents";
    count[m->backing]++;
  }
  if (stats.home != count[ZONE_HOME] || stats.guest != count[ZONE_GUEST]) differs = "counts";
  if (stats.frozen != count[ZONE_FROZEN]) differs = "count of frozen frames";
  if (stats.mappings != model_mappings()) differs = "count of mappings";
  if (!zone_consistent()) differs = "zone_consistent";
}

static void model_map(size_t i, size_t n, size_t at) {
  bool ok = zone_map(frame(i), n, frame(at)) == 0;
  if (!ok) differs = "refused";
  for (size_t k = 0; k < n; k++)
    model[i + k] = (struct model_frame){i == at ? ZONE_HOME : ZONE_GUEST, (uint32_t)(at + k), 0};
}

static void model_plain(size_t i, size_t n) {
  if (zone_plain(frame(i), n) != 0) differs = "refused";
  while (n > 0 && model[i].backing == ZONE_PLAIN) i++, n--;
  while (n > 0 && model[i + n - 1].backing == ZONE_PLAIN) n--;
  for (size_t k = 0; k < n; k++) model[i + k] = (struct model_frame){0};
}

static void model_store(size_t i, uint32_t value) {
  struct model_frame *m = &model[i];
  *word(i) = value;
  if (m->backing == ZONE_HOME || m->backing == ZONE_GUEST)
    zone_values[m->at] = value;
  else
    m->value = value;
}

static void model_freeze(void) {
  if (zone_freeze() != 0) differs = "refused";
  for (size_t i = 0; i < N; i++) {
    if (model[i].backing != ZONE_HOME && model[i].backing != ZONE_GUEST) continue;
    model[i].backing = ZONE_FROZEN;
    model[i].value = zone_values[model[i].at];
  }
  memset(zone_values, 0, sizeof zone_values);
  if (zone_open(false, -1) != ZONE_OPEN) differs = "not open again";
}

static void model_freeze_part(size_t i, size_t n) {
  uint32_t home, expected = 0;
  for (size_t k = 0; k < n; k++) {
    struct model_frame *m = &model[i + k];
    if (m->backing == ZONE_HOME) expected |= (uint32_t)1 << k;
    if (m->backing != ZONE_HOME && m->backing != ZONE_GUEST) continue;
    m->backing = ZONE_FROZEN;
    m->value = zone_values[m->at];
  }
  if (zone_freeze_part(frame(i), n, &home) != 0 || zone_settle(frame(i), n) != 0)
    differs = "refused";
  if (home != expected) differs = "which were home";
}

static void follow_model(bool freezing) {
  struct random r = {test_seed()};
  uint64_t steps = test_steps(6000), freezes = 0;
  begin();
  memset(model, 0, sizeof model);
  memset(zone_values, 0, sizeof zone_values);
  differs = NULL;
  size_t before = kernel_mappings();
  for (uint64_t step = 0; step < steps && differs == NULL; step++) {
    size_t n = 1 + random_below(&r, random_below(&r, 4) == 0 ? 64 : 4);
    size_t i = random_below(&r, N - n + 1), at = random_below(&r, N - n + 1);
    switch (random_below(&r, 8)) {
    case 0:
    case 1:
      model_map(i, n, i);
      break;
    case 2:
    case 3:
      model_map(i, n, at);
      break;
    case 4:
      model_plain(i, n);
      break;
    case 5:
      if (!freezing) break;
      if (random_below(&r, 40) == 0) model_freeze(), freezes++;
      if (random_below(&r, 4) == 0) model_freeze_part(i, size_min(n, 32));
      break;
    default:
      model_store(i, (uint32_t)step + 1);
      break;
    }
    if (step % 8 == 0 || step + 1 == steps) compare();
  }
  compare();
  if (differs != NULL) printf("differs: %s\n", differs);
  CU_ASSERT_PTR_NULL(differs);
  CU_ASSERT_EQUAL(stats_now().freezes, freezes);
  /* Frozen neighbours that were written to apart stay apart in the kernel. */
  if (before != 0 && !freezing) CU_ASSERT_EQUAL(kernel_mappings(), before + model_mappings());
  if (before != 0) CU_ASSERT_TRUE(kernel_mappings() >= before + model_mappings());
  model_plain(0, N);
  compare();
  CU_ASSERT_PTR_NULL(differs);
  CU_ASSERT_EQUAL(zone_mappings(), 0);
  end();
}

static void backing_follows_a_model(void) { follow_model(false); }
static void backing_follows_a_model_through_freezes(void) { follow_model(true); }

/* What becomes plain while it is between others is one mapping with them again. */
static void plain_frames_merge_with_their_neighbours(void) {
  struct random r = {7};
  begin();
  size_t before = kernel_mappings();
  for (int i = 0; i < 100; i++) {
    size_t n = 1 + random_below(&r, 8), at = random_below(&r, N - n + 1);
    CU_ASSERT_EQUAL(zone_map(frame(random_below(&r, N - n + 1)), n, frame(at)), 0);
  }
  if (before != 0) CU_ASSERT_EQUAL(kernel_mappings(), before + zone_mappings());
  CU_ASSERT_TRUE(zone_mappings() > 50);
  for (size_t i = 0; i < N; i++) CU_ASSERT_EQUAL(zone_plain(frame(i), 1), 0);
  CU_ASSERT_EQUAL(zone_mappings(), 0);
  if (before != 0) CU_ASSERT_EQUAL(kernel_mappings(), before);
  end();
}

/* ---- freezing ---- */

static void frozen_frames_are_everybodys_own(void) {
  begin();
  CU_ASSERT_EQUAL(zone_map(frame(3), 1, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_map(frame(8), 1, frame(3)), 0);
  *word(3) = 33;
  word(8)[1] = 88;
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  CU_ASSERT_EQUAL(zone_state(), ZONE_CLOSED);
  CU_ASSERT_EQUAL(fake_zone.open_files, 0);
  CU_ASSERT_EQUAL(zone_backing(frame(3)), ZONE_FROZEN);
  CU_ASSERT_EQUAL(zone_backing(frame(8)), ZONE_FROZEN);
  CU_ASSERT_EQUAL(*word(3), 33);
  CU_ASSERT_EQUAL(*word(8), 33);
  *word(3) = 34;
  CU_ASSERT_EQUAL(*word(8), 33);
  word(8)[1] = 89;
  CU_ASSERT_EQUAL(word(3)[1], 88);
  CU_ASSERT_EQUAL(zone_freeze(), 0); /* nothing is left to freeze */
  CU_ASSERT_EQUAL(stats_now().freezes, 1);
  CU_ASSERT_EQUAL(zone_map(frame(3), 1, frame(3)), -EBADF);
  CU_ASSERT_EQUAL(zone_plain(frame(3), 1), 0);
  CU_ASSERT_EQUAL(*word(3), 0);
  CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
  CU_ASSERT_EQUAL(*zone_word(3), 0); /* another file */
  CU_ASSERT_EQUAL(zone_map(frame(3), 1, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_backing(frame(8)), ZONE_FROZEN);
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  CU_ASSERT_EQUAL(*word(8), 33);
  end();
}

/* A part of it, while the rest goes on. */
static void a_part_is_frozen_while_the_zone_is_open(void) {
  uint32_t home;
  begin();
  CU_ASSERT_EQUAL(zone_map(frame(3), 3, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_map(frame(8), 3, frame(3)), 0);
  for (size_t i = 3; i < 6; i++) *word(i) = 30 + (uint32_t)i;
  size_t mappings = zone_mappings();
  CU_ASSERT_EQUAL(zone_freeze_part(frame(2), 3, &home), 0);
  CU_ASSERT_EQUAL(home, 6); /* frames 3 and 4 */
  CU_ASSERT_EQUAL(zone_freeze_part(frame(9), 1, &home), 0);
  CU_ASSERT_EQUAL(home, 0);
  CU_ASSERT_EQUAL(zone_state(), ZONE_OPEN);
  CU_ASSERT_EQUAL(zone_mappings(), mappings + 3);
  CU_ASSERT_EQUAL(stats_now().frozen, 3);
  CU_ASSERT_EQUAL(zone_backing(frame(4)), ZONE_FROZEN);
  CU_ASSERT_EQUAL(zone_backing(frame(5)), ZONE_HOME);
  CU_ASSERT_FALSE(zone_is_shared(frame(2), 3));
  CU_ASSERT_TRUE(zone_is_shared(frame(2), 4));
  /* They read as they did, and what others store until the page is copied. */
  for (size_t i = 3; i < 6; i++) CU_ASSERT_EQUAL(*word(i), 30 + i);
  CU_ASSERT_EQUAL(*word(9), 34);
  *zone_word(4) = 44;
  CU_ASSERT_EQUAL(*word(9), 44);
  CU_ASSERT_EQUAL(zone_settle(frame(8), 3), 0);
  *zone_word(4) = 54;
  CU_ASSERT_EQUAL(*word(9), 44);
  CU_ASSERT_EQUAL(*word(4), 54);
  *word(9) = 1;
  *word(8) = 2; /* the zone's, and not frame 3's any more */
  CU_ASSERT_EQUAL(*zone_word(3), 2);
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  CU_ASSERT_EQUAL(*word(9), 1);
  CU_ASSERT_EQUAL(*word(8), 2);
  CU_ASSERT_EQUAL(zone_freeze_part(frame(2), 9, &home), 0); /* nothing is left to freeze */
  CU_ASSERT_EQUAL(home, 0);
  CU_ASSERT_FALSE(zone_is_shared(frame(0), 20));
  CU_ASSERT_EQUAL(zone_plain(frame(2), 9), 0);
  end();
}

static void a_part_that_is_refused_stays(void) {
  uint32_t home;
  begin();
  CU_ASSERT_EQUAL(zone_map(frame(3), 1, frame(3)), 0);
  *word(3) = 33;
  fake_zone_refuse(FAKE_ZONE_FREEZE, -ENOMEM, 1, 1);
  CU_ASSERT_EQUAL(zone_freeze_part(frame(3), 1, &home), -ENOMEM);
  CU_ASSERT_EQUAL(home, 0);
  CU_ASSERT_EQUAL(zone_backing(frame(3)), ZONE_HOME);
  CU_ASSERT_EQUAL(stats_now().failures, 1);
  CU_ASSERT_EQUAL(stats_now().stuck, 0);
  *word(3) = 34;
  CU_ASSERT_EQUAL(*zone_word(3), 34);
  end();
}

static void look_in_a_child(void) {
  child_check(*word(3) == 33 && *word(8) == 33);
  *word(3) = 1;
  child_check(*word(8) == 33);
  child_check(zone_state() == ZONE_CLOSED);
}

static void a_child_has_frozen_frames(void) {
  begin();
  CU_ASSERT_EQUAL(zone_map(frame(3), 1, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_map(frame(8), 1, frame(3)), 0);
  *word(3) = 33;
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  CU_ASSERT_TRUE(child_lives(look_in_a_child));
  CU_ASSERT_EQUAL(*word(3), 33);
  end();
}

static void refused_freezes_are_counted(void) {
  begin();
  CU_ASSERT_EQUAL(zone_map(frame(3), 2, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_map(frame(8), 1, frame(3)), 0);
  CU_ASSERT_EQUAL(zone_map(frame(20), 5, frame(20)), 0);
  *word(3) = 33;
  fake_zone_refuse(FAKE_ZONE_FREEZE, -ENOMEM, 1, 1);
  CU_ASSERT_EQUAL(zone_freeze(), 2);
  CU_ASSERT_EQUAL(stats_now().stuck, 2);
  CU_ASSERT_EQUAL(zone_state(), ZONE_CLOSED);
  CU_ASSERT_EQUAL(stats_now().failures, 1);
  CU_ASSERT_EQUAL(*word(3), 33); /* nothing is lost here */
  CU_ASSERT_EQUAL(*word(8), 33);
  end();
}

/* As a forked child does, which has none of these descriptors. */
static void forgetting_closes_nothing(void) {
  begin();
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
  int fd = zone.fd, watch = zone.watch;
  char *view = zone.view;
  size_t size = zone.view_size;
  zone_forget();
  CU_ASSERT_EQUAL(zone_state(), ZONE_CLOSED);
  CU_ASSERT_EQUAL(fake_zone.open_files, 2);
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  zone_sys->close(fd);
  zone_sys->close(watch);
  CU_ASSERT_EQUAL(sys->unreserve(view, size), 0);
  CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
  end();
}

static const struct unit_test tests[] = {
    {"asks_each_source_until_one_grants", asks_each_source_until_one_grants},
    {"old_kernels_are_refused_unless_forced", old_kernels_are_refused_unless_forced},
    {"large_system_pages_have_none", large_system_pages_have_none},
    {"it_opens_once", it_opens_once},
    {"a_refused_opening_leaves_nothing", a_refused_opening_leaves_nothing},
    {"memory_that_ran_out_is_told", memory_that_ran_out_is_told},
    {"every_state_has_a_text", every_state_has_a_text},
    {"host_and_guest_share_memory", host_and_guest_share_memory},
    {"plain_frames_at_the_ends_are_left_alone", plain_frames_at_the_ends_are_left_alone},
    {"refused_remaps_change_nothing", refused_remaps_change_nothing},
    {"punched_frames_read_as_zeros", punched_frames_read_as_zeros},
    {"a_hugepage_is_populated_whole", a_hugepage_is_populated_whole},
    {"it_is_populated_by_a_hugepage", it_is_populated_by_a_hugepage},
    {"a_look_for_others_leaves_nothing_behind", a_look_for_others_leaves_nothing_behind},
    {"backing_follows_a_model", backing_follows_a_model},
    {"backing_follows_a_model_through_freezes", backing_follows_a_model_through_freezes},
    {"plain_frames_merge_with_their_neighbours", plain_frames_merge_with_their_neighbours},
    {"frozen_frames_are_everybodys_own", frozen_frames_are_everybodys_own},
    {"a_child_has_frozen_frames", a_child_has_frozen_frames},
    {"refused_freezes_are_counted", refused_freezes_are_counted},
    {"a_part_is_frozen_while_the_zone_is_open", a_part_is_frozen_while_the_zone_is_open},
    {"a_part_that_is_refused_stays", a_part_that_is_refused_stays},
    {"forgetting_closes_nothing", forgetting_closes_nothing},
    {0},
};

int main(void) { return zone_unit_main("zone", tests); }
