/* What zone.c and mover.c share; nobody else includes it. */
#ifndef QUIRE_PAGE_ZONE_IMPL_H
#define QUIRE_PAGE_ZONE_IMPL_H

#include "page/zone.h"

/* Written by the thread that opens and freezes; fd under the zone's lock too. */
struct zone {
  enum zone_state state;
  int fd, watch;
  char *view; /* the first view_size bytes of the zone, shared */
  size_t view_size;
  char *staging; /* one hugepage of private memory, empty between lifts */
};

extern struct zone zone;

#endif
