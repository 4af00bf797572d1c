#include "arch/doorbell.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "arch/rawcall.h"

enum { MEMFD_NOEXEC_SEAL = 8 }; /* Linux 6.3; older headers lack it */

static int open_file(void) {
  static const char name[] = "quire-mailbox"; /* tools/quire/mailbox.c looks for it */
  const int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  long fd = raw_call3(SYS_memfd_create, (long)name, flags | MEMFD_NOEXEC_SEAL, 0);
  if (fd == -EINVAL) fd = raw_call3(SYS_memfd_create, (long)name, flags, 0);
  if (fd < 0) return (int)fd;
  long err = raw_call3(SYS_ftruncate, fd, DOORBELL_SIZE, 0);
  /* Now: where no memory is left it is an error, but a signal for who touches the page. */
  if (err == 0) err = raw_call6(SYS_fallocate, fd, 0, 0, DOORBELL_SIZE, 0, 0);
  if (err == 0)
    err = raw_call3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  if (err != 0) (void)raw_call3(SYS_close, fd, 0, 0);
  return (int)(err != 0 ? err : fd);
}

/* Over the page that is there already: somebody may be ringing it just now. */
static int map_page(struct doorbell *bell, int fd) {
  int flags = MAP_SHARED | (bell->page != NULL ? MAP_FIXED : 0) | (fd < 0 ? MAP_ANONYMOUS : 0);
  long page =
      raw_call6(SYS_mmap, (long)bell->page, DOORBELL_SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (page < 0 && page > -4096) return (int)page;
  bell->page = (char *)page;
  return 0;
}

int doorbell_open(struct doorbell *bell, bool file) {
  int fd = file ? open_file() : -1, err = map_page(bell, fd);
  if (fd >= 0 && err != 0) (void)raw_call3(SYS_close, fd, 0, 0);
  bell->fd = fd >= 0 && err == 0 ? fd : 0;
  return err;
}

void doorbell_close(struct doorbell *bell) {
  if (bell->fd != 0) (void)raw_call3(SYS_close, bell->fd, 0, 0);
  bell->fd = 0;
}

void doorbell_forget(struct doorbell *bell) {
  if (bell->page != NULL) (void)raw_call3(SYS_munmap, (long)bell->page, DOORBELL_SIZE, 0);
  *bell = (struct doorbell){0};
}

void doorbell_wait(uint32_t *word, uint32_t value, int64_t timeout_ms) {
  struct timespec t = {(time_t)(timeout_ms / 1000), (long)(timeout_ms % 1000) * 1000000};
  raw_call6(SYS_futex, (long)word, FUTEX_WAIT, value, timeout_ms < 0 ? 0 : (long)&t, 0, 0);
}

void doorbell_wake(uint32_t *word) { raw_call3(SYS_futex, (long)word, FUTEX_WAKE, INT32_MAX); }
