/* The part of malloc's family that tells and tunes: mallinfo, mallinfo2, malloc_info, malloc_stats,
 * mallopt, malloc_trim. The numbers come from quire's own snapshot; where glibc's names have no
 * counterpart, the comment beside them says what they mean here. */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

#include "alloc/init.h"
#include "alloc/options.h"
#include "alloc/stats.h"
#include "page/arena.h"
#include "quire.h"
#include "slab/size_class.h"

static size_t free_slots(size_t *cached) {
  size_t slots = 0;
  *cached = 0;
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    struct class_stats s;
    class_stats(c, &s);
    slots += s.free_slots;
    *cached += s.cached + s.transfer;
  }
  return slots;
}

/* Large allocations count in uordblks like all others and nothing is said to be in mapped regions,
 * so both of the sums that programs make (uordblks alone, uordblks + hblkhd) are the bytes in use.
 */
public_symbol struct mallinfo2 mallinfo2(void) {
  struct mallinfo2 info = {0};
  struct quire_stats st;
  if (quire_stats(&st) != 0) return info;
  size_t dirty = (size_t)st.frames_dirty << FRAME_SHIFT;
  info.arena = ((size_t)st.frames_used << FRAME_SHIFT) + dirty;
  info.ordblks = free_slots(&info.smblks);
  info.fsmblks = (size_t)(st.cached + st.transfer); /* glibc: in fast bins */
  info.uordblks = size_min((size_t)st.live, info.arena);
  info.fordblks = info.arena - info.uordblks;
  info.keepcost = dirty; /* what malloc_trim(0) gives back at least */
  return info;
}

/* glibc's wraps; a number that is too large for an int is better as the largest than as a negative.
 */
static int saturated(size_t n) { return n > INT_MAX ? INT_MAX : (int)n; }

public_symbol struct mallinfo mallinfo(void) {
  struct mallinfo2 wide = mallinfo2();
  return (struct mallinfo){
      .arena = saturated(wide.arena),
      .ordblks = saturated(wide.ordblks),
      .smblks = saturated(wide.smblks),
      .hblks = saturated(wide.hblks),
      .hblkhd = saturated(wide.hblkhd),
      .usmblks = saturated(wide.usmblks),
      .fsmblks = saturated(wide.fsmblks),
      .uordblks = saturated(wide.uordblks),
      .fordblks = saturated(wide.fordblks),
      .keepcost = saturated(wide.keepcost),
  };
}

/* ---- malloc_info: glibc's document, with one heap ---- */

/* Free objects by size, as glibc lists free chunks. */
static void print_sizes(FILE *stream) {
  fputs("<sizes>\n", stream);
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    struct class_stats s;
    class_stats(c, &s);
    size_t count = s.free_slots + s.cached + s.transfer;
    if (count > 0)
      fprintf(stream, "  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n",
              c == 0 ? 1 : class_size(c - 1) + 1, s.size, count * s.size, count);
  }
  fputs("</sizes>\n", stream);
}

static void print_totals(FILE *stream, const struct quire_stats *st) {
  unsigned long long used = st->frames_used << FRAME_SHIFT, dirty = st->frames_dirty << FRAME_SHIFT;
  unsigned long long peak = st->frames_peak << FRAME_SHIFT;
  size_t ncached, nslots = free_slots(&ncached);
  fprintf(stream, "<total type=\"fast\" count=\"%zu\" size=\"%llu\"/>\n", ncached,
          (unsigned long long)(st->cached + st->transfer));
  fprintf(stream, "<total type=\"rest\" count=\"%zu\" size=\"%llu\"/>\n", nslots,
          (unsigned long long)st->slab_free + dirty);
  fprintf(stream, "<system type=\"current\" size=\"%llu\"/>\n", used + dirty);
  fprintf(stream, "<system type=\"max\" size=\"%llu\"/>\n",
          peak > used + dirty ? peak : used + dirty);
  fprintf(stream, "<aspace type=\"total\" size=\"%llu\"/>\n", (unsigned long long)st->reserved);
  fprintf(stream, "<aspace type=\"mprotect\" size=\"%llu\"/>\n",
          (unsigned long long)st->frames_opened << FRAME_SHIFT);
}

public_symbol int malloc_info(int flags, FILE *stream) {
  struct quire_stats st = {0};
  if (flags != 0) {
    errno = EINVAL;
    return -1;
  }
  (void)quire_stats(&st);
  fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n", stream);
  print_sizes(stream);
  print_totals(stream, &st);
  fputs("</heap>\n", stream);
  print_totals(stream, &st);
  fputs("</malloc>\n", stream);
  return 0;
}

public_symbol void malloc_stats(void) { (void)quire_stats_print(stderr, QUIRE_TEXT); }

/* ---- tuning ---- */

/* glibc's parameters are taken and change nothing: quire's own options are in QUIRE_CONF. What
 * glibc would refuse is refused. */
public_symbol int mallopt(int parameter, int value) {
  enum {
    MXFAST_MAX = 80 * sizeof(size_t) / 4,
    MMAP_THRESHOLD_MAX = 4 << 20, /* times sizeof(long) */
  };
  switch (parameter) {
  case M_MXFAST:
    return value >= 0 && value <= MXFAST_MAX;
  case M_MMAP_THRESHOLD:
    return value >= 0 && (size_t)value <= MMAP_THRESHOLD_MAX * sizeof(long);
  case M_ARENA_TEST:
  case M_ARENA_MAX:
    return value >= 0;
  case M_NLBLKS:
  case M_GRAIN:
  case M_KEEP:
  case M_TRIM_THRESHOLD:
  case M_TOP_PAD:
  case M_MMAP_MAX:
  case M_CHECK_ACTION:
  case M_PERTURB:
    return 1;
  default:
    return 0;
  }
}

public_symbol int malloc_trim(size_t pad) {
  size_t given = quire_purge(pad);
  return given + quire_compact() > 0;
}
