/* Threads wait on semaphores inside heap objects while the heap around them is compacted; then all
 * are woken. The kernel finds waiters of semaphores that processes may share by the page they are
 * on, which compaction replaces.
 *
 *   waiters private|shared
 *
 * Whoever isn't woken keeps this from ending. */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <stdbool.h>

#include "may_mesh.h"

enum { OBJECTS = 400000, THREADS = 40, PASSES = 4 };

static void *objects[OBJECTS];

static void *wait_for_it(void *semaphore) {
  while (sem_wait(semaphore) != 0) {
  }
  return NULL;
}

/* Threads of this process that are in the futex system call. */
static int waiting(void) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
    char path[300];
    long number = -1;
    snprintf(path, sizeof path, "/proc/self/task/%s/syscall", task->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (fscanf(file, "%ld", &number) == 1 && number == SYS_futex) count++;
    fclose(file);
  }
  if (tasks != NULL) closedir(tasks);
  return count;
}

int main(int argc, char **argv) {
  size_t (*compact)(void) = (size_t(*)(void))dlsym(RTLD_DEFAULT, "quire_compact");
  bool shared = argc > 1 && strcmp(argv[1], "shared") == 0;
  sem_t *semaphores[THREADS];
  pthread_t threads[THREADS];
  size_t gained = 0;
  if (compact == NULL) return puts("there is no quire_compact"), 1;
  for (int i = 0, k = 0; i < OBJECTS; i++) {
    objects[i] = malloc(48 + (size_t)(i % 5) * 64);
    memset(objects[i], 1, 48);
    if (i % (OBJECTS / THREADS) == 0 && k < THREADS) {
      semaphores[k] = malloc(sizeof(sem_t));
      if (sem_init(semaphores[k++], shared, 0) != 0) return 1;
    }
  }
  for (int i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, wait_for_it, semaphores[i]) != 0) return 1;
  while (waiting() < THREADS) sched_yield();
  for (int i = 0; i < OBJECTS; i++)
    if (rand() % 100 < 85) free(objects[i]);
  for (int i = 0; i < PASSES; i++) gained += compact();
  for (int i = 0; i < THREADS; i++) sem_post(semaphores[i]);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  const char *why = why_no_mesh();
  if (why != NULL) printf("SKIP meshing: %s\n", why);
  if (gained == 0) return puts("nothing was gained"), 1;
  return 0;
}
