/* Finding quire in a process.
 *
 * The symbol `quire_peek` is looked for first in what is mapped under a name with "quire" in it, by
 * the dynamic symbols as they are in the process's memory: so it matters neither whether the file
 * still exists, nor whose file system it is on. Then in the program itself: by its dynamic symbols,
 * then by the symbol table of its file (/proc/PID/exe, which leads there from any container), and
 * where that was stripped by the header's own first words in the program's data. */
#include "tools/quire/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tools/quire/elf.h"

enum { PIECES_MAX = 1024, READ_MAX = 1 << 30, DATA_MAX = 256 << 20 };

/* ---- memory ---- */

/* One piece that is longer than a call may be. */
static bool read_long(pid_t pid, const struct target_piece *piece) {
  for (size_t at = 0; at < piece->size;) {
    size_t n = piece->size - at < READ_MAX ? piece->size - at : READ_MAX;
    struct iovec local = {(char *)piece->buffer + at, n};
    struct iovec remote = {(void *)(uintptr_t)(piece->address + at), n};
    ssize_t got = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    if (got <= 0) {
      if (got == 0) errno = EFAULT;
      return false;
    }
    at += (size_t)got;
  }
  return true;
}

static bool read_some(pid_t pid, const struct target_piece *pieces, unsigned n) {
  struct iovec local[PIECES_MAX], remote[PIECES_MAX];
  size_t all = 0;
  for (unsigned i = 0; i < n; i++) {
    local[i] = (struct iovec){pieces[i].buffer, pieces[i].size};
    remote[i] = (struct iovec){(void *)(uintptr_t)pieces[i].address, pieces[i].size};
    all += pieces[i].size;
  }
  if (all == 0) return true;
  ssize_t got = process_vm_readv(pid, local, n, remote, n, 0);
  if (got >= 0 && (size_t)got != all) errno = EFAULT;
  return got >= 0 && (size_t)got == all;
}

static bool read_process(struct target *target, const struct target_piece *pieces, unsigned n) {
  pid_t pid = ((struct process *)target)->pid;
  while (n > 0) {
    size_t all = 0;
    unsigned take = 0;
    while (take < n && take < PIECES_MAX && pieces[take].size <= READ_MAX - all)
      all += pieces[take++].size;
    if (take == 0) {
      if (!read_long(pid, pieces)) return false;
      take = 1;
    } else if (!read_some(pid, pieces, take)) {
      return false;
    }
    pieces += take;
    n -= take;
  }
  return true;
}

/* ---- mappings ---- */

struct mapping {
  uint64_t from, to, offset;
  char access[5];
  char path[PATH_MAX];
};

static bool next_mapping(FILE *maps, struct mapping *out) {
  char line[PATH_MAX + 128];
  unsigned long long from, to, offset;
  int at = 0;
  if (fgets(line, sizeof line, maps) == NULL) return false;
  if (sscanf(line, "%llx-%llx %4s %llx %*s %*s %n", &from, &to, out->access, &offset, &at) < 4)
    return false;
  out->from = from;
  out->to = to;
  out->offset = offset;
  size_t length = strcspn(line + at, "\n");
  if (length >= sizeof out->path) length = sizeof out->path - 1;
  memcpy(out->path, line + at, length);
  out->path[length] = 0;
  return true;
}

static FILE *open_maps(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
  return fopen(path, "re");
}

static bool is_library(const char *path) {
  const char *name = strrchr(path, '/');
  return name != NULL && strstr(name, "quire") != NULL && strstr(name, ".so") != NULL;
}

/* ---- the header ---- */

/* Of a file of symbols, or in the data of a program that was stripped. */
struct program {
  uint64_t base; /* where its first page is mapped; 0: not found */
  uint64_t data, data_end;
};

static bool looks_like_header(struct target *t, uint64_t address) {
  struct {
    uint64_t magic;
    uint32_t version, size;
  } first;
  return address != 0 && target_read(t, address, &first, sizeof first) &&
         (first.magic == QUIRE_PEEK_MAGIC || first.magic == 0) && first.version != 0 &&
         first.version < 1000 && first.size >= sizeof first;
}

