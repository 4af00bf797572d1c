/* Statistics inside of alloc/ and preload/; the public side is include/quire.h. */
#ifndef QUIRE_ALLOC_STATS_H
#define QUIRE_ALLOC_STATS_H

#include "arch/compiler.h"

/* Fills in `quire_peek`. Called once, when the arena is ready. */
void peek_init(void);

/* The background thread is there, or (0, -1, NULL) not any more; its descriptor of the mailbox, or
 * -1; where that is mapped, or NULL. */
void peek_background(uint32_t tid, int mailbox_fd, const void *mailbox);

/* Bytes of address space. */
uint64_t stats_reserved(void);

/* The members of struct quire_stats by name, which all formats are made from; NULL past the end. */
enum stats_unit { STATS_COUNT, STATS_BYTES, STATS_FRAMES };
enum stats_type { STATS_GAUGE, STATS_COUNTER };

struct stats_field {
  const char *name;
  size_t offset;
  enum stats_unit unit;
  enum stats_type type;
  const char *help;
};
const struct stats_field *stats_field(size_t index);

/* Option stats:on: the text report on standard error. The first, called while the library is
 * loaded, keeps a descriptor for the second, since programs may close theirs before. */
void stats_prepare_at_exit(void);
void stats_print_at_exit(void);

/* One class of up to CACHED_CLASSES: objects unless a name or comment says otherwise. */
struct class_stats {
  size_t size; /* bytes of an object */
  size_t nslabs, frames;
  size_t free_slots; /* in slabs */
  size_t cached;     /* in thread caches */
  size_t transfer;   /* in the transfer area */
  size_t tails;      /* bytes at the slabs' ends that no slot covers */
  size_t metadata;   /* bytes */
};

void class_stats(unsigned size_class, struct class_stats *out);

#endif
