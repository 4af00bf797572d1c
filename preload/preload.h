/* Inside of preload/: symbols and nothing else. */
#ifndef QUIRE_PRELOAD_PRELOAD_H
#define QUIRE_PRELOAD_PRELOAD_H

#include "alloc/malloc.h"

/* Pointers of the libc that quire was loaded in front of. */
extern const struct foreign_ops preload_foreign;

#endif
