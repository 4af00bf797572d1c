/* All that is told of one process in numbers: quire's own, and the kernel's beside them. */
#ifndef QUIRE_TOOLS_REPORT_H
#define QUIRE_TOOLS_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "tools/quire/kernel.h"
#include "tools/quire/process.h"

struct report {
  struct snapshot_process process;
  struct snapshot_numbers numbers;
  struct kernel_memory kernel;
  bool have_kernel;           /* smaps could be read */
  bool replayed;              /* from a recording, which has only quire's numbers */
  uint64_t background_cpu_ns; /* that the background thread has used; 0: unknown, or none */
  /* Overhead by cause, in bytes, so that live + overhead = heap. */
  uint64_t slots, tails, cached, transfer, dirty, metadata;
  uint64_t overhead, heap;
};

/* Or says why not. with_kernel: the kernel's numbers of its memory too, which cost it a walk over
 * the process's page tables. */
enum status report_read(struct process *process, bool with_kernel, struct report *out,
                        char error[PROCESS_ERROR_MAX]);

/* Of what a recording holds: all but the kernel's numbers. */
void report_replay(const struct snapshot *snapshot, struct report *out);

/* A page for people. */
void report_text(const struct report *report, FILE *out);

/* The same as a JSON object; NULL without memory. */
json_t *report_json(const struct report *report);

/* Prometheus' exposition format, of n processes together. */
void report_metrics(const struct report *reports, unsigned n, FILE *out);

/* What keeps memory from being meshed, in few words. */
const char *report_mesh_text(uint64_t state);

#endif