static uint64_t find_in_data(struct target *t, uint64_t from, uint64_t to) {
  enum { CHUNK = 1 << 16, HEAD = 16 };
  static char chunk[CHUNK + HEAD];
  if (to - from > DATA_MAX) return 0;
  for (uint64_t at = from; at + HEAD <= to; at += CHUNK) {
    size_t n = to - at < sizeof chunk ? to - at : sizeof chunk;
    if (!target_read(t, at, chunk, n)) return 0;
    for (size_t i = 0; i + HEAD <= n; i += 8) {
      uint64_t magic;
      memcpy(&magic, chunk + i, sizeof magic);
      if (magic == QUIRE_PEEK_MAGIC && looks_like_header(t, at + i)) return at + i;
    }
  }
  return 0;
}

static uint64_t find_in_program(struct process *p, const struct program *program) {
  char path[64];
  uint64_t value, first, address;
  if (program->base == 0) return 0;
  address = elf_symbol_in_memory(&p->target, program->base, "quire_peek");
  if (looks_like_header(&p->target, address)) return address;
  snprintf(path, sizeof path, "/proc/%d/exe", (int)p->pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  bool found = fd >= 0 && elf_symbol_in_file(fd, "quire_peek", &value, &first);
  if (fd >= 0) close(fd);
  if (found && looks_like_header(&p->target, program->base - first + value))
    return program->base - first + value;
  return find_in_data(&p->target, program->data, program->data_end);
}

/* Goes through the mappings once: libraries are tried as they come, the program after them. */
static uint64_t find_header(struct process *p, FILE *maps, bool *seen) {
  struct mapping m;
  struct program program = {0};
  char exe[PATH_MAX], path[64];
  snprintf(path, sizeof path, "/proc/%d/exe", (int)p->pid);
  ssize_t n = readlink(path, exe, sizeof exe - 1);
  exe[n > 0 ? n : 0] = 0;
  while (next_mapping(maps, &m)) {
    bool own = exe[0] != 0 && strcmp(m.path, exe) == 0;
    if (m.offset == 0 && is_library(m.path)) {
      *seen = true;
      uint64_t address = elf_symbol_in_memory(&p->target, m.from, "quire_peek");
      if (looks_like_header(&p->target, address)) return address;
      if (errno == EPERM || errno == EACCES) return 0;
    }
    if (own && m.offset == 0 && program.base == 0) program.base = m.from;
    if (own && m.access[1] == 'w' && program.data == 0) program.data = m.from;
    if (own && m.access[1] == 'w') program.data_end = m.to;
  }
  return find_in_program(p, &program);
}

/* ---- what is wrong ---- */

static long read_number(const char *path) {
  char text[32] = "";
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  return n <= 0 ? -1 : atol(text);
}

static bool exists(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d", (int)pid);
  return access(path, F_OK) == 0;
}

/* Its user, as the owner of its directory tells; that is root's of processes that may not be
 * dumped, whoever runs them. */
static bool is_ours(pid_t pid) {
  char path[64];
  struct stat st;
  snprintf(path, sizeof path, "/proc/%d", (int)pid);
  return stat(path, &st) == 0 && st.st_uid == geteuid();
}

static enum status explain_denied(pid_t pid, char error[PROCESS_ERROR_MAX]) {
  long scope = read_number("/proc/sys/kernel/yama/ptrace_scope");
  int at = snprintf(error, PROCESS_ERROR_MAX, "process %d may not be read. ", (int)pid);
  char *more = error + at;
  size_t room = PROCESS_ERROR_MAX - (size_t)at;
  if (scope == 3)
    snprintf(more, room,
             "kernel.yama.ptrace_scope is 3: nobody may until the machine is started anew with "
             "less.");
  else if (geteuid() == 0)
    snprintf(more, room,
             "root here lacks CAP_SYS_PTRACE over it: run quire outside of this container, or "
             "start that with --cap-add=SYS_PTRACE.");
  else if (!is_ours(pid))
    snprintf(more, room,
             "It is another user's, or has privileges of its own: run quire as root, or with "
             "CAP_SYS_PTRACE (setcap cap_sys_ptrace+ep on the quire command).");
  else if (scope > 0)
    snprintf(more, room,
             "kernel.yama.ptrace_scope is %ld: run quire as root, or permit it to one's own "
             "processes by 'sysctl -w kernel.yama.ptrace_scope=0'.",
             scope);
  else
    snprintf(more, room, "Run quire as root, or with CAP_SYS_PTRACE.");
  return STATUS_DENIED;
}

static enum status explain_errno(pid_t pid, int err, char error[PROCESS_ERROR_MAX]) {
  if (err == ESRCH || err == ENOENT || !exists(pid)) {
    snprintf(error, PROCESS_ERROR_MAX, "there is no process %d (any more).", (int)pid);
    return STATUS_NO_PROCESS;
  }
  if (err == EPERM || err == EACCES) return explain_denied(pid, error);
  if (err == ENOSYS) {
    snprintf(error, PROCESS_ERROR_MAX,
             "this kernel, or a filter on its calls (seccomp), has no process_vm_readv.");
    return STATUS_DENIED;
  }
  snprintf(error, PROCESS_ERROR_MAX,
           "process %d can't be read: %s. Perhaps it is ending, or running another program now.",
           (int)pid, strerror(err));
  return STATUS_FAILED;
}

enum status process_explain(const struct process *p, enum snapshot_status status,
                            char error[PROCESS_ERROR_MAX]) {
  int pid = (int)p->pid, err = errno;
  switch (status) {
  case SNAPSHOT_OK:
    error[0] = 0;
    return STATUS_OK;
  case SNAPSHOT_UNREADABLE:
    return explain_errno(p->pid, err, error);
  case SNAPSHOT_NOT_READY:
    snprintf(error, PROCESS_ERROR_MAX,
             "process %d runs quire but has allocated nothing yet: there is no heap to look at.",
             pid);
    return STATUS_FAILED;
  case SNAPSHOT_VERSION:
    snprintf(error, PROCESS_ERROR_MAX,
             "process %d runs another version of quire (its header is version %u of %u bytes, this "
             "command knows %u of %zu): use the quire command that came with its library.",
             pid, p->header.version, p->header.size, QUIRE_PEEK_VERSION, sizeof p->header);
    return STATUS_VERSION;
  case SNAPSHOT_GARBAGE:
    snprintf(error, PROCESS_ERROR_MAX,
             "what process %d holds can't be a heap of quire's: is it overwriting its memory, or "
             "running another program now?",
             pid);
    return STATUS_FAILED;
  case SNAPSHOT_NO_MEMORY:
    snprintf(error, PROCESS_ERROR_MAX, "not enough memory here for a snapshot of process %d.", pid);
    return STATUS_FAILED;
  }
  snprintf(error, PROCESS_ERROR_MAX, "process %d: unknown trouble.", pid);
  return STATUS_FAILED;
}

/* ---- opening ---- */

static enum status explain_not_found(pid_t pid, bool seen, int err, char error[PROCESS_ERROR_MAX]) {
  if (!exists(pid)) return explain_errno(pid, ESRCH, error);
  if (err == EPERM || err == EACCES || err == ENOSYS) return explain_errno(pid, err, error);
  if (seen)
    snprintf(error, PROCESS_ERROR_MAX,
             "process %d has a library of quire's name loaded, but it has no header to read "
             "(quire_peek).",
             (int)pid);
  else
    snprintf(error, PROCESS_ERROR_MAX,
             "process %d does not run quire. Start it by 'quire run PROGRAM ...', or with "
             "LD_PRELOAD=libquire.so.",
             (int)pid);
  return STATUS_NOT_QUIRE;
}

enum status process_open(struct process *out, pid_t pid, char error[PROCESS_ERROR_MAX]) {
  bool seen = false;
  memset(out, 0, sizeof *out);
  out->target.read = read_process;
  out->pid = pid;
  error[0] = 0;
  errno = 0;
  FILE *maps = open_maps(pid);
  if (maps == NULL) return explain_errno(pid, errno, error);
  errno = 0;
  out->target.header = find_header(out, maps, &seen);
  int err = errno;
  if (ferror(maps) && err == 0) err = EACCES;
  fclose(maps);
  if (out->target.header == 0) return explain_not_found(pid, seen, err, error);
  return process_explain(out, snapshot_header(&out->target, &out->header), error);
}

/* ---- who ---- */

/* Up to size - 1 bytes; what a terminal might take for an order becomes '?'. */
static void read_text(pid_t pid, const char *name, char *out, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
  if (fd >= 0) close(fd);
  if (n < 0) n = 0;
  while (n > 0 && (out[n - 1] == 0 || out[n - 1] == '\n')) n--;
  for (ssize_t i = 0; i < n; i++) {
    if (out[i] == 0)
      out[i] = ' ';
    else if (iscntrl((unsigned char)out[i]))
      out[i] = '?';
  }
  memset(out + n, 0, size - (size_t)n);
}

void process_identify(pid_t pid, struct snapshot_process *out) {
  struct timespec now;
  memset(out, 0, sizeof *out);
  clock_gettime(CLOCK_REALTIME, &now);
  out->pid = (uint64_t)pid;
  out->time_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
  read_text(pid, "comm", out->comm, sizeof out->comm);
  read_text(pid, "cmdline", out->cmdline, sizeof out->cmdline);
}

enum status process_snapshot(struct process *p, struct snapshot *out,
                             char error[PROCESS_ERROR_MAX]) {
  enum snapshot_status status = snapshot_read(&p->target, out);
  if (status == SNAPSHOT_OK) process_identify(p->pid, &out->process);
  return process_explain(p, status, error);
}

/* ---- all ---- */

static int is_number(const struct dirent *entry) {
  return entry->d_name[0] != 0 && strspn(entry->d_name, "0123456789") == strlen(entry->d_name);
}

static int by_number(const struct dirent **a, const struct dirent **b) {
  return atoi((*a)->d_name) - atoi((*b)->d_name);
}

/* Without a look at its memory: of a process that may not be read, is it one of quire's? Nothing
 * can be said of statically linked ones. */
static bool seems_to_run_quire(pid_t pid) {
  struct mapping m;
  bool seen = false;
  FILE *maps = open_maps(pid);
  while (maps != NULL && !seen && next_mapping(maps, &m)) seen = is_library(m.path);
  if (maps != NULL) fclose(maps);
  return seen;
}

struct visitor {
  bool (*visit)(struct process *process, void *arg);
  void *arg;
  bool more;
  unsigned unreadable;
};

static void visit_process(struct visitor *v, pid_t pid) {
  struct process process;
  char error[PROCESS_ERROR_MAX];
  if (!v->more || pid == getpid()) return;
  enum status status = process_open(&process, pid, error);
  if (status == STATUS_OK)
    v->more = v->visit(&process, v->arg);
  else if (status == STATUS_VERSION || (status == STATUS_DENIED && seems_to_run_quire(pid)))
    v->unreadable++;
}

unsigned process_each(bool (*visit)(struct process *process, void *arg), void *arg) {
  struct visitor v = {visit, arg, true, 0};
  struct dirent **entries;
  int n = scandir("/proc", &entries, is_number, by_number);
  for (int i = 0; i < n; i++) {
    visit_process(&v, (pid_t)atoi(entries[i]->d_name));
    free(entries[i]);
  }
  if (n >= 0) free(entries);
  return v.unreadable;
}

unsigned process_each_of(const pid_t *pids, unsigned npids,
                         bool (*visit)(struct process *process, void *arg), void *arg) {
  struct visitor v = {visit, arg, true, 0};
  for (unsigned i = 0; i < npids; i++) visit_process(&v, pids[i]);
  return v.unreadable;
}
