/* Bringing folios to the node that uses them.
 *
 * Theory. Who uses a folio is known only where it asks: a thread that reallocates it is about to
 * read and write it, and a program can say so (quire_bring). Such a folio is noted, if its memory
 * is near another node, and the background thread has the kernel migrate it: no address changes,
 * the kernel copies pages and whoever touches one just then waits for that page.
 *
 * Only hugepages that a folio has for itself are brought, as they are one node's as a whole; what
 * is smaller stays. For that time the folio is isolated (page/hold.h): a pinned one is refused,
 * one that is freed meanwhile is given back behind it. A hugepage is its new node's before its
 * memory is, so that what is put beside the folio meanwhile is asked for there; refused, it goes
 * back. The kernel's refusals are counted, and end it.
 *
 * What is noted is a handful of words, taken by compare-and-swap; when they are all in use, or a
 * folio goes before its turn, nothing happens. Lock: a unit of work holds that of discard passes,
 * so a fork waits for it. Thread safe. */
#ifndef QUIRE_PAGE_BRING_H
#define QUIRE_PAGE_BRING_H

#include "page/folio.h"

/* Notes that this thread uses the folio, if that has memory elsewhere that could be brought. Cheap
 * where there is one node. */
void bring_later(const struct folio *folio);

/* Is something noted? */
bool bring_pending(void);

/* A unit of work on what is noted: at most a few hugepages. True when there is more. For the
 * background thread. */
bool bring_next(void);

/* All of the folio that p lies in, to the node of this thread, in its time. 0: what could be
 * brought is there, or there is but one node. -EINVAL: p is in no folio. -EBUSY: pinned, or being
 * moved or resized. Otherwise what the kernel says; -EAGAIN: some of it refused. */
nodiscard int bring_now(const void *p);

/* A folio's part in it (page/folio.c): it is isolated. At most so many hugepages as the migration
 * says; true when nothing is left to do. */
bool bring_folio(struct folio *folio, struct migration *m);

struct bring_stats {
  uint64_t folios;  /* brought so far, in whole or in part */
  uint64_t frames;  /* that lay elsewhere, or had no memory yet */
  uint64_t refused; /* frames that the kernel left where they were */
};

void bring_stats(struct bring_stats *out);    /* racy */
const struct bring_stats *bring_places(void); /* where they are, for other processes */
void bring_fini(void);

#endif
