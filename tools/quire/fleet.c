#include "tools/quire/fleet.h"

#include <stdlib.h>
#include <string.h>

enum { PROCESSES_MAX = 4096 };

/* Processes that end just now are left out. */
static bool add(struct process *process, void *arg) {
  struct fleet *f = arg;
  char error[PROCESS_ERROR_MAX];
  if (f->n == f->room) {
    unsigned room = f->room == 0 ? 16 : 2 * f->room;
    struct report *more = realloc(f->reports, room * sizeof *more);
    if (more == NULL) return false;
    f->reports = more;
    f->room = room;
  }
  if (report_read(process, f->with_kernel, &f->reports[f->n], error) == STATUS_OK) f->n++;
  return f->n < PROCESSES_MAX;
}

bool fleet_read(struct fleet *f) {
  f->n = 0;
  f->unreadable = f->nonly > 0 ? process_each_of(f->only, f->nonly, add, f) : process_each(add, f);
  return f->n < f->room || f->room == 0;
}

static int by_number(uint64_t a, uint64_t b) { return (a < b) - (a > b); }

/* Descending; equals by their numbers, so that lines keep their places. */
#define ORDER(name, member)                                                                        \
  static int name(const void *a, const void *b) {                                                  \
    const struct report *x = a, *y = b;                                                            \
    int order = by_number(x->member, y->member);                                                   \
    return order != 0 ? order : -by_number(x->process.pid, y->process.pid);                        \
  }

ORDER(by_heap, heap)
ORDER(by_live, numbers.stats.live)
ORDER(by_overhead, overhead)
ORDER(by_pss, kernel.pss)

static int by_pid(const void *a, const void *b) {
  const struct report *x = a, *y = b;
  return -by_number(x->process.pid, y->process.pid);
}

static const struct {
  const char *name;
  int (*compare)(const void *a, const void *b);
} orders[] = {
    [FLEET_BY_HEAP] = {"heap", by_heap},
    [FLEET_BY_LIVE] = {"live", by_live},
    [FLEET_BY_OVERHEAD] = {"overhead", by_overhead},
    [FLEET_BY_PSS] = {"pss", by_pss},
    [FLEET_BY_PID] = {"pid", by_pid},
};

void fleet_sort(struct fleet *f, enum fleet_order order) {
  if (f->n > 1) qsort(f->reports, f->n, sizeof f->reports[0], orders[order].compare);
}

void fleet_free(struct fleet *f) {
  free(f->reports);
  f->reports = NULL;
  f->n = f->room = 0;
}

const char *fleet_order_name(enum fleet_order order) { return orders[order].name; }

int fleet_order_of(const char *name) {
  for (unsigned i = 0; i < sizeof orders / sizeof orders[0]; i++)
    if (strcmp(orders[i].name, name) == 0) return (int)i;
  return -1;
}
