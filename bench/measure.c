/*
 * measure: runs a program some times and prints, for each run, one line of
 *
 *     wall-ns user-us system-us peak-KiB minor-faults major-faults
 *
 * It is linked statically and keeps almost nothing in memory, because the kernel counts the peak of
 * the process that starts a program into that program's own peak: from an interpreter, no program
 * would seem to need less than the interpreter does. No shell stands between, and nothing is read
 * from /proc while the program runs.
 *
 * usage: measure [-n times] [-p preload] [-i stdin] [-o stdout] -- program [argument...]
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void fail(const char *what, int error) {
  fprintf(stderr, "measure: %s: %s\n", what, strerror(error));
  exit(2);
}

static uint64_t now_ns(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t microseconds(struct timeval time) {
  return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_usec;
}

/* The environment with LD_PRELOAD as asked for; only the program gets it, not measure itself. */
static char **child_environment(const char *preload) {
  size_t count = 0, kept = 0;
  char *setting;

  while (environ[count] != NULL) count++;
  char **copy = calloc(count + 2, sizeof(*copy));
  if (copy == NULL) fail("calloc", ENOMEM);
  for (size_t i = 0; i < count; i++)
    if (strncmp(environ[i], "LD_PRELOAD=", strlen("LD_PRELOAD=")) != 0) copy[kept++] = environ[i];
  if (preload != NULL) {
    if (asprintf(&setting, "LD_PRELOAD=%s", preload) < 0) fail("asprintf", ENOMEM);
    copy[kept++] = setting;
  }
  return copy;
}

static void run_once(char **argv, char **env, const posix_spawn_file_actions_t *files) {
  struct rusage usage;
  pid_t child;
  int status;

  uint64_t start = now_ns();
  int error = posix_spawnp(&child, argv[0], files, NULL, argv, env);
  if (error != 0) fail(argv[0], error);
  if (wait4(child, &status, 0, &usage) != child) fail("wait4", errno);
  uint64_t wall = now_ns() - start;

  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "measure: %s ended with %s %d\n", argv[0],
            WIFEXITED(status) ? "status" : "signal",
            WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    exit(1);
  }
  printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %ld %ld %ld\n", wall, microseconds(usage.ru_utime),
         microseconds(usage.ru_stime), usage.ru_maxrss, usage.ru_minflt, usage.ru_majflt);
}

int main(int argc, char **argv) {
  const char *preload = NULL, *input = "/dev/null", *output = "/dev/null";
  posix_spawn_file_actions_t files;
  int option, times = 1;

  while ((option = getopt(argc, argv, "+n:p:i:o:")) != -1) {
    switch (option) {
    case 'n':
      times = atoi(optarg);
      break;
    case 'p':
      preload = optarg;
      break;
    case 'i':
      input = optarg;
      break;
    case 'o':
      output = optarg;
      break;
    default:
      return 2;
    }
  }
  if (optind == argc || times < 1) {
    fprintf(stderr, "usage: measure [-n times] [-p preload] [-i stdin] [-o stdout] -- "
                    "program [argument...]\n");
    return 2;
  }
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, input, O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC,
                                   0666);

  char **env = child_environment(preload);
  for (int i = 0; i < times; i++) run_once(argv + optind, env, &files);
  return 0;
}
