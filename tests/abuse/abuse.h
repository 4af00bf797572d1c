/* What the programs of this folder share. Each misuses the heap once, having said by say() which
 * pointer the last words must name. Comments at the head of each say how it must end:
 *
 *   // default: TEXT    without options: SIGABRT and one line with this text (an extended regular
 * expression)
 *   // check: TEXT      the same with check:on
 *
 * instead of a text: "ok" for an exit with 0, "segv" for SIGSEGV, "later" for what is seen only
 * when the object reaches its slab again, or never: not run. */
#ifndef QUIRE_TESTS_ABUSE_H
#define QUIRE_TESTS_ABUSE_H

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say(const void *p) {
  char line[64];
  int n = snprintf(line, sizeof line, "0x%lx\n", (unsigned long)p);
  if (write(1, line, n) != n) _exit(3);
}

enum { MANY = 6000 };
static void *many[MANY];

/* Objects of a size, so many that caches and transfer areas can be filled with them. */
static void stock_up(size_t size, int n) {
  for (int i = 0; i < n; i++) many[i] = malloc(size);
}

/* After the first half is freed whatever is freed next is on its way to the slabs; the second
 * pushes it there. */
static void free_first_half(int n) {
  for (int i = 0; i < n / 2; i++) free(many[i]);
}

static void free_second_half(int n) {
  for (int i = n / 2; i < n; i++) free(many[i]);
}

static void *symbol(const char *name) {
  void *p = dlsym(RTLD_DEFAULT, name);
  if (p == NULL) _exit(4);
  return p;
}

#endif
