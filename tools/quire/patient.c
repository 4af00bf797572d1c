#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tools/quire/doctor.h"

static FILE *open_of(pid_t pid, const char *name) {
  char path[64];
  if (pid == 0) pid = getpid();
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
  return fopen(path, "re");
}

static bool read_status(struct patient *p) {
  char line[512];
  unsigned long long bits;
  unsigned uid;
  FILE *f = open_of(p->pid, "status");
  if (f == NULL) return false;
  while (fgets(line, sizeof line, f) != NULL) {
    if (sscanf(line, "Uid: %*u %u", &uid) == 1) p->uid = uid;
    if (sscanf(line, "CapEff: %llx", &bits) == 1) p->capabilities = bits;
    (void)sscanf(line, "Seccomp: %d", &p->seccomp);
  }
  fclose(f);
  return true;
}

static void read_limits(struct patient *p) {
  char line[256], soft[32];
  FILE *f = open_of(p->pid, "limits");
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    uint64_t *limit = NULL;
    if (sscanf(line, "Max address space %31s", soft) == 1) limit = &p->address_space;
    if (sscanf(line, "Max locked memory %31s", soft) == 1) limit = &p->locked_memory;
    if (limit != NULL && strcmp(soft, "unlimited") != 0) *limit = strtoull(soft, NULL, 10);
  }
  if (f != NULL) fclose(f);
}

/* The innermost part of its group's path that is a service's or a scope's name. */
static void find_unit(struct patient *p) {
  const char *at = p->group;
  while ((at = strchr(at, '/')) != NULL) {
    size_t n = strcspn(++at, "/");
    bool service = n > 8 && strncmp(at + n - 8, ".service", 8) == 0;
    if (service && n < sizeof p->unit) snprintf(p->unit, sizeof p->unit, "%.*s", (int)n, at);
  }
}

bool patient_read(struct patient *p, pid_t pid) {
  struct process process;
  char error[PROCESS_ERROR_MAX];
  memset(p, 0, sizeof *p);
  p->pid = pid;
  p->seccomp = -1;
  p->address_space = p->locked_memory = UINT64_MAX;
  if (!read_status(p)) return false;
  read_limits(p);
  if (!kernel_group(pid == 0 ? getpid() : pid, p->group, sizeof p->group)) p->group[0] = 0;
  p->counted = kernel_group_memory(pid == 0 ? getpid() : pid, &p->group_used, &p->group_limit);
  if (pid == 0) return true;
  find_unit(p);
  p->runs_quire = process_open(&process, pid, error) == STATUS_OK &&
                  report_read(&process, false, &p->report, error) == STATUS_OK;
  return true;
}
