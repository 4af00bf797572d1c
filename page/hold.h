/* The word of an owner that has no lock of its own: is it there, has somebody taken it, how often
 * is it pinned. Whoever wants to change the owner's frames takes it first; nobody ever waits.
 *
 *   bits 0-1 state, 2-31 pins
 *
 *   GONE    descriptor without frames: no memdesc names it
 *   LIVE    allocated; pins only here
 *   TAKEN   somebody works on its frames: compaction, or a call that allocates, resizes or moves it
 *   LEFT    freed, the frames still to be given back: by whoever freed it, or, if it was TAKEN
 *           then, by whoever has taken it when it puts it back
 *
 *   GONE -> TAKEN -> LIVE (hold_begin, hold_open);  LIVE <-> TAKEN (hold_take, hold_put_back);
 *   LIVE, TAKEN -> LEFT (hold_free);  LEFT, TAKEN -> GONE (hold_end)
 *
 * Freeing costs one compare-and-swap. Descriptors are type-stable, so who comes by a stale pointer
 * may take the word, but must then look whether the frame still names this owner. A fork waits for
 * the end of compaction's unit of work, so a child finds no word TAKEN but by a thread that was
 * resizing the allocation: then it's nobody else's either. */
#ifndef QUIRE_PAGE_HOLD_H
#define QUIRE_PAGE_HOLD_H

#include <errno.h>

#include "arch/atomic.h"
#include "arch/compiler.h"
#include "page/owner.h"

enum hold_state { HOLD_GONE, HOLD_LIVE, HOLD_TAKEN, HOLD_LEFT };

enum { HOLD_STATE_MASK = 3, HOLD_PIN_SHIFT = 2, HOLD_PINS_MAX = (1 << 30) - 1 };

static inline enum hold_state hold_state(const uint32_t *word) {
  return (enum hold_state)(load_relaxed(word) & HOLD_STATE_MASK);
}

static inline uint32_t hold_pins(const uint32_t *word) {
  return load_relaxed(word) >> HOLD_PIN_SHIFT;
}

/* Taken by who allocates it, before any memdesc names it. */
static inline void hold_begin(uint32_t *word) { store_release(word, HOLD_TAKEN); }

/* All its memdescs do. */
static inline void hold_open(uint32_t *word) { store_release(word, HOLD_LIVE); }

/* No memdesc names it any more. */
static inline void hold_end(uint32_t *word) { store_release(word, HOLD_GONE); }

/* DONE: taken, nobody else can now. */
static inline nodiscard enum owner_verdict hold_take(uint32_t *word) {
  uint32_t seen = load_relaxed(word);
  if ((seen & HOLD_STATE_MASK) == HOLD_LIVE && seen >> HOLD_PIN_SHIFT != 0) return OWNER_PINNED;
  seen = HOLD_LIVE;
  return cas_acquire(word, &seen, HOLD_TAKEN) ? OWNER_DONE : OWNER_BUSY;
}

/* False: it was freed meanwhile, and the caller does what freeing would have done. */
static inline nodiscard bool hold_put_back(uint32_t *word) {
  uint32_t seen = HOLD_TAKEN;
  return cas_acq_rel(word, &seen, HOLD_LIVE);
}

enum hold_freed { HOLD_FREED, HOLD_FREED_LATER, HOLD_FREED_TWICE };

/* FREED: the caller gives the frames back, and ends; *pins that it had are gone with it. LATER:
 * somebody has taken it, and will. */
static inline nodiscard enum hold_freed hold_free(uint32_t *word, uint32_t *pins) {
  uint32_t seen = HOLD_LIVE;
  *pins = 0;
  while (unlikely(!cas_acq_rel(word, &seen, HOLD_LEFT))) {
    enum hold_state state = (enum hold_state)(seen & HOLD_STATE_MASK);
    if (state == HOLD_GONE || state == HOLD_LEFT) return HOLD_FREED_TWICE;
  }
  *pins = seen >> HOLD_PIN_SHIFT;
  return seen == HOLD_TAKEN ? HOLD_FREED_LATER : HOLD_FREED;
}

/* 0; -EBUSY: taken; -EINVAL: not there; -EOVERFLOW. */
static inline nodiscard int hold_pin(uint32_t *word) {
  uint32_t seen = load_relaxed(word);
  do {
    enum hold_state state = (enum hold_state)(seen & HOLD_STATE_MASK);
    if (state == HOLD_TAKEN) return -EBUSY;
    if (state != HOLD_LIVE) return -EINVAL;
    if (seen >> HOLD_PIN_SHIFT == HOLD_PINS_MAX) return -EOVERFLOW;
  } while (!cas_acquire(word, &seen, seen + (1u << HOLD_PIN_SHIFT)));
  return 0;
}

/* False when there is none to take back. */
static inline nodiscard bool hold_unpin(uint32_t *word) {
  uint32_t seen = load_relaxed(word);
  do {
    if ((seen & HOLD_STATE_MASK) != HOLD_LIVE || seen >> HOLD_PIN_SHIFT == 0) return false;
  } while (!cas_acq_rel(word, &seen, seen - (1u << HOLD_PIN_SHIFT)));
  return true;
}

#endif
