/* All processes of this machine that run quire, read together and sorted: for export and top. */
#ifndef QUIRE_TOOLS_FLEET_H
#define QUIRE_TOOLS_FLEET_H

#include "tools/quire/report.h"

enum fleet_order { FLEET_BY_HEAP, FLEET_BY_LIVE, FLEET_BY_OVERHEAD, FLEET_BY_PSS, FLEET_BY_PID };

struct fleet {
  struct report *reports;
  unsigned n, room;
  unsigned unreadable; /* run quire, but may not be read */
  bool with_kernel;
  const pid_t *only; /* of these alone, if there are any */
  unsigned nonly;
};

/* Reads all anew; false without memory. It is zeros but for with_kernel and
 * only before the first time. */
bool fleet_read(struct fleet *fleet);
void fleet_sort(struct fleet *fleet, enum fleet_order order);
void fleet_free(struct fleet *fleet);

const char *fleet_order_name(enum fleet_order order);
/* -1: there is none of this name. */
int fleet_order_of(const char *name);

#endif
