/* mallinfo, mallinfo2, malloc_info, mallopt, malloc_trim, malloc_stats; run under LD_PRELOAD.
 *
 *   family DIRECTORY    leaves info.xml there */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int status;

static void verdict(const char *name, bool ok, const char *reason) {
  if (ok)
    printf("PASS %s\n", name);
  else
    printf("FAIL %s: %s\n", name, reason);
  if (!ok) status = 1;
}

static void tells(void) {
  struct mallinfo2 before = mallinfo2(), held, after;
  char *small = malloc(1000), *large = malloc(3 << 20);
  memset(large, 1, 3 << 20);
  held = mallinfo2();
  size_t sum = malloc_usable_size(small) + malloc_usable_size(large);
  verdict("mallinfo2_in_use", held.uordblks - before.uordblks == sum,
          "uordblks is not what is held");
  verdict("mallinfo2_sums",
          held.arena == held.uordblks + held.fordblks && held.fsmblks <= held.fordblks,
          "arena is not what is in use and free");
  struct mallinfo narrow = mallinfo();
  verdict("mallinfo",
          (size_t)narrow.uordblks == held.uordblks && (size_t)narrow.arena == held.arena,
          "differs from mallinfo2");
  free(small);
  free(large);
  after = mallinfo2();
  verdict("mallinfo2_after", after.uordblks == before.uordblks && after.keepcost >= 3 << 20,
          "freed memory is not free");
}

/* More than an int can say: address space is enough, nothing is touched. */
static void saturates(void) {
  char *p = malloc((size_t)5 << 30);
  if (p == NULL) {
    printf("SKIP mallinfo_saturates: no 5 GiB of address space here\n");
    return;
  }
  struct mallinfo info = mallinfo();
  verdict("mallinfo_saturates", info.uordblks == INT_MAX && mallinfo2().uordblks > (size_t)5 << 30,
          "5 GiB don't show as INT_MAX");
  free(p);
}

static void trims(void) {
  char *p = malloc(16 << 20);
  memset(p, 1, 16 << 20);
  free(p);
  bool first = malloc_trim(0) == 1;
  verdict("malloc_trim", first && malloc_trim(0) == 0 && mallinfo2().keepcost == 0,
          "1 while there is something to give back, 0 after it");
}

static void tunes(void) {
  static const int known[] = {M_MXFAST,    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD,
                              M_MMAP_MAX,  M_CHECK_ACTION,   M_PERTURB, M_ARENA_TEST,
                              M_ARENA_MAX, M_NLBLKS,         M_GRAIN,   M_KEEP};
  bool ok = true;
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) ok = ok && mallopt(known[i], 64) == 1;
  verdict("mallopt_known", ok && mallopt(M_TRIM_THRESHOLD, -1) == 1, "refused");
  verdict("mallopt_refuses",
          mallopt(M_MXFAST, 1000000) == 0 && mallopt(M_MXFAST, -1) == 0 &&
              mallopt(M_MMAP_THRESHOLD, INT_MAX) == 0 && mallopt(-1000, 0) == 0 &&
              mallopt(1000, 0) == 0,
          "took what glibc's manual does not allow");
}

static void describes(const char *directory) {
  char path[4096];
  errno = 0;
  verdict("malloc_info_options", malloc_info(1, stdout) != 0 && errno == EINVAL, "no EINVAL");
  snprintf(path, sizeof path, "%s/info.xml", directory);
  FILE *to = fopen(path, "w");
  if (to == NULL) abort();
  void *held = malloc(2 << 20);
  verdict("malloc_info", malloc_info(0, to) == 0, "failed");
  free(held);
  fclose(to);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 4096); /* its buffer is there before anything is counted */
  printf("# on the heap of %s\n", argc > 0 ? argv[0] : "");
  tells();
  saturates();
  trims();
  tunes();
  if (argc > 1) describes(argv[1]);
  malloc_stats();
  return status;
}
