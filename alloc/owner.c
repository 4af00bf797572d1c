/* The program's own owners: include/quire.h's callbacks behind page/owned.h's. */
#include <errno.h>

#include "alloc/init.h"
#include "alloc/malloc.h"
#include "alloc/options.h"
#include "page/hold.h"
#include "page/owned.h"
#include "quire.h"

_Static_assert((int)QUIRE_DONE == OWNER_DONE && (int)QUIRE_BUSY == OWNER_BUSY &&
                   (int)QUIRE_PINNED == OWNER_PINNED && (int)QUIRE_NEVER == OWNER_NEVER,
               "the same words");

static const struct quire_owner_ops *ops_of(const struct holder *holder) {
  return holder->callbacks;
}

/* What a callback says is the program's word: nonsense counts as NEVER. */
static enum owner_verdict verdict_of(enum quire_verdict verdict) {
  return (unsigned)verdict <= QUIRE_NEVER ? (enum owner_verdict)verdict : OWNER_NEVER;
}

static enum owner_verdict isolate(struct holder *holder, void *p, size_t nframes) {
  const struct quire_owner_ops *ops = ops_of(holder);
  return ops->isolate == NULL ? OWNER_DONE : verdict_of(ops->isolate(holder->cookie, p, nframes));
}

static enum owner_verdict migrate(struct holder *holder, void *p, size_t nframes) {
  const struct quire_owner_ops *ops = ops_of(holder);
  return ops->migrate == NULL ? OWNER_NEVER : verdict_of(ops->migrate(holder->cookie, p, nframes));
}

static void put_back(struct holder *holder, void *p, size_t nframes) {
  const struct quire_owner_ops *ops = ops_of(holder);
  if (ops->put_back != NULL) ops->put_back(holder->cookie, p, nframes);
}

static size_t live(struct holder *holder, const void *p, size_t nframes) {
  const struct quire_owner_ops *ops = ops_of(holder);
  struct quire_owner_view view = {.live = nframes << FRAME_SHIFT};
  if (ops->describe != NULL) ops->describe(holder->cookie, p, nframes, &view);
  return view.live;
}

static enum owner_verdict poison(struct holder *holder, void *p, size_t nframes, void *failed) {
  const struct quire_owner_ops *ops = ops_of(holder);
  if (ops->poison == NULL) return OWNER_NEVER;
  enum owner_verdict verdict = verdict_of(ops->poison(holder->cookie, p, nframes, failed));
  return verdict == OWNER_DONE ? OWNER_DONE : OWNER_NEVER;
}

static bool may_pin(struct holder *holder, void *p, size_t nframes, enum pin_kind kind) {
  const struct quire_owner_ops *ops = ops_of(holder);
  return ops->may_pin == NULL ||
         ops->may_pin(holder->cookie, p, nframes, (enum quire_pin_kind)kind);
}

static const struct holder_ops holder_ops = {
    .isolate = isolate,
    .migrate = migrate,
    .put_back = put_back,
    .live = live,
    .poison = poison,
    .may_pin = may_pin,
};

/* The public type is a name for the holder. */
static struct holder *holder_of(struct quire_owner *owner) { return (struct holder *)owner; }

public_symbol struct quire_owner *quire_owner_create(const struct quire_owner_ops *ops,
                                                     void *cookie) {
  struct holder *holder = alloc_ready() ? holder_new(&holder_ops, ops, cookie) : NULL;
  if (holder == NULL) errno = ENOMEM;
  return (struct quire_owner *)holder;
}

public_symbol int quire_owner_destroy(struct quire_owner *owner) {
  return -holder_free(holder_of(owner));
}

public_symbol void *quire_owner_alloc(struct quire_owner *owner, size_t frames) {
  struct owned *owned = owned_alloc(holder_of(owner), frames);
  if (owned != NULL) return owned_addr(owned);
  errno = ENOMEM;
  return NULL;
}

public_symbol void quire_owner_free(struct quire_owner *owner, void *p) {
  memdesc_t d = {0};
  if (arena_contains(p)) d = memmap_get(arena_pfn(p));
  struct owned *owned = memdesc_owner(d);
  if (memdesc_type(d) != MEMDESC_OWNED || owned->holder != holder_of(owner) ||
      owned_addr(owned) != p)
    misuse_report("free of a run that is not this owner's", p, 0);
  size_t size = (size_t)owned->nframes << FRAME_SHIFT;
  if (options.check && hold_pins(&owned->refs) != 0 && pin_overlaps(p, size))
    misuse_report("free of a pinned run", p, 0);
  if (!owned_free(owned)) misuse_report("double free of a run", p, 0);
}
