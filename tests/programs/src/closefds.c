// A program that closes every descriptor it did not open, again and again, as daemons do, and then
// uses the freed numbers for files of its own. Neither may the allocator stop working, nor may it
// ever read from, write to or close a number that now belongs to the program.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

enum { FILES = 40 };

static int files[FILES];

static void close_all(int how) {
  if (how == 0 && syscall(SYS_close_range, 3, ~0u, 0) == 0) return;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  for (int fd = 3; fd < (int)limit.rlim_cur; fd++) close(fd);
}

static int open_files(const char *dir) {
  for (int i = 0; i < FILES; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/file%d", dir, i);
    files[i] = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (files[i] < 0 || write(files[i], &i, sizeof i) != sizeof i) return 0;
  }
  return 1;
}

static int files_are_ours(void) {
  for (int i = 0; i < FILES; i++) {
    int value;
    struct stat status;
    if (fstat(files[i], &status) || status.st_size != sizeof value) return 0;
    if (pread(files[i], &value, sizeof value, 0) != sizeof value || value != i) return 0;
    if (lseek(files[i], 0, SEEK_CUR) != sizeof value) return 0;
  }
  return 1;
}

static void *churn(void *seed) { return expect_churn(20000, (uintptr_t)seed) ? NULL : seed; }

// A heap large enough that whatever the allocator keeps for large heaps is in use, given back in
// parts.
static int use_much(void) {
  enum { BLOCKS = 30000, SIZE = 4000 };
  static void *blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    if (!(blocks[i] = malloc(SIZE))) return 0;
    memset(blocks[i], i, SIZE);
  }
  for (int i = 0; i < BLOCKS; i += 2) free(blocks[i]);
  for (int i = 1; i < BLOCKS; i += 2) {
    if (*(unsigned char *)blocks[i] != (unsigned char)i) return 0;
    free(blocks[i]);
  }
  pthread_t threads[4];
  for (size_t i = 0; i < 4; i++) {
    if (pthread_create(&threads[i], NULL, churn, (void *)(i + 1))) return 0;
  }
  int good = 1;
  for (size_t i = 0; i < 4; i++) {
    void *result;
    good &= !pthread_join(threads[i], &result) && !result;
  }
  return good;
}

int main(int argc, char **argv) {
  const char *dir = argc > 1 ? argv[1] : ".";
  // A small limit keeps the slow way of closing short; the allocator's own numbers must follow it.
  struct rlimit limit = {1024, 1024};
  int good = 1;
  expect("before", use_much());
  for (int round = 0; round < 6; round++) {
    if (round == 3) setrlimit(RLIMIT_NOFILE, &limit);
    close_all(round % 2);
    good = good && open_files(dir) && use_much() && files_are_ours();
  }
  expect("after closing every descriptor", good);

  pid_t pid = fork();
  if (pid == 0) {
    close_all(1);
    int fine = open_files(dir) && use_much() && files_are_ours();
    close_all(0);
    close(0);
    close(1);
    close(2);
    _exit(fine && use_much() ? 0 : 1);
  }
  int status = -1;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  expect("in a child with none left", WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return expect_failures != 0;
}
