/* What these programs insist on: else they say what and where, and end with status 1. */
#ifndef QUIRE_TESTS_COMPACT_EXPECT_H
#define QUIRE_TESTS_COMPACT_EXPECT_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPECT(condition)                                                                          \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, strerror(errno));                 \
      fflush(stdout);                                                                              \
      _exit(1);                                                                                    \
    }                                                                                              \
  } while (0)

#endif
