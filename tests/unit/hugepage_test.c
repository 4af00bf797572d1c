/* The bitmaps of a hugepage against arrays of bytes. */
#include "page/hugepage.h"

#include <string.h>

#include "tests/unit/check.h"
#include "tests/unit/random.h"

struct model {
  bool used[HUGEPAGE_FRAMES], resident[HUGEPAGE_FRAMES], zero[HUGEPAGE_FRAMES];
};

static void begin(struct hugepage *hp, struct model *m) {
  hugepage_init(hp);
  memset(m, 0, sizeof *m);
  memset(m->zero, true, sizeof m->zero);
}

static unsigned count(const bool *bits) {
  unsigned n = 0;
  for (unsigned i = 0; i < HUGEPAGE_FRAMES; i++) n += bits[i];
  return n;
}

static unsigned longest(const struct model *m) {
  unsigned best = 0, run = 0;
  for (unsigned i = 0; i < HUGEPAGE_FRAMES; i++) {
    run = m->used[i] ? 0 : run + 1;
    if (run > best) best = run;
  }
  return best;
}

static int find(const struct model *m, unsigned n, unsigned align) {
  for (unsigned at = 0; at + n <= HUGEPAGE_FRAMES; at += align) {
    unsigned i = 0;
    while (i < n && !m->used[at + i]) i++;
    if (i == n) return (int)at;
  }
  return -1;
}

/* The next run of free resident frames cut to whole units, as the model sees it. */
static unsigned next_dirty(const struct model *m, unsigned *index, unsigned unit) {
  for (unsigned at = *index; at < HUGEPAGE_FRAMES;) {
    if (m->used[at] || !m->resident[at]) {
      at++;
      continue;
    }
    unsigned end = at;
    while (end < HUGEPAGE_FRAMES && !m->used[end] && m->resident[end]) end++;
    unsigned from = (at + unit - 1) / unit * unit, to = end / unit * unit;
    if (to > from) {
      *index = from;
      return to - from;
    }
    at = end;
  }
  return 0;
}

static bool alike(struct hugepage *hp, const struct model *m) {
  for (unsigned i = 0; i < HUGEPAGE_FRAMES; i++) {
    if ((hp->used[i / 64] >> i % 64 & 1) != m->used[i]) return false;
    if ((hp->resident[i / 64] >> i % 64 & 1) != m->resident[i]) return false;
    if ((hp->zero[i / 64] >> i % 64 & 1) != m->zero[i]) return false;
  }
  hp->state = hp->nused == 0                 ? HUGEPAGE_EMPTY
              : hp->nused == HUGEPAGE_FRAMES ? HUGEPAGE_FULL
                                             : HUGEPAGE_PARTIAL;
  return hugepage_consistent(hp) && hp->nused == count(m->used) &&
         hp->nresident == count(m->resident) && hp->longest == longest(m);
}

