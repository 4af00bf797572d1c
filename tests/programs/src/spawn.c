// New processes of every kind, started from any thread while all threads allocate: fork, vfork,
// posix_spawn, popen. A forked child goes on allocating, frees what the parent made, and forks
// again.
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

extern char **environ;

enum { THREADS = 4 };

static atomic_bool stop;
static atomic_int bad;
static unsigned rounds;

static int ended_well(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return 0;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void *allocate_until_stopped(void *seed) {
  for (unsigned i = 0; !atomic_load(&stop); i++) {
    if (!expect_churn(2000, (uintptr_t)seed + i)) atomic_fetch_add(&bad, 1);
  }
  return NULL;
}

static void *child_thread(void *seed) { return expect_churn(3000, (uintptr_t)seed) ? NULL : seed; }

// What a child does: everything a program may do, threads and another generation included.
static int live(int generation, void **inherited, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    if (!expect_filled(inherited[i], 100 + i * 50, i)) return 1;
    if (i % 2)
      free(inherited[i]);
    else
      inherited[i] = realloc(inherited[i], 5000 + i * 50);
    if (i % 2 == 0 && (!inherited[i] || !expect_filled(inherited[i], 100 + i * 50, i))) return 2;
  }
  if (!expect_churn(3000, (unsigned)generation)) return 3;
  pthread_t threads[2];
  for (size_t i = 0; i < 2; i++) {
    if (pthread_create(&threads[i], NULL, child_thread, (void *)(i + 1))) return 4;
  }
  if (generation == 0) {
    pid_t pid = fork();
    if (pid == 0) _exit(expect_churn(3000, 77) ? 0 : 5);
    if (pid < 0 || !ended_well(pid)) return 6;
  }
  for (size_t i = 0; i < 2; i++) {
    void *result;
    if (pthread_join(threads[i], &result) || result) return 7;
  }
  return 0;
}

static void *fork_often(void *seed) {
  uint64_t state = (uintptr_t)seed;
  for (unsigned i = 0; i < rounds; i++) {
    enum { BLOCKS = 40 };
    void *blocks[BLOCKS];
    for (unsigned k = 0; k < BLOCKS; k++) {
      blocks[k] = malloc(100 + k * 50);
      expect_fill(blocks[k], 100 + k * 50, k);
    }
    pid_t pid = fork();
    if (pid == 0) {
      int result = live((int)(i % 2), blocks, BLOCKS);
      // Half of the children end the long way, through atexit and destructors.
      if (i % 4 < 2) _exit(result);
      exit(result);
    }
    if (pid < 0 || !ended_well(pid)) atomic_fetch_add(&bad, 1);
    for (unsigned k = 0; k < BLOCKS; k++) {
      if (!expect_filled(blocks[k], 100 + k * 50, k)) atomic_fetch_add(&bad, 1);
      free(blocks[k]);
    }
    if (!expect_churn(500, expect_random(&state))) atomic_fetch_add(&bad, 1);
  }
  return NULL;
}

static void *spawn_often(void *unused) {
  (void)unused;
  for (unsigned i = 0; i < rounds; i++) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    for (int fd = 200; fd < 260; fd++) posix_spawn_file_actions_addclose(&actions, fd);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1, 0);
    char *const arguments[] = {"sh", "-c", "exit 0", NULL};
    pid_t pid;
    if (posix_spawnp(&pid, "sh", &actions, &attributes, arguments, environ) || !ended_well(pid))
      atomic_fetch_add(&bad, 1);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
  }
  return NULL;
}

static void *vfork_often(void *unused) {
  (void)unused;
  for (unsigned i = 0; i < rounds; i++) {
    char *argument = strdup("exit 0");
    pid_t pid = vfork();
    if (pid == 0) {
      execl("/bin/sh", "sh", "-c", argument, (char *)NULL);
      _exit(127);
    }
    if (pid < 0 || !ended_well(pid)) atomic_fetch_add(&bad, 1);
    free(argument);
  }
  return NULL;
}

static void *popen_often(void *unused) {
  (void)unused;
  for (unsigned i = 0; i < rounds; i++) {
    char *line = NULL;
    size_t size = 0;
    FILE *from = popen("echo from a pipe", "r");
    if (!from || getline(&line, &size, from) < 0 || strcmp(line, "from a pipe\n"))
      atomic_fetch_add(&bad, 1);
    free(line);
    if (from && pclose(from)) atomic_fetch_add(&bad, 1);
  }
  return NULL;
}

// Runs one kind of start in two threads while others allocate.
static void case_of(const char *name, void *(*body)(void *)) {
  pthread_t busy[THREADS], starters[2];
  atomic_store(&stop, 0);
  atomic_store(&bad, 0);
  for (size_t i = 0; i < THREADS; i++)
    pthread_create(&busy[i], NULL, allocate_until_stopped, (void *)(i * 1000 + 1));
  for (size_t i = 0; i < 2; i++) pthread_create(&starters[i], NULL, body, (void *)(i + 1));
  for (size_t i = 0; i < 2; i++) pthread_join(starters[i], NULL);
  atomic_store(&stop, 1);
  for (size_t i = 0; i < THREADS; i++) pthread_join(busy[i], NULL);
  expect(name, atomic_load(&bad) == 0);
}

int main(int argc, char **argv) {
  rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 50;
  setvbuf(stdout, NULL, _IONBF, 0);
  case_of("fork from threads", fork_often);
  case_of("posix_spawn from threads", spawn_often);
  case_of("vfork from threads", vfork_often);
  case_of("popen from threads", popen_often);
  return expect_failures != 0;
}
