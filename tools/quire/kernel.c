#include "tools/quire/kernel.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 4400 };

static FILE *open_of(pid_t pid, const char *name) {
  char path[128];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
  return fopen(path, "re");
}

/* ---- smaps ---- */

static bool in_ranges(uint64_t from, uint64_t to, const struct kernel_range *ranges, unsigned n) {
  for (unsigned i = 0; i < n; i++)
    if (from >= ranges[i].from && to <= ranges[i].to) return true;
  return false;
}

/* The library's own data: where its file is mapped writable, and the memory behind it that has no
 * file, which the last part of its variables is in. */
static bool is_data(const char *line, uint64_t from, uint64_t to, uint64_t *data_end) {
  char access[5] = "", path[256] = "";
  (void)sscanf(line, "%*x-%*x %4s %*s %*s %*s %255s", access, path);
  const char *name = strrchr(path, '/');
  bool ours = access[1] == 'w' &&
              ((name != NULL && strstr(name, "quire") != NULL && strstr(name, ".so") != NULL) ||
               (path[0] == 0 && from == *data_end));
  if (ours) *data_end = to;
  return ours;
}

/* A line that begins a mapping; whether that is quire's. */
static bool begins(const char *line, const struct kernel_range *ranges, unsigned n,
                   uint64_t *data_end, bool *ours) {
  unsigned long long from, to;
  if (sscanf(line, "%llx-%llx ", &from, &to) != 2) return false;
  *ours = in_ranges(from, to, ranges, n) || strstr(line, "/memfd:quire ") != NULL ||
          is_data(line, from, to, data_end);
  return true;
}

static bool value_of(const char *line, const char *name, uint64_t *bytes) {
  unsigned long long kib;
  size_t n = strlen(name);
  if (strncmp(line, name, n) != 0 || line[n] != ':' || sscanf(line + n + 1, "%llu", &kib) != 1)
    return false;
  *bytes = (uint64_t)kib << 10;
  return true;
}

static void add_line(const char *line, bool ours, struct kernel_memory *out) {
  uint64_t bytes;
  if (value_of(line, "Pss", &bytes)) {
    out->pss += bytes;
    if (ours) out->heap_pss += bytes;
  } else if (value_of(line, "SwapPss", &bytes)) {
    out->swap += bytes;
    if (ours) out->heap_swap += bytes;
  } else if (ours && value_of(line, "Rss", &bytes)) {
    out->heap_rss += bytes;
  } else if (ours && (value_of(line, "AnonHugePages", &bytes) ||
                      value_of(line, "ShmemPmdMapped", &bytes))) {
    out->heap_huge += bytes;
  }
}

bool kernel_memory(pid_t pid, const struct kernel_range *ranges, unsigned nranges,
                   struct kernel_memory *out) {
  char line[LINE];
  uint64_t data_end = 0;
  bool ours = false;
  memset(out, 0, sizeof *out);
  FILE *f = open_of(pid, "smaps");
  if (f == NULL) return false;
  errno = 0;
  while (fgets(line, sizeof line, f) != NULL) {
    if (begins(line, ranges, nranges, &data_end, &ours)) {
      out->mappings++;
      out->heap_mappings += ours;
    } else {
      add_line(line, ours, out);
    }
  }
  int err = ferror(f) ? errno : out->mappings == 0 ? ESRCH : 0;
  fclose(f);
  errno = err;
  return err == 0;
}

bool kernel_pss(pid_t pid, uint64_t *pss) {
  char line[LINE];
  bool found = false;
  FILE *f = open_of(pid, "smaps_rollup");
  if (f == NULL) return false;
  while (!found && fgets(line, sizeof line, f) != NULL) found = value_of(line, "Pss", pss);
  fclose(f);
  if (!found) errno = ESRCH;
  return found;
}

/* ---- threads ---- */

/* The last number of NSpid is what the thread is called innermost. */
static bool is_called(pid_t pid, const char *task, uint64_t tid) {
  char name[64], line[LINE];
  bool found = false;
  snprintf(name, sizeof name, "task/%.16s/status", task);
  FILE *f = open_of(pid, name);
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    if (strncmp(line, "NSpid:", 6) != 0) continue;
    char *last = strrchr(line, '\t');
    found = last != NULL && strtoull(last + 1, NULL, 10) == tid;
    break;
  }
  if (f != NULL) fclose(f);
  return found;
}