static void fresh_one_is_free_and_zero(void) {
  struct hugepage hp;
  unsigned at = 0;
  hugepage_init(&hp);
  CU_ASSERT_EQUAL(hp.longest, HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(hp.nused, 0);
  CU_ASSERT_TRUE(hugepage_is_free(&hp, 0, HUGEPAGE_FRAMES));
  CU_ASSERT_FALSE(hugepage_is_free(&hp, 1, HUGEPAGE_FRAMES));
  CU_ASSERT_EQUAL(hugepage_find(&hp, HUGEPAGE_FRAMES, HUGEPAGE_FRAMES), 0);
  CU_ASSERT_EQUAL(hugepage_next_dirty(&hp, &at, 1), 0);
  CU_ASSERT_TRUE(hugepage_take(&hp, 0, HUGEPAGE_FRAMES));
  CU_ASSERT_EQUAL(hp.longest, 0);
  CU_ASSERT_EQUAL(hugepage_find(&hp, 1, 1), -1);
}

static void written_frames_are_not_zero(void) {
  struct hugepage hp;
  hugepage_init(&hp);
  CU_ASSERT_TRUE(hugepage_take(&hp, 10, 4));
  hugepage_give(&hp, 10, 4);
  CU_ASSERT_FALSE(hugepage_take(&hp, 9, 2)); /* one of the two was written */
  hugepage_give(&hp, 9, 2);
  hugepage_discarded(&hp, 9, 5);
  CU_ASSERT_TRUE(hugepage_take(&hp, 9, 5));
}

static void random_step(struct random *r, struct hugepage *hp, struct model *m) {
  unsigned n = 1 + (unsigned)random_size(r, 9), align = 1u << random_below(r, 10);
  if (n > HUGEPAGE_FRAMES) n = HUGEPAGE_FRAMES;
  unsigned index = (unsigned)random_below(r, HUGEPAGE_FRAMES - n + 1);
  switch (random_below(r, 5)) {
  case 0:
  case 1: {
    int at = hugepage_find(hp, n, align);
    CU_ASSERT_EQUAL(at, find(m, n, align));
    if (at < 0) return;
    bool zero = true;
    for (unsigned i = (unsigned)at; i < (unsigned)at + n; i++) {
      zero = zero && m->zero[i];
      m->used[i] = m->resident[i] = true;
      m->zero[i] = false;
    }
    CU_ASSERT_EQUAL(hugepage_take(hp, (unsigned)at, n), zero);
    return;
  }
  case 2:
  case 3: { /* whatever used run begins at or behind index, cut to n */
    while (index < HUGEPAGE_FRAMES && !m->used[index]) index++;
    unsigned end = index;
    while (end < HUGEPAGE_FRAMES && end - index < n && m->used[end]) end++;
    if (end == index) return;
    hugepage_give(hp, index, end - index);
    memset(m->used + index, false, end - index);
    return;
  }
  default: {
    unsigned unit = 1u << random_below(r, 5), mine = index, theirs = index;
    unsigned length = hugepage_next_dirty(hp, &mine, unit);
    CU_ASSERT_EQUAL(length, next_dirty(m, &theirs, unit));
    if (length == 0) return;
    CU_ASSERT_EQUAL(mine, theirs);
    hugepage_discarded(hp, mine, length);
    for (unsigned i = mine; i < mine + length; i++) {
      m->resident[i] = false;
      m->zero[i] = true;
    }
  }
  }
}

static void bitmaps_agree_with_arrays(void) {
  struct hugepage hp;
  struct model m;
  struct random r = {test_seed()};
  uint64_t steps = test_steps(1000000), wrong = 0;
  begin(&hp, &m);
  for (uint64_t i = 0; i < steps; i++) {
    random_step(&r, &hp, &m);
    if (i % 16 == 0) wrong += !alike(&hp, &m);
    unsigned n = 1 + (unsigned)random_below(&r, 64),
             at = (unsigned)random_below(&r, HUGEPAGE_FRAMES);
    bool is_free = at + n <= HUGEPAGE_FRAMES;
    for (unsigned k = at; is_free && k < at + n; k++) is_free = !m.used[k];
    wrong += hugepage_is_free(&hp, at, n) != is_free;
    unsigned dirty = 0;
    for (unsigned k = 0; i % 16 == 0 && k < HUGEPAGE_FRAMES; k++)
      dirty += m.resident[k] && !m.used[k];
    wrong += i % 16 == 0 && hugepage_free_resident(&hp) != dirty;
  }
  CU_ASSERT_EQUAL(wrong, 0);
}

static void discarding_used_frames_leaves_them_used(void) {
  struct hugepage hp;
  hugepage_init(&hp);
  (void)hugepage_take(&hp, 0, 100);
  hugepage_discarded(&hp, 20, 10);
  CU_ASSERT_EQUAL(hp.nused, 100);
  CU_ASSERT_EQUAL(hp.nresident, 90);
  hp.state = HUGEPAGE_PARTIAL;
  CU_ASSERT_TRUE(hugepage_consistent(&hp));
  hugepage_give(&hp, 0, 100);
  CU_ASSERT_FALSE(hugepage_take(&hp, 20, 10)); /* may have been written after the discard */
}

static void consistency_sees_wrong_counts(void) {
  struct hugepage hp;
  hugepage_init(&hp);
  (void)hugepage_take(&hp, 3, 5);
  hp.state = HUGEPAGE_PARTIAL;
  CU_ASSERT_TRUE(hugepage_consistent(&hp));
  hp.nused++;
  CU_ASSERT_FALSE(hugepage_consistent(&hp));
  hp.nused--;
  hp.longest--;
  CU_ASSERT_FALSE(hugepage_consistent(&hp));
  hp.longest++;
  hp.zero[0] |= 8; /* used and known zero exclude each other */
  CU_ASSERT_FALSE(hugepage_consistent(&hp));
  hp.zero[0] &= ~(uint64_t)8;
  hp.state = HUGEPAGE_EMPTY;
  CU_ASSERT_FALSE(hugepage_consistent(&hp));
}

static const struct unit_test tests[] = {
    {"fresh_one_is_free_and_zero", fresh_one_is_free_and_zero},
    {"written_frames_are_not_zero", written_frames_are_not_zero},
    {"bitmaps_agree_with_arrays", bitmaps_agree_with_arrays},
    {"discarding_used_frames_leaves_them_used", discarding_used_frames_leaves_them_used},
    {"consistency_sees_wrong_counts", consistency_sees_wrong_counts},
    {0},
};

int main(void) { return unit_main("hugepage", tests); }
