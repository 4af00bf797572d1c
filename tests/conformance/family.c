/* malloc's family by its manuals: malloc(3), posix_memalign(3), malloc_usable_size(3), and ISO
 * C23 7.24.3. Prints a line for each rule. */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *wrong;
static int failures;

#define EXPECT(what)                                                                               \
  do {                                                                                             \
    if (!(what) && wrong == NULL) wrong = #what;                                                   \
  } while (0)

static void tell(const char *name) {
  if (wrong == NULL)
    printf("PASS %s\n", name);
  else
    printf("FAIL %s: %s\n", name, wrong);
  failures += wrong != NULL;
  wrong = NULL;
}

/* Sizes around every limit that an allocator may have. */
static const size_t sizes[] = {0,       1,       7,       8,        9,        15,       16,
                               17,      100,     1023,    1024,     1025,     4095,     4096,
                               4097,    32768,   65535,   65536,    65537,    73728,    100000,
                               262144,  1048575, 1048576, 1048577,  2097151,  2097152,  2097153,
                               4000000, 8388608, 8388609, 20000000, 33554432, 100000000};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* The compiler must not know better. */
static size_t opaque(size_t n) {
  __asm__ volatile("" : "+r"(n));
  return n;
}

static void every_size_is_aligned_and_whole(void) {
  for (size_t n = 0; n <= 1 << 20; n += n < 5000 ? 1 : 97) {
    unsigned char *p = malloc(n);
    EXPECT(p != NULL);
    EXPECT((uintptr_t)p % (n >= 16 ? 16 : 8) == 0);
    EXPECT(malloc_usable_size(p) >= n);
    if (n > 0) p[0] = p[n - 1] = 1;
    free(p);
  }
  tell("every size is aligned and whole");
}

/* All of what malloc_usable_size tells may be used. */
static void usable_size_is_usable(void) {
  unsigned char *held[SIZES];
  EXPECT(malloc_usable_size(NULL) == 0);
  for (int i = 0; i < SIZES; i++) {
    held[i] = malloc(sizes[i]);
    EXPECT(held[i] != NULL);
    memset(held[i], i, malloc_usable_size(held[i]));
  }
  for (int i = 0; i < SIZES; i++) {
    size_t n = malloc_usable_size(held[i]);
    EXPECT(n == 0 || (held[i][0] == i && held[i][n / 2] == i && held[i][n - 1] == i));
    free(held[i]);
  }
  tell("usable size is usable");
}

static void malloc_0_is_unique(void) {
  void *a = malloc(0), *b = malloc(0), *c = calloc(0, 8), *d = calloc(8, 0), *e = realloc(NULL, 0);
  void *all[] = {a, b, c, d, e};
  for (int i = 0; i < 5; i++) {
    EXPECT(all[i] != NULL);
    for (int k = 0; k < i; k++) EXPECT(all[i] != all[k]);
  }
  for (int i = 0; i < 5; i++) free(all[i]);
  tell("malloc(0) is unique");
}

static void free_of_null_is_nothing(void) {
  free(NULL);
  tell("free(NULL) is nothing");
}

static void refused(void *p) {
  EXPECT(p == NULL);
  EXPECT(errno == ENOMEM);
  errno = 0;
}

static void overflow_is_enomem(void) {
  static const size_t huge[] = {
      SIZE_MAX,    SIZE_MAX - 1,    SIZE_MAX - 4096, SIZE_MAX / 2 + 1, (size_t)PTRDIFF_MAX + 1,
      PTRDIFF_MAX, (size_t)1 << 60, (size_t)1 << 50};
  errno = 0;
  for (unsigned i = 0; i < sizeof huge / sizeof huge[0]; i++) {
    size_t n = opaque(huge[i]);
    refused(malloc(n));
    refused(calloc(1, n));
    refused(calloc(n, 1));
    refused(realloc(NULL, n));
    refused(reallocarray(NULL, 1, n));
    refused(aligned_alloc(64, n));
    refused(aligned_alloc(1 << 20, n));
    refused(memalign(64, n));
    refused(valloc(n));
    refused(pvalloc(n));
    void *p = (void *)64;
    EXPECT(posix_memalign(&p, 64, n) == ENOMEM);
    EXPECT(errno == 0); /* it is the result instead */
    EXPECT(p == (void *)64);
  }
  for (size_t n = 2; n != 0; n <<= 1) {
    refused(calloc(opaque(n), opaque(SIZE_MAX / n + 1)));
    refused(calloc(opaque(SIZE_MAX / n + 2), opaque(n)));
    refused(reallocarray(NULL, opaque(n), opaque(SIZE_MAX / n + 1)));
  }
  refused(memalign(opaque((size_t)1 << 62), 1));
  tell("overflow is NULL and ENOMEM");
}

