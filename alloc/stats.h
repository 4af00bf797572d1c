/* Statistics inside of alloc/; the public side is include/quire.h. */
#ifndef QUIRE_ALLOC_STATS_H
#define QUIRE_ALLOC_STATS_H

/* Fills in `quire_peek` when the arena is ready. */
void peek_init(void);

/* The text report on standard error: option stats:on. */
void stats_print_at_exit(void);

#endif
