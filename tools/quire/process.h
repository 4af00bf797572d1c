/* Processes: which of them run quire, and reading one. */
#ifndef QUIRE_TOOLS_PROCESS_H
#define QUIRE_TOOLS_PROCESS_H

#include <sys/types.h>

#include "tools/quire/snapshot.h"

/* Exit statuses of every subcommand; documented in quire(1). */
enum status {
  STATUS_OK = 0,
  STATUS_FAILED = 1,     /* what was asked for could not be done */
  STATUS_USAGE = 2,      /* wrong options or arguments */
  STATUS_NO_PROCESS = 3, /* there is no such process (any more) */
  STATUS_NOT_QUIRE = 4,  /* it doesn't run quire */
  STATUS_DENIED = 5,     /* not permitted */
  STATUS_VERSION = 6,    /* another version of quire */
};

struct process {
  struct target target; /* first: a struct target * of it is a struct process * */
  pid_t pid;
  struct quire_peek header; /* as read when it was opened */
};

enum { PROCESS_ERROR_MAX = 512 };

/* Finds quire in a process. On anything but STATUS_OK `error` is one or two sentences for people:
 * what is wrong, and what would help. Nothing stays open: there is no process_close. */
enum status process_open(struct process *out, pid_t pid, char error[PROCESS_ERROR_MAX]);

/* The same for what snapshot_* returned on this process's target. */
enum status process_explain(const struct process *process, enum snapshot_status status,
                            char error[PROCESS_ERROR_MAX]);

/* snapshot_read, with who and when. */
enum status process_snapshot(struct process *process, struct snapshot *out,
                             char error[PROCESS_ERROR_MAX]);

/* Fills in pid, time and names. */
void process_identify(pid_t pid, struct snapshot_process *out);

/* Calls visit for every process of this machine that runs quire and may be read, in order of their
 * numbers, until it returns false. Returns how many run quire but could not be read. */
unsigned process_each(bool (*visit)(struct process *process, void *arg), void *arg);

/* The same for the processes named. */
unsigned process_each_of(const pid_t *pids, unsigned npids,
                         bool (*visit)(struct process *process, void *arg), void *arg);

#endif
