/* Reads a file over and over, in an order that no read-ahead guesses. In a control group whose
 * limit is below the file's size nearly each read waits for memory: that is what the kernel calls a
 * stall. Ends when it is killed, or with its parent. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  size_t size = strtoul(argv[2], NULL, 10) << 20;
  int fd = open(argv[1], O_RDWR);
  char page[4096];
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  /* What is cached already was charged to another group. */
  fsync(fd);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  for (unsigned long r = 1;;) {
    r = r * 6364136223846793005ul + 1442695040888963407ul;
    if (pread(fd, page, sizeof page, (off_t)((r >> 33) * 4096 % size)) != sizeof page) return 1;
  }
}
