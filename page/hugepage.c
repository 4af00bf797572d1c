#include "page/hugepage.h"

#include <string.h>

void hugepage_init(struct hugepage *hp) {
  memset(hp, 0, sizeof *hp);
  memset(hp->zero, 0xff, sizeof hp->zero);
  hp->longest = HUGEPAGE_FRAMES;
  hp->state = HUGEPAGE_EMPTY;
}

/* Walks [*at, end) a word at a time: the mask of the bits in *word, 0 when done. */
static uint64_t next_mask(unsigned *at, unsigned end, unsigned *word) {
  if (*at >= end) return 0;
  unsigned from = *at % 64, n = end - *at < 64 - from ? end - *at : 64 - from;
  *word = *at / 64;
  *at += n;
  return (n == 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1) << from;
}

/* Most words are of one kind, and without its instruction (x86-64-v2) counting is a call. */
static inline unsigned count_word(uint64_t word) {
  if (word == 0) return 0;
  return word == ~(uint64_t)0 ? 64 : (unsigned)__builtin_popcountll(word);
}

static unsigned count_bits(const uint64_t *bits) {
  unsigned n = 0;
  for (unsigned w = 0; w < HUGEPAGE_WORDS; w++) n += count_word(bits[w]);
  return n;
}

/* From `at`, the first index whose bit in `bits` equals `value`; HUGEPAGE_FRAMES when none. */
static unsigned next_bit(const uint64_t *bits, unsigned at, bool value) {
  while (at < HUGEPAGE_FRAMES) {
    uint64_t word = bits[at / 64];
    word = (value ? word : ~word) >> at % 64;
    if (word != 0) return at + (unsigned)__builtin_ctzll(word);
    at = (at / 64 + 1) * 64;
  }
  return HUGEPAGE_FRAMES;
}

int hugepage_find(const struct hugepage *hp, unsigned n, unsigned align) {
  unsigned at = 0;
  for (;;) {
    at = next_bit(hp->used, at, false);
    at = (at + align - 1) & ~(align - 1);
    if (at + n > HUGEPAGE_FRAMES) return -1;
    unsigned end = next_bit(hp->used, at, true);
    if (end >= at + n) return (int)at;
    at = end > at ? end : at + 1;
  }
}

static unsigned longest_free_run(const struct hugepage *hp) {
  unsigned longest = 0;
  for (unsigned at = 0;;) {
    at = next_bit(hp->used, at, false);
    if (at + longest >= HUGEPAGE_FRAMES) return longest;
    unsigned end = next_bit(hp->used, at, true);
    if (end - at > longest) longest = end - at;
    at = end;
  }
}

bool hugepage_take(struct hugepage *hp, unsigned index, unsigned n) {
  bool zero = true;
  uint64_t mask;
  for (unsigned w, at = index; (mask = next_mask(&at, index + n, &w)) != 0;) {
    debug_assert((hp->used[w] & mask) == 0);
    zero = zero && (hp->zero[w] & mask) == mask;
    hp->used[w] |= mask;
    hp->nresident += (uint16_t)count_word(mask & ~hp->resident[w]);
    hp->resident[w] |= mask;
    hp->zero[w] &= ~mask;
  }
  hp->nused += (uint16_t)n;
  hp->longest = (uint16_t)longest_free_run(hp);
  return zero;
}

void hugepage_give(struct hugepage *hp, unsigned index, unsigned n) {
  uint64_t mask;
  for (unsigned w, at = index; (mask = next_mask(&at, index + n, &w)) != 0;) {
    assert_always((hp->used[w] & mask) == mask);
    hp->used[w] &= ~mask;
  }
  hp->nused -= (uint16_t)n;
  /* The run that these frames became part of is the only one that can have grown. */
  unsigned first = index, end = next_bit(hp->used, index, true);
  while (first > 0 && !(hp->used[(first - 1) / 64] >> (first - 1) % 64 & 1)) {
    if (first % 64 == 0 && hp->used[first / 64 - 1] == 0)
      first -= 64;
    else
      first--;
  }
  if (end - first > hp->longest) hp->longest = (uint16_t)(end - first);
}

bool hugepage_is_free(const struct hugepage *hp, unsigned index, unsigned n) {
  if (index + n > HUGEPAGE_FRAMES) return false;
  uint64_t mask;
  for (unsigned w, at = index; (mask = next_mask(&at, index + n, &w)) != 0;)
    if ((hp->used[w] & mask) != 0) return false;
  return true;
}

unsigned hugepage_next_dirty(const struct hugepage *hp, unsigned *index, unsigned unit) {
  uint64_t dirty[HUGEPAGE_WORDS];
  for (unsigned w = 0; w < HUGEPAGE_WORDS; w++) dirty[w] = hp->resident[w] & ~hp->used[w];
  unsigned at = *index;
  for (;;) {
    at = next_bit(dirty, at, true);
    if (at >= HUGEPAGE_FRAMES) return 0;
    unsigned end = next_bit(dirty, at, false);
    /* Where the system page is larger than a frame, free neighbours that are clean may complete it;
     * simpler and rare enough to leave: only wholly dirty system pages go. */
    unsigned from = (at + unit - 1) & ~(unit - 1), to = end & ~(unit - 1);
    if (to > from) {
      *index = from;
      return to - from;
    }
    at = end;
  }
}

void hugepage_discarded(struct hugepage *hp, unsigned index, unsigned n) {
  uint64_t mask;
  for (unsigned w, at = index; (mask = next_mask(&at, index + n, &w)) != 0;) {
    hp->nresident -= (uint16_t)count_word(mask & hp->resident[w]);
    hp->resident[w] &= ~mask;
    hp->zero[w] |= mask & ~hp->used[w];
  }
}

void hugepage_filled(struct hugepage *hp, unsigned index, unsigned n) {
  uint64_t mask;
  for (unsigned w, at = index; (mask = next_mask(&at, index + n, &w)) != 0;) {
    hp->nresident += (uint16_t)count_word(mask & ~hp->resident[w]);
    hp->resident[w] |= mask;
  }
}

unsigned hugepage_free_resident(const struct hugepage *hp) {
  unsigned n = 0;
  for (unsigned w = 0; w < HUGEPAGE_WORDS; w++) n += count_word(hp->resident[w] & ~hp->used[w]);
  return n;
}

bool hugepage_consistent(const struct hugepage *hp) {
  for (unsigned w = 0; w < HUGEPAGE_WORDS; w++)
    if ((hp->used[w] & hp->zero[w]) != 0) return false;
  if (hp->nused != count_bits(hp->used) || hp->nresident != count_bits(hp->resident)) return false;
  if (hp->longest != longest_free_run(hp)) return false;
  switch (hp->state) {
  case HUGEPAGE_EMPTY:
    return hp->nused == 0;
  case HUGEPAGE_ISOLATED:
    return hp->nused == 0 || (hp->flags & HUGEPAGE_BUSY) != 0;
  case HUGEPAGE_PARTIAL:
    return hp->nused > 0 && hp->nused < HUGEPAGE_FRAMES;
  case HUGEPAGE_FULL:
    return hp->nused == HUGEPAGE_FRAMES;
  default:
    return false;
  }
}