static void refused_realloc_changes_nothing(void) {
  for (int i = 1; i < SIZES; i++) {
    unsigned char *p = malloc(sizes[i]);
    memset(p, i, sizes[i]);
    errno = 0;
    refused(realloc(p, opaque(PTRDIFF_MAX)));
    refused(realloc(p, opaque((size_t)1 << 55)));
    refused(reallocarray(p, opaque(SIZE_MAX / 2), 3));
    EXPECT(p[0] == i && p[sizes[i] / 2] == i && p[sizes[i] - 1] == i);
    free(p);
  }
  tell("a refused realloc changes nothing");
}

static void success_leaves_errno_alone(void) {
  static void *held[SIZES];
  for (int round = 0; round < 3; round++) {
    errno = 12345;
    for (int i = 0; i < SIZES; i++) {
      void *p;
      held[i] = malloc(sizes[i]);
      free(calloc(1, sizes[i]));
      free(aligned_alloc(4096, sizes[i]));
      free(memalign(1 << 17, sizes[i]));
      EXPECT(posix_memalign(&p, 64, sizes[i]) == 0);
      free(p);
      EXPECT(errno == 12345);
    }
    for (int i = 0; i < SIZES; i++) held[i] = realloc(held[i], sizes[SIZES - 1 - i] + 1);
    EXPECT(errno == 12345);
    for (int i = 0; i < SIZES; i++) free(held[i]);
    EXPECT(errno == 12345);
    (void)malloc_usable_size(held[0] = malloc(10));
    free(held[0]);
    (void)malloc_trim(0);
    EXPECT(errno == 12345);
  }
  tell("success leaves errno alone");
}

static void calloc_is_zero_also_of_used_memory(void) {
  for (int i = 0; i < SIZES; i++) {
    for (int round = 0; round < 3; round++) {
      void *dirty[4];
      for (int k = 0; k < 4; k++) {
        dirty[k] = malloc(sizes[i]);
        memset(dirty[k], 0xff, malloc_usable_size(dirty[k]));
      }
      for (int k = 0; k < 4; k++) free(dirty[k]);
      unsigned char *p = calloc(sizes[i], 1);
      EXPECT(p != NULL);
      for (size_t at = 0; at < sizes[i]; at++)
        if (p[at] != 0) {
          EXPECT(!"calloc's memory is zero");
          break;
        }
      free(p);
    }
  }
  tell("calloc is zero also of used memory");
}

static void mark(unsigned char *p, size_t from, size_t to) {
  for (size_t at = from; at < to; at += 61) p[at] = (unsigned char)(at * 7);
}

static bool marked(const unsigned char *p, size_t to) {
  for (size_t at = 0; at < to; at += 61)
    if (p[at] != (unsigned char)(at * 7)) return false;
  return true;
}

/* Through all limits, by little and by much, up and down. */
static void realloc_keeps_contents(void) {
  static const double factors[] = {1.02, 1.3, 2, 7, 100};
  for (unsigned f = 0; f < sizeof factors / sizeof factors[0]; f++) {
    size_t n = 1;
    unsigned char *p = malloc(n), *between[1000];
    int nbetween = 0;
    mark(p, 0, n);
    while (n < 60 << 20) {
      size_t more = (size_t)((double)n * factors[f]) + 1;
      p = realloc(p, more);
      EXPECT(p != NULL && marked(p, n));
      mark(p, 0, more);
      n = more;
      if (nbetween < 1000) between[nbetween++] = malloc(n / 3); /* stands in the way */
    }
    while (n > 1) {
      size_t less = (size_t)((double)n / factors[f]);
      if (less == n) less--;
      p = realloc(p, less);
      EXPECT(p != NULL && marked(p, less));
      n = less;
    }
    free(p);
    while (nbetween > 0) free(between[--nbetween]);
  }
  tell("realloc keeps contents");
}

