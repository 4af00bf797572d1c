/* Why a page and not a pipe or a signal: see the theory in alloc/background.c. */
#include "tools/quire/mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tools/quire/kernel.h"

/* The descriptor's file is one of ours, and can't become shorter under our hands. */
static bool is_mailbox(int fd, const char *path) {
  char name[64];
  struct stat st;
  ssize_t n = readlink(path, name, sizeof name - 1);
  name[n > 0 ? n : 0] = 0;
  int seals = fcntl(fd, F_GET_SEALS);
  return strncmp(name, "/memfd:quire-mailbox", 20) == 0 && fstat(fd, &st) == 0 &&
         st.st_size >= (off_t)sizeof(struct quire_mailbox) && seals >= 0 &&
         (seals & F_SEAL_SHRINK) != 0;
}

/* Shared memory that the process has mapped without a descriptor. */
static bool is_shared_page(int fd, const char *path) {
  char name[64];
  struct stat st;
  ssize_t n = readlink(path, name, sizeof name - 1);
  name[n > 0 ? n : 0] = 0;
  return strncmp(name, "/dev/zero", 9) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
         st.st_size >= (off_t)sizeof(struct quire_mailbox);
}

static enum status no_thread(const struct process *p, char error[PROCESS_ERROR_MAX]) {
  snprintf(error, PROCESS_ERROR_MAX,
           "process %d has no background thread, which is who answers. It gets one once its heap "
           "has passed background_threshold (64 MiB unless set), unless background:off was asked "
           "for; with 'quire run --background_threshold=0' it has one from the start.",
           (int)p->pid);
  return STATUS_FAILED;
}

static enum status no_mailbox(const struct process *p, char error[PROCESS_ERROR_MAX]) {
  snprintf(error, PROCESS_ERROR_MAX,
           "the background thread of process %d has no mailbox: the program has sandboxed itself "
           "since it began, or the kernel refused the memory for it.",
           (int)p->pid);
  return STATUS_FAILED;
}

static enum status not_opened(const struct process *p, bool by_address, int err,
                              char error[PROCESS_ERROR_MAX]) {
  bool denied = err == EACCES || err == EPERM;
  int n = snprintf(error, PROCESS_ERROR_MAX, "the mailbox of process %d can't be opened: %s.",
                   (int)p->pid, strerror(err));
  if (denied && by_address)
    snprintf(error + n, PROCESS_ERROR_MAX - (size_t)n,
             " The process is under a filter on its system calls, or its kernel is older than "
             "Linux 5.9, and then only root may (CAP_SYS_ADMIN, or CAP_CHECKPOINT_RESTORE).");
  return denied ? STATUS_DENIED : STATUS_FAILED;
}

/* Opens it by the thread's descriptor, or by where it is mapped. -1 with errno. */
static int open_page(const struct process *p, pid_t tid, int64_t descriptor, uint64_t address) {
  char path[128];
  if (descriptor >= 0)
    snprintf(path, sizeof path, "/proc/%d/task/%d/fd/%d", (int)p->pid, (int)tid, (int)descriptor);
  else
    snprintf(path, sizeof path, "/proc/%d/map_files/%llx-%llx", (int)p->pid,
             (unsigned long long)address, (unsigned long long)address + p->header.page_size);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return -1;
  if (descriptor >= 0 ? is_mailbox(fd, path) : is_shared_page(fd, path)) return fd;
  close(fd);
  errno = EBADF;
  return -1;
}

enum status mailbox_open(struct mailbox *out, struct process *p, char error[PROCESS_ERROR_MAX]) {
  struct snapshot_numbers numbers;
  uint64_t address = 0;
  enum snapshot_status status = snapshot_stats(&p->target, &p->header, &numbers);
  if (status == SNAPSHOT_OK &&
      !target_read(&p->target, p->target.header + offsetof(struct quire_peek, mailbox_address),
                   &address, sizeof address))
    status = SNAPSHOT_UNREADABLE;
  if (status != SNAPSHOT_OK) return process_explain(p, status, error);
  pid_t tid = kernel_thread(p->pid, numbers.background_tid);
  if (tid == 0) return no_thread(p, error);
  if (numbers.mailbox_fd < 0 && address == 0) return no_mailbox(p, error);
  int fd = open_page(p, tid, numbers.mailbox_fd, address);
  if (fd < 0) return not_opened(p, numbers.mailbox_fd < 0, errno, error);
  void *page = mmap(NULL, sizeof *out->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  int err = errno;
  close(fd);
  if (page == MAP_FAILED) return not_opened(p, false, err, error);
  *out = (struct mailbox){page, p->pid};
  if (out->page->magic == QUIRE_MAILBOX_MAGIC) return STATUS_OK;
  mailbox_close(out);
  return not_opened(p, false, EPROTO, error);
}

void mailbox_close(struct mailbox *m) { (void)munmap(m->page, sizeof *m->page); }

uint32_t mailbox_ask(struct mailbox *m, enum quire_mail what) {
  uint32_t asked = __atomic_add_fetch(&m->page->asked[what], 1, __ATOMIC_RELEASE);
  (void)__atomic_add_fetch(&m->page->bell, 1, __ATOMIC_RELEASE);
  (void)syscall(SYS_futex, &m->page->bell, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
  return asked;
}

static bool is_done(const struct mailbox *m, enum quire_mail what, uint32_t asked) {
  return (int32_t)(__atomic_load_n(&m->page->done[what], __ATOMIC_ACQUIRE) - asked) >= 0;
}

enum mailbox_answer mailbox_wait(struct mailbox *m, enum quire_mail what, uint32_t asked,
                                 unsigned ms, uint64_t *gained) {
  struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
  uint32_t done = __atomic_load_n(&m->page->done[what], __ATOMIC_ACQUIRE);
  if ((int32_t)(done - asked) < 0)
    (void)syscall(SYS_futex, &m->page->done[what], FUTEX_WAIT, done, &t, NULL, 0);
  if (is_done(m, what, asked)) {
    *gained = m->page->gained[what];
    return MAILBOX_DONE;
  }
  return kill(m->pid, 0) != 0 && errno == ESRCH ? MAILBOX_GONE : MAILBOX_NOT_YET;
}