pid_t kernel_thread(pid_t pid, uint64_t tid) {
  char path[64];
  pid_t found = 0;
  snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  DIR *tasks = tid == 0 ? NULL : opendir(path);
  struct dirent *entry;
  while (tasks != NULL && found == 0 && (entry = readdir(tasks)) != NULL)
    if (entry->d_name[0] != '.' && is_called(pid, entry->d_name, tid))
      found = (pid_t)atoi(entry->d_name);
  if (tasks != NULL) closedir(tasks);
  return found;
}

uint64_t kernel_thread_cpu_ns(pid_t pid, pid_t tid) {
  char name[64];
  unsigned long long ns = 0;
  snprintf(name, sizeof name, "task/%d/schedstat", (int)tid);
  FILE *f = open_of(pid, name);
  if (f == NULL) return 0;
  if (fscanf(f, "%llu", &ns) != 1) ns = 0;
  fclose(f);
  return ns;
}

/* ---- files ---- */

bool kernel_number(const char *path, uint64_t *out) {
  char word[64];
  FILE *f = fopen(path, "re");
  if (f == NULL) return false;
  bool ok = fscanf(f, "%63s", word) == 1;
  fclose(f);
  if (!ok) return false;
  char *end;
  *out = strcmp(word, "max") == 0 ? UINT64_MAX : strtoull(word, &end, 10);
  return strcmp(word, "max") == 0 || *end == 0;
}

/* The path of the group behind what a line of /proc/PID/cgroup begins with, "0::" or ":memory:". */
static bool group_path(pid_t pid, const char *begins, char *out, size_t size) {
  char line[LINE];
  bool found = false;
  FILE *f = open_of(pid, "cgroup");
  while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
    const char *at = strstr(line, begins);
    if (at == NULL || (begins[0] == '0' && at != line)) continue;
    line[strcspn(line, "\n")] = 0;
    found = snprintf(out, size, "%s", at + strlen(begins)) < (int)size;
  }
  if (f != NULL) fclose(f);
  return found;
}

/* Below the first of some mounts where this file of the group is. */
static bool find_group(const char *const mounts[2], const char *group, const char *file, char *out,
                       size_t size) {
  char path[LINE + 128];
  for (unsigned i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "%s%s/%s", mounts[i], group, file);
    if (access(path, F_OK) == 0) return snprintf(out, size, "%s%s", mounts[i], group) < (int)size;
  }
  return false;
}

static const char *const unified[2] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};

bool kernel_group(pid_t pid, char *out, size_t size) {
  char group[LINE];
  return group_path(pid, "0::", group, sizeof group) &&
         find_group(unified, group, "cgroup.procs", out, size);
}

static bool two_numbers(const char *group, const char *a, uint64_t *x, const char *b, uint64_t *y) {
  char path[LINE + 64];
  snprintf(path, sizeof path, "%s/%s", group, a);
  if (!kernel_number(path, x)) return false;
  snprintf(path, sizeof path, "%s/%s", group, b);
  return kernel_number(path, y);
}

bool kernel_group_memory(pid_t pid, uint64_t *used, uint64_t *limit) {
  static const char *const memory[2] = {"/sys/fs/cgroup/memory", "/cgroup/memory"};
  enum { NO_LIMIT_SHIFT = 62 }; /* version 1 says so by the largest number of pages */
  char path[LINE], group[LINE];
  uint64_t high;
  if (kernel_group(pid, group, sizeof group) &&
      two_numbers(group, "memory.current", used, "memory.max", limit)) {
    if (two_numbers(group, "memory.current", used, "memory.high", &high) && high < *limit)
      *limit = high;
    return true;
  }
  if (!group_path(pid, ":memory:", path, sizeof path) ||
      !find_group(memory, path, "memory.usage_in_bytes", group, sizeof group) ||
      !two_numbers(group, "memory.usage_in_bytes", used, "memory.limit_in_bytes", limit))
    return false;
  if (*limit >> NO_LIMIT_SHIFT != 0) *limit = UINT64_MAX;
  return true;
}