static void every_pair_of_sizes(void) {
  for (int i = 0; i < SIZES; i++)
    for (int k = 1; k < SIZES; k++) {
      size_t from = sizes[i], to = sizes[k];
      if (from > 9000000 || to > 9000000) continue;
      unsigned char *p = malloc(from);
      mark(p, 0, from);
      p = realloc(p, to);
      EXPECT(p != NULL && marked(p, from < to ? from : to));
      EXPECT(malloc_usable_size(p) >= to);
      mark(p, 0, to);
      free(p);
    }
  tell("realloc between every two limits");
}

/* As glibc and its manual: it frees, and NULL is no failure. */
static void realloc_to_0_frees(void) {
  for (int i = 0; i < SIZES; i++) {
    void *p = malloc(sizes[i]);
    errno = 0;
    EXPECT(realloc(p, opaque(0)) == NULL);
    EXPECT(errno == 0);
  }
  tell("realloc(p, 0) frees");
}

static void alignments_are_kept(void) {
  for (size_t align = 1; align <= (size_t)1 << 30; align *= 2)
    for (int i = 0; i < SIZES; i++) {
      void *p = NULL;
      if (sizes[i] > 3 << 20 && align > 1 << 21) continue;
      p = memalign(align, sizes[i]);
      EXPECT(p != NULL && (uintptr_t)p % align == 0 && malloc_usable_size(p) >= sizes[i]);
      if (sizes[i] > 0) ((char *)p)[0] = ((char *)p)[sizes[i] - 1] = 1;
      free(p);
      p = aligned_alloc(align, sizes[i]);
      EXPECT(p != NULL && (uintptr_t)p % align == 0);
      free(p);
      if (align < sizeof(void *)) continue;
      EXPECT(posix_memalign(&p, align, sizes[i]) == 0);
      EXPECT((uintptr_t)p % align == 0);
      free(p);
    }
  tell("alignments up to 1 GiB are kept");
}

/* Objects that were aligned and are resized, and come back from caches, must not spoil the
 * alignment of others. */
static void alignment_survives_reuse(void) {
  for (int round = 0; round < 200; round++)
    for (size_t align = 32; align <= 65536; align *= 2) {
      size_t n = 1000 + (size_t)round * 997 % 300000;
      void *p = realloc(malloc(n * 3), n);
      free(p);
      p = aligned_alloc(align, n);
      EXPECT((uintptr_t)p % align == 0);
      p = realloc(p, n / 3);
      free(p);
      p = memalign(align, n / 3);
      EXPECT((uintptr_t)p % align == 0);
      free(p);
    }
  tell("alignment survives reuse");
}

static void wrong_alignments_are_einval(void) {
  static const size_t not_powers[] = {0, 3, 5, 6, 7, 9, 12, 24, 48, 100, 4095, 4097, SIZE_MAX};
  for (unsigned i = 0; i < sizeof not_powers / sizeof not_powers[0]; i++) {
    void *p = (void *)8;
    errno = 0;
    EXPECT(posix_memalign(&p, not_powers[i], 100) == EINVAL);
    EXPECT(errno == 0);
    EXPECT(p == (void *)8);
    EXPECT(aligned_alloc(opaque(not_powers[i]), 100) == NULL);
    EXPECT(errno == EINVAL);
  }
  for (size_t align = 1; align < sizeof(void *); align *= 2) {
    void *p = (void *)8;
    EXPECT(posix_memalign(&p, align, 100) == EINVAL);
  }
  tell("wrong alignments are EINVAL");
}

