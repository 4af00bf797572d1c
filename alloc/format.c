/* The snapshot as text, JSON and Prometheus' exposition format.
 *
 * JSON and Prometheus come from one table of fields (fields.c); text is a page for a person, whose
 * numbers add up: heap = live + overhead, overhead = the sum of its lines. Nothing is allocated and
 * no floating point is used. */
#include <stdarg.h>
#include <stdio.h>

#include "alloc/stats.h"
#include "page/arena.h"
#include "page/zone.h"
#include "quire.h"

struct sink {
  char *out;
  size_t size;
  size_t length; /* of the whole text, whether or not there was room for it */
};

static printf_like(2, 3) void emit(struct sink *s, const char *format, ...) {
  size_t room = s->length < s->size ? s->size - s->length : 0;
  va_list args;
  va_start(args, format);
  int n = vsnprintf(room > 0 ? s->out + s->length : NULL, room, format, args);
  va_end(args);
  if (n > 0) s->length += (size_t)n;
}

/* ---- every field by name ---- */

/* How many of node_frames say something. */
static unsigned node_counts(const struct quire_stats *stats) {
  if (stats->nodes < 2) return 1;
  return (unsigned)size_min(stats->nodes, QUIRE_NODES_MAX) + 1;
}

static uint64_t field_value(const struct quire_stats *stats, const struct stats_field *f) {
  return *(const uint64_t *)((const char *)stats + f->offset);
}

static void json(struct sink *s, const struct quire_stats *stats) {
  emit(s, "{\n  \"quire\": \"%s\",\n  \"version\": %u,\n  \"page_size\": %u,\n  \"frame_size\": %d",
       QUIRE_VERSION, stats->version, stats->page_size, FRAME_SIZE);
  const struct stats_field *f;
  for (size_t i = 0; (f = stats_field(i)) != NULL; i++)
    emit(s, ",\n  \"%s\": %llu", f->name, (unsigned long long)field_value(stats, f));
  emit(s, ",\n  \"node_frames\": [");
  for (unsigned i = 0; i < node_counts(stats); i++)
    emit(s, "%s%llu", i > 0 ? ", " : "", (unsigned long long)stats->node_frames[i]);
  emit(s, "]\n}\n");
}

static void metric(struct sink *s, const struct stats_field *f, uint64_t value) {
  const char *unit = f->unit == STATS_COUNT ? "" : "_bytes",
             *total = f->type == STATS_COUNTER ? "_total" : "";
  emit(s, "# HELP quire_%s%s%s %s\n", f->name, unit, total, f->help);
  emit(s, "# TYPE quire_%s%s%s %s\n", f->name, unit, total,
       f->type == STATS_COUNTER ? "counter" : "gauge");
  emit(s, "quire_%s%s%s %llu\n", f->name, unit, total,
       (unsigned long long)(f->unit == STATS_FRAMES ? value << FRAME_SHIFT : value));
}

static void prometheus(struct sink *s, const struct quire_stats *stats) {
  emit(s, "# HELP quire_info The allocator's version.\n# TYPE quire_info gauge\n");
  emit(s, "quire_info{version=\"%s\"} 1\n", QUIRE_VERSION);
  const struct stats_field *f;
  for (size_t i = 0; (f = stats_field(i)) != NULL; i++) metric(s, f, field_value(stats, f));
  emit(s, "# HELP quire_node_frames_bytes Memory in use by node, 0 where it isn't known.\n"
          "# TYPE quire_node_frames_bytes gauge\n");
  for (unsigned i = 0; i < node_counts(stats); i++)
    emit(s, "quire_node_frames_bytes{node=\"%u\"} %llu\n", i,
         (unsigned long long)(stats->node_frames[i] << FRAME_SHIFT));
}

/* ---- for people ---- */

/* "1023 B", "1.5 KiB", "12.3 MiB": one digit behind the point, rounded. */
static const char *human(uint64_t bytes, char out[16]) {
  static const char units[] = "KMGTPE";
  struct sink s = {out, 16, 0};
  if (bytes < 1024) {
    emit(&s, "%u B", (unsigned)bytes);
    return out;
  }
  unsigned u = 0, shift = 10;
  for (; bytes >> shift >= 1024; u++) shift += 10;
  uint64_t whole = bytes >> shift, rest = (bytes >> (shift - 10)) & 1023;
  uint64_t tenths = whole * 10 + (rest * 10 + 512) / 1024;
  emit(&s, "%u.%u %ciB", (unsigned)(tenths / 10), (unsigned)(tenths % 10), units[u]);
  return out;
}

/* Tenths of a per cent that part is of whole. */
static unsigned share(uint64_t part, uint64_t whole) {
  if (whole == 0) return 0;
  for (; part > UINT64_MAX / 2000; part >>= 1) whole >>= 1;
  return (unsigned)((part * 2000 + whole) / (2 * whole));
}

static void row(struct sink *s, const char *label, uint64_t bytes, uint64_t heap) {
  char text[16];
  unsigned tenths = share(bytes, heap);
  emit(s, "  %-24s %12s %6u.%u %%\n", label, human(bytes, text), tenths / 10, tenths % 10);
}

