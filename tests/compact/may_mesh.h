/* May this process mesh? Asked of the kernel by the test itself, not of the library. */
#ifndef QUIRE_TESTS_COMPACT_MAY_MESH_H
#define QUIRE_TESTS_COMPACT_MAY_MESH_H

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* NULL if it may, else the reason. */
static const char *why_no_mesh(void) {
  struct uffdio_api api = {.api = UFFD_API, .features = 1 << 16}; /* MOVE */
  struct utsname name;
  unsigned major, minor;
  if (sysconf(_SC_PAGESIZE) != 4096) return "system pages are larger than 4 KiB";
  if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2 ||
      major * 1000 + minor < 6012)
    return "the kernel is older than 6.12";
  if (prctl(PR_GET_SECCOMP) != 0) return "under seccomp";
  int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
  int device = fd < 0 ? open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) : -1;
  if (device >= 0) {
    fd = ioctl(device, _IO(0xAA, 0), O_CLOEXEC);
    close(device);
  }
  if (fd < 0) return "userfaultfd is not permitted";
  int err = ioctl(fd, UFFDIO_API, &api);
  close(fd);
  return err == 0 ? NULL : "userfaultfd has no UFFDIO_MOVE";
}

#endif
