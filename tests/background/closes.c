/* Closes every descriptor but the first three again and again, opens files of its own in their
 * place: their contents are what it wrote, and memory goes back all the same. */
#include <sys/stat.h>

#include "watch.h"

enum { FILES = 64, ROUNDS = 40 };

int main(int argc, char **argv) {
  char path[256], text[64], got[64];
  int fds[FILES];
  if (argc < 2) return 2;
  for (int round = 0; round < ROUNDS; round++) {
    grow();
    for (int fd = 3; fd < 4096; fd++) close(fd);
    for (int i = 0; i < FILES; i++) {
      snprintf(path, sizeof path, "%s/file%d", argv[1], i);
      EXPECT((fds[i] = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600)) == 3 + i);
      int n = snprintf(text, sizeof text, "round %d file %d\n", round, i);
      EXPECT(write(fds[i], text, (size_t)n) == n);
    }
    shrink();
    for (int i = 0; i < FILES; i++) {
      struct stat st;
      int n = snprintf(text, sizeof text, "round %d file %d\n", round, i);
      EXPECT(fstat(fds[i], &st) == 0 && st.st_size == n && lseek(fds[i], 0, SEEK_CUR) == n);
      EXPECT(pread(fds[i], got, sizeof got, 0) == n && memcmp(got, text, (size_t)n) == 0);
    }
  }
  for (int fd = 3; fd < 4096; fd++) close(fd);
  EXPECT(WAIT_UNTIL(background_tid() != 0));
  EXPECT(WAIT_UNTIL(pss_kib() < 12000));
  return 0;
}
