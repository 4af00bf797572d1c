/* What must end the process is tried in a child of it. */
#ifndef QUIRE_TESTS_UNIT_CHILD_H
#define QUIRE_TESTS_UNIT_CHILD_H

#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* The wait status of a child that calls run and then exits with 0; it says nothing and leaves no
 * core. */
static inline int child_status(void (*run)(void)) {
  int status = -1;
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    dup2(null, 2);
    run();
    _exit(0);
  }
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
  return status;
}

/* Sanitizers make an exit status of some signals. */
static inline bool child_dies(void (*run)(void)) {
  int status = child_status(run);
  return status != -1 && (WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

static inline bool child_lives(void (*run)(void)) { return child_status(run) == 0; }

/* In the child: the test there failed if `ok` is false. */
static inline void child_check(bool ok) {
  if (!ok) _exit(1);
}

#endif