static void counted(struct sink *s, const char *label, uint64_t n, const char *what) {
  emit(s, "  %-24s %12llu  %s\n", label, (unsigned long long)n, what);
}

static void compaction(struct sink *s, const struct quire_stats *st) {
  char a[16];
  emit(s, "compaction: meshing: %s\n", zone_state_text(st->mesh_state));
  emit(s, "  %-24s %12s\n", "without memory in slabs", human(st->hollow << FRAME_SHIFT, a));
  emit(s, "  %-24s %12s  of these\n", "guests", human(st->guests << FRAME_SHIFT, a));
  emit(s, "  %-24s %12s  in %llu mappings\n", "hosts", human(st->zone << FRAME_SHIFT, a),
       (unsigned long long)st->mappings);
  counted(s, "passes", st->compactions, "");
}

/* Nothing where there is one. */
static void nodes(struct sink *s, const struct quire_stats *st) {
  static const char *const states[] = {
      "not looked for",
      "one",
      "several, the heap is divided by them",
      "several, not divided (numa:off)",
      "several, not divided (no hwloc)",
      "several, not divided (hwloc can't tell)",
      "several, not divided (the program has a memory policy)",
      "several, not divided (no memory)",
  };
  char a[16], label[32];
  if (st->numa_state < 2) return;
  emit(s, "nodes of memory: %s\n",
       st->numa_state < array_size(states) ? states[st->numa_state] : "?");
  if (st->nodes < 2) return;
  for (unsigned i = 0; i < node_counts(st); i++) {
    snprintf(label, sizeof label, i == 0 ? "from before" : "the %u. node", i);
    emit(s, "  %-24s %12s\n", label, human(st->node_frames[i] << FRAME_SHIFT, a));
  }
  emit(s, "  %-24s %12s  %llu folios, %llu frames refused\n", "brought to another",
       human(st->brought << FRAME_SHIFT, a), (unsigned long long)st->brought_folios,
       (unsigned long long)st->brought_not);
}

static void text(struct sink *s, const struct quire_stats *st) {
  char a[16], b[16];
  uint64_t dirty = st->frames_dirty << FRAME_SHIFT;
  uint64_t hollow = st->hollow << FRAME_SHIFT;
  uint64_t slack = st->slab_free > hollow ? st->slab_free - hollow : 0;
  uint64_t overhead = slack + st->cached + st->transfer + dirty + st->metadata;
  uint64_t heap = st->live + overhead;
  emit(s, "quire %s: %s live in a heap of %s\n", QUIRE_VERSION, human(st->live, a), human(heap, b));
  emit(s, "\nlive\n");
  row(s, "in slabs", st->slab_live, heap);
  row(s, "in folios", st->folio_live, heap);
  if (st->owned_live != 0) row(s, "of the program's owners", st->owned_live, heap);
  row(s, "total", st->live, heap);
  emit(s, "overhead\n");
  row(s, "free in slabs", slack, heap);
  row(s, "thread caches", st->cached, heap);
  row(s, "transfer areas", st->transfer, heap);
  row(s, "freed, not given back", dirty, heap);
  row(s, "metadata", st->metadata, heap);
  row(s, "total", overhead, heap);
  emit(s, "made of\n");
  counted(s, "slabs", st->nslabs, "");
  counted(s, "folios", st->nfolios, "");
  counted(s, "thread caches", st->ncaches, "");
  counted(s, "hugepages in use", st->hugepages, "of 2 MiB");
  counted(s, "  asked of the kernel", st->huge_advised, "");
  counted(s, "  refused by it", st->huge_fallbacks, "times so far");
  emit(s, "so far\n");
  emit(s, "  %-24s %12s\n", "most in use", human(st->frames_peak << FRAME_SHIFT, a));
  emit(s, "  %-24s %12s  in %llu calls, %llu refused\n", "given back",
       human(st->discarded << FRAME_SHIFT, a), (unsigned long long)st->discards,
       (unsigned long long)st->discard_failures);
  emit(s, "  %-24s %12s\n", "taken from idle threads", human(st->reclaimed, a));
  counted(s, "moved by page tables", st->moves, "reallocations");
  compaction(s, st);
  nodes(s, st);
  emit(s, "address space\n");
  emit(s, "  %-24s %12s  %s opened\n", "reserved", human(st->reserved, a),
       human(st->frames_opened << FRAME_SHIFT, b));
  emit(s, "background thread: %s\n", st->background ? "running" : "not running");
}

public_symbol size_t quire_stats_format(const struct quire_stats *stats, enum quire_format format,
                                        char *out, size_t size) {
  struct sink s = {out, size, 0};
  if (size > 0) out[0] = 0;
  switch (format) {
  case QUIRE_TEXT:
    text(&s, stats);
    break;
  case QUIRE_JSON:
    json(&s, stats);
    break;
  case QUIRE_PROMETHEUS:
    prometheus(&s, stats);
    break;
  }
  return s.length;
}