static void whole_pages(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < SIZES; i++) {
    void *p = valloc(sizes[i]);
    EXPECT(p != NULL && (uintptr_t)p % page == 0);
    free(p);
    p = pvalloc(sizes[i]);
    EXPECT(p != NULL && (uintptr_t)p % page == 0);
    EXPECT(malloc_usable_size(p) >= (sizes[i] + page - 1) / page * page);
    free(p);
  }
  tell("valloc and pvalloc give whole pages");
}

static void reallocarray_multiplies(void) {
  unsigned char *p = reallocarray(NULL, 10, 100);
  EXPECT(p != NULL && malloc_usable_size(p) >= 1000);
  mark(p, 0, 1000);
  p = reallocarray(p, 1000, 1000);
  EXPECT(p != NULL && malloc_usable_size(p) >= 1000000 && marked(p, 1000));
  free(p);
  tell("reallocarray multiplies");
}

/* C23's; a libc that lacks them leaves them to the allocator. */
void free_sized(void *p, size_t size) __attribute__((weak));
void free_aligned_sized(void *p, size_t alignment, size_t size) __attribute__((weak));

static void sized_frees_free(void) {
  if (free_sized == NULL || free_aligned_sized == NULL) {
    puts("SKIP sized frees free: neither the libc nor the allocator has them");
    return;
  }
  free_sized(NULL, 0);
  free_aligned_sized(NULL, 64, 0);
  for (int i = 0; i < SIZES; i++) {
    free_sized(malloc(sizes[i]), sizes[i]);
    free_sized(calloc(1, sizes[i]), sizes[i]);
    free_sized(realloc(malloc(10), sizes[i] + 1), sizes[i] + 1);
    for (size_t align = 16; align <= 1 << 20; align *= 4)
      free_aligned_sized(aligned_alloc(align, sizes[i]), align, sizes[i]);
  }
  tell("sized frees free");
}

static void no_two_objects_overlap(void) {
  enum { N = 3000 };
  static unsigned char *held[N];
  for (int i = 0; i < N; i++) {
    size_t n = sizes[i % 24];
    held[i] = malloc(n);
    memset(held[i], i, n);
  }
  for (int i = 0; i < N; i++) {
    size_t n = sizes[i % 24];
    for (size_t at = 0; at<n; at += n> 5000 ? 1021 : 1)
      if (held[i][at] != (unsigned char)i) {
        EXPECT(!"objects keep what was written into them");
        break;
      }
    free(held[i]);
  }
  tell("no two objects overlap");
}

static void information_is_given(void) {
  struct mallinfo2 before = mallinfo2();
  void *p = malloc(50 << 20);
  memset(p, 1, 50 << 20);
  struct mallinfo2 after = mallinfo2();
  EXPECT(after.uordblks + after.hblkhd >= before.uordblks + before.hblkhd + (50 << 20));
  free(p);
  struct mallinfo2 last = mallinfo2();
  EXPECT(last.uordblks + last.hblkhd < after.uordblks + after.hblkhd);
  char *text = NULL;
  size_t length = 0;
  FILE *stream = open_memstream(&text, &length);
  EXPECT(malloc_info(0, stream) == 0);
  fclose(stream);
  EXPECT(length > 0 && strncmp(text, "<malloc", 7) == 0 && strstr(text, "</malloc>") != NULL);
  free(text);
  errno = 0;
  EXPECT(malloc_info(1, stdout) != 0); /* no such option */
  EXPECT(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 0 || mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
  int trimmed = malloc_trim(0);
  EXPECT(trimmed == 0 || trimmed == 1);
  tell("mallinfo2, malloc_info, mallopt and malloc_trim answer");
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  every_size_is_aligned_and_whole();
  usable_size_is_usable();
  malloc_0_is_unique();
  free_of_null_is_nothing();
  overflow_is_enomem();
  refused_realloc_changes_nothing();
  success_leaves_errno_alone();
  calloc_is_zero_also_of_used_memory();
  realloc_keeps_contents();
  every_pair_of_sizes();
  realloc_to_0_frees();
  alignments_are_kept();
  alignment_survives_reuse();
  wrong_alignments_are_einval();
  whole_pages();
  reallocarray_multiplies();
  sized_frees_free();
  no_two_objects_overlap();
  information_is_given();
  return failures != 0;
}
