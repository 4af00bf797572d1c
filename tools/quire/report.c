#include "tools/quire/report.h"

#include <errno.h>
#include <string.h>

#include "alloc/options.h"
#include "alloc/stats.h"
#include "tools/quire/cli.h"

enum { FRAME = 4096, RANGES = 3 };

/* ---- reading ---- */

static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static void sum_up(struct report *r) {
  const struct quire_stats *s = &r->numbers.stats;
  uint64_t hollow = s->hollow * FRAME, slack = less(s->slab_free, hollow);
  r->tails = r->numbers.slab_tails < slack ? r->numbers.slab_tails : slack;
  r->slots = slack - r->tails;
  r->cached = s->cached;
  r->transfer = s->transfer;
  r->dirty = s->frames_dirty * FRAME;
  r->metadata = s->metadata;
  r->overhead = slack + r->cached + r->transfer + r->dirty + r->metadata;
  r->heap = s->live + r->overhead;
}

/* The arena and, in one piece beside it, its tables; the table of backings. */
static unsigned find_ranges(struct process *p, struct kernel_range ranges[RANGES]) {
  const struct quire_peek *h = &p->header;
  uint64_t backing = 0;
  ranges[0] = (struct kernel_range){h->base, h->base + h->arena_size};
  ranges[1] = (struct kernel_range){h->memmap, h->memmap + (h->reserved - h->arena_size)};
  if (!target_read(&p->target, h->backing_address, &backing, sizeof backing) || backing == 0)
    return 2;
  ranges[2] = (struct kernel_range){backing, backing + h->arena_size / FRAME * 4};
  return 3;
}

enum status report_read(struct process *p, bool with_kernel, struct report *out,
                        char error[PROCESS_ERROR_MAX]) {
  struct kernel_range ranges[RANGES];
  memset(out, 0, sizeof *out);
  enum snapshot_status status = snapshot_stats(&p->target, &p->header, &out->numbers);
  if (status != SNAPSHOT_OK) return process_explain(p, status, error);
  process_identify(p->pid, &out->process);
  pid_t tid = kernel_thread(p->pid, out->numbers.background_tid);
  if (tid != 0) out->background_cpu_ns = kernel_thread_cpu_ns(p->pid, tid);
  if (with_kernel)
    out->have_kernel = kernel_memory(p->pid, ranges, find_ranges(p, ranges), &out->kernel);
  sum_up(out);
  return STATUS_OK;
}

void report_replay(const struct snapshot *snapshot, struct report *out) {
  memset(out, 0, sizeof *out);
  out->numbers = snapshot->numbers;
  out->process = snapshot->process;
  out->replayed = true;
  sum_up(out);
}

const char *report_mesh_text(uint64_t state) {
  static const char *const texts[] = {
      [QUIRE_MESH_CLOSED] = "not begun",
      [QUIRE_MESH_OPEN] = "open",
      [QUIRE_MESH_NO_WATCH] = "not permitted (userfaultfd)",
      [QUIRE_MESH_NO_KERNEL] = "not with this kernel (Linux 6.12)",
      [QUIRE_MESH_NO_MEMORY] = "no memory for it",
      [QUIRE_MESH_NO_PAGES] = "not with pages of this size",
  };
  return state < sizeof texts / sizeof texts[0] ? texts[state] : "unknown";
}

/* ---- text ---- */

static void title(FILE *out, const char *text) {
  fprintf(out, "%s%s%s\n", cli_style(out, CLI_BOLD), text, cli_style(out, CLI_PLAIN));
}

static void row(FILE *out, const char *label, uint64_t bytes, uint64_t heap) {
  char text[24];
  fprintf(out, "  %-26s %12s %7.1f %%\n", label, cli_bytes(bytes, text), cli_share(bytes, heap));
}

static void amount(FILE *out, const char *label, uint64_t bytes, const char *more) {
  char text[24];
  fprintf(out, "  %-26s %12s%s%s\n", label, cli_bytes(bytes, text), *more != 0 ? "  " : "", more);
}

static void counted(FILE *out, const char *label, uint64_t n, const char *more) {
  fprintf(out, "  %-26s %12llu%s%s\n", label, (unsigned long long)n, *more != 0 ? "  " : "", more);
}

static void text_live(const struct report *r, FILE *out) {
  const struct quire_stats *s = &r->numbers.stats;
  title(out, "live");
  row(out, "in slabs", s->slab_live, r->heap);
  row(out, "in folios", s->folio_live, r->heap);
  if (s->owned_live != 0) row(out, "of the program's owners", s->owned_live, r->heap);
  row(out, "total", s->live, r->heap);
}

static void text_overhead(const struct report *r, FILE *out) {
  title(out, "overhead");
  row(out, "free slots in slabs", r->slots, r->heap);
  row(out, "slabs' tails", r->tails, r->heap);
  row(out, "thread caches", r->cached, r->heap);
  row(out, "transfer areas", r->transfer, r->heap);
  row(out, "freed, not given back", r->dirty, r->heap);
  row(out, "metadata", r->metadata, r->heap);
  row(out, "total", r->overhead, r->heap);
}

static void text_kernel(const struct report *r, FILE *out) {
  char more[96], rss[24];
  title(out, "what the kernel says");
  if (!r->have_kernel) {
    fputs(r->replayed ? "  nothing: a recording has quire's own numbers only\n"
                      : "  nothing: /proc/PID/smaps can't be read\n",
          out);
    return;
  }
  amount(out, "heap, PSS", r->kernel.heap_pss, "");
  snprintf(more, sizeof more, "%.1f %% of %s resident",
           cli_share(r->kernel.heap_huge, r->kernel.heap_rss), cli_bytes(r->kernel.heap_rss, rss));
  amount(out, "on hugepages", r->kernel.heap_huge, more);
  amount(out, "whole process, PSS", r->kernel.pss, "");
  if (r->kernel.swap != 0) amount(out, "swapped out", r->kernel.swap, "");
  snprintf(more, sizeof more, "of %llu of the process", (unsigned long long)r->kernel.mappings);
  counted(out, "mappings", r->kernel.heap_mappings, more);
}

static void text_hugepages(const struct report *r, FILE *out) {
  const struct quire_stats *s = &r->numbers.stats;
  title(out, "hugepages");
  counted(out, "in use", s->hugepages, "of 2 MiB");
  counted(out, "asked of the kernel", s->huge_advised, "");
  counted(out, "refused by it", s->huge_fallbacks, "times so far");
  counted(out, "came late", r->numbers.huge_stalls, "times so far");
}

static void text_compaction(const struct report *r, FILE *out) {
  const struct snapshot_numbers *n = &r->numbers;
  const struct quire_stats *s = &n->stats;
  char more[96];
  fprintf(out, "%scompaction%s: meshing %s\n", cli_style(out, CLI_BOLD), cli_style(out, CLI_PLAIN),
          report_mesh_text(s->mesh_state));
  snprintf(more, sizeof more, "by %llu passes", (unsigned long long)s->compactions);
  amount(out, "gained now", s->hollow * FRAME, more);
  amount(out, "  of these by meshing", s->guests * FRAME, "");
  amount(out, "memory that hosts", s->zone * FRAME, "");
  if (s->frozen != 0) amount(out, "frozen by a fork", s->frozen * FRAME, "");
  if (n->mappings_most != 0)
    snprintf(more, sizeof more, "of %llu (vm.max_map_count)", (unsigned long long)n->mappings_most);
  else
    more[0] = 0;
  counted(out, "cost: mappings", s->mappings, more);
  if (r->background_cpu_ns != 0)
    fprintf(out, "  %-26s %10.2f s  of the background thread, in all\n", "cost: processor time",
            (double)r->background_cpu_ns / 1e9);
  counted(out, "refused: pinned", s->pinned, "slabs so far");
  counted(out, "refused: no host found", n->unplaced, "frames in the last pass");
  counted(out, "refused: hugepages", n->refused, "so far");
  if (n->remap_failures != 0) counted(out, "refused: by the kernel", n->remap_failures, "remaps");
  if (s->freezes != 0) counted(out, "given up for forks", s->freezes, "times");
}

/* How many of node_frames say something; whatever a target or a file says, within the array. */
static unsigned node_counts(const struct quire_stats *s) {
  if (s->nodes < 2) return 1;
  return (unsigned)(s->nodes < QUIRE_NODES_MAX ? s->nodes : QUIRE_NODES_MAX) + 1;
}

/* Where the machine has one node, or nobody has looked yet, nothing. */
static void text_nodes(const struct report *r, FILE *out) {
  static const char *const states[] = {
      [QUIRE_NUMA_KNOWN] = "the heap is divided by them",
      [QUIRE_NUMA_OFF] = "several, not divided (numa:off)",
      [QUIRE_NUMA_NO_LIBRARY] = "several, not divided (no hwloc)",
      [QUIRE_NUMA_NO_TOPOLOGY] = "several, not divided (hwloc can't tell)",
      [QUIRE_NUMA_POLICY] = "several, not divided (the program has a memory policy)",
      [QUIRE_NUMA_NO_MEMORY] = "several, not divided (no memory)",
  };
  const struct quire_stats *s = &r->numbers.stats;
  char label[32], more[64];
  if (s->numa_state < QUIRE_NUMA_KNOWN) return;
  fprintf(out, "%snodes of memory%s: %s\n", cli_style(out, CLI_BOLD), cli_style(out, CLI_PLAIN),
          s->numa_state < sizeof states / sizeof states[0] ? states[s->numa_state] : "unknown");
  if (s->nodes < 2) return;
  for (unsigned i = 0; i < node_counts(s); i++) {
    snprintf(label, sizeof label, i == 0 ? "on no known node" : "on node %u of %u", i,
             node_counts(s) - 1);
    snprintf(more, sizeof more, "%5.1f %%", cli_share(s->node_frames[i], s->frames_used));
    amount(out, label, s->node_frames[i] * FRAME, more);
  }
  snprintf(more, sizeof more, "%llu folios", (unsigned long long)s->brought_folios);
  amount(out, "brought to another", s->brought * FRAME, more);
  amount(out, "not brought: refused", s->brought_not * FRAME, "so far");
}

static void text_rest(const struct report *r, FILE *out) {
  const struct quire_stats *s = &r->numbers.stats;
  char more[96], text[24];
  title(out, "so far");
  amount(out, "most in use", s->frames_peak * FRAME, "");
  snprintf(more, sizeof more, "in %llu calls, %llu refused", (unsigned long long)s->discards,
           (unsigned long long)s->discard_failures);
  amount(out, "given back", s->discarded * FRAME, more);
  amount(out, "taken from idle threads", s->reclaimed, "");
  title(out, "made of");
  snprintf(more, sizeof more, "%llu folios, %llu thread caches", (unsigned long long)s->nfolios,
           (unsigned long long)s->ncaches);
  counted(out, "slabs", s->nslabs, more);
  snprintf(more, sizeof more, "%s opened", cli_bytes(s->frames_opened * FRAME, text));
  amount(out, "address space", s->reserved, more);
  if (s->frames_pinned != 0) amount(out, "pinned", s->frames_pinned * FRAME, "");
  if (s->frames_poisoned != 0) amount(out, "failed memory", s->frames_poisoned * FRAME, "");
  if (s->background)
    fprintf(out, "  background thread %llu\n", (unsigned long long)r->numbers.background_tid);
  else
    fputs("  no background thread\n", out);
}

/* As QUIRE_CONF has it: the number, or a choice by name. */
static void option_text_of(const struct option_text *o, uint64_t value, char *out, size_t size) {
  const char *at = o->choices;
  for (uint64_t c = 0; c < value && *at != 0; c++) {
    at += strcspn(at, "|");
    at += *at == '|';
  }
  if (*o->choices == 0)
    snprintf(out, size, "%llu", (unsigned long long)value);
  else
    snprintf(out, size, "%.*s", (int)strcspn(at, "|"), at);
}

/* Those that are not as they are unless told. */
static void text_options(const struct report *r, FILE *out) {
  struct option_text o;
  char value[64];
  bool any = false;
  for (unsigned i = 0; i < r->numbers.noptions && option_text(i, &o); i++) {
    if (r->numbers.options[i] == o.value) continue;
    option_text_of(&o, r->numbers.options[i], value, sizeof value);
    fprintf(out, "%s%s:%s", any ? "," : "  options ", o.name, value);
    any = true;
  }
  if (any) fputc('\n', out);
}

void report_text(const struct report *r, FILE *out) {
  char live[24], heap[24];
  fprintf(out, "%s%s%s (process %llu, quire %s): %s live in a heap of %s\n",
          cli_style(out, CLI_BOLD), r->process.comm, cli_style(out, CLI_PLAIN),
          (unsigned long long)r->process.pid, r->numbers.library,
          cli_bytes(r->numbers.stats.live, live), cli_bytes(r->heap, heap));
  fprintf(out, "%s%s%s\n", cli_style(out, CLI_DIM), r->process.cmdline, cli_style(out, CLI_PLAIN));
  text_live(r, out);
  text_overhead(r, out);
  text_kernel(r, out);
  text_hugepages(r, out);
  text_compaction(r, out);
  text_nodes(r, out);
  text_rest(r, out);
  text_options(r, out);
}

/* ---- JSON ---- */

static uint64_t value_of(const struct quire_stats *stats, const struct stats_field *f) {
  return *(const uint64_t *)((const char *)stats + f->offset);
}

static int put(json_t *object, const char *name, uint64_t value) {
  return json_object_set_new(object, name, json_integer((json_int_t)value));
}

/* As the library's own: frames by node, first those of no known one. */
static json_t *json_nodes(const struct quire_stats *s) {
  json_t *list = json_array();
  for (unsigned i = 0; i < node_counts(s); i++)
    (void)json_array_append_new(list, json_integer((json_int_t)s->node_frames[i]));
  return list;
}

static json_t *json_stats(const struct snapshot_numbers *n) {
  json_t *o = json_object();
  const struct stats_field *f;
  for (size_t i = 0; (f = stats_field(i)) != NULL; i++)
    (void)put(o, f->name, value_of(&n->stats, f));
  (void)json_object_set_new(o, "node_frames", json_nodes(&n->stats));
  (void)put(o, "page_size", n->stats.page_size);
  (void)put(o, "frame_size", FRAME);
  (void)put(o, "slab_tails", n->slab_tails);
  (void)put(o, "huge_stalls", n->huge_stalls);
  (void)put(o, "mappings_most", n->mappings_most);
  (void)put(o, "remap_failures", n->remap_failures);
  (void)put(o, "mesh_runs", n->mesh_runs);
  (void)put(o, "unplaced", n->unplaced);
  (void)put(o, "converted", n->converted);
  (void)put(o, "refused", n->refused);
  (void)put(o, "background_tid", n->background_tid);
  return o;
}

static json_t *json_overhead(const struct report *r) {
  json_t *o = json_object();
  (void)put(o, "free_slots", r->slots);
  (void)put(o, "slab_tails", r->tails);
  (void)put(o, "thread_caches", r->cached);
  (void)put(o, "transfer_areas", r->transfer);
  (void)put(o, "freed_not_given_back", r->dirty);
  (void)put(o, "metadata", r->metadata);
  (void)put(o, "total", r->overhead);
  return o;
}

static json_t *json_kernel(const struct report *r) {
  if (!r->have_kernel) return json_null();
  json_t *o = json_object();
  (void)put(o, "pss", r->kernel.pss);
  (void)put(o, "swap", r->kernel.swap);
  (void)put(o, "heap_pss", r->kernel.heap_pss);
  (void)put(o, "heap_rss", r->kernel.heap_rss);
  (void)put(o, "heap_swap", r->kernel.heap_swap);
  (void)put(o, "heap_huge", r->kernel.heap_huge);
  (void)put(o, "heap_mappings", r->kernel.heap_mappings);
  (void)put(o, "mappings", r->kernel.mappings);
  return o;
}

/* As option_value writes them: choices by name. */
static json_t *json_options(const struct snapshot_numbers *n) {
  json_t *o = json_object();
  struct option_text text;
  char value[64];
  for (unsigned i = 0; i < n->noptions && option_text(i, &text); i++) {
    option_text_of(&text, n->options[i], value, sizeof value);
    if (*text.choices == 0)
      (void)put(o, text.name, n->options[i]);
    else
      (void)json_object_set_new(o, text.name, json_string(value));
  }
  return o;
}

json_t *report_json(const struct report *r) {
  json_t *o = json_object();
  (void)put(o, "pid", r->process.pid);
  (void)put(o, "time_ns", r->process.time_ns);
  (void)json_object_set_new(o, "comm", cli_json_text(r->process.comm));
  (void)json_object_set_new(o, "cmdline", cli_json_text(r->process.cmdline));
  (void)json_object_set_new(o, "quire", cli_json_text(r->numbers.library));
  (void)put(o, "live", r->numbers.stats.live);
  (void)put(o, "heap", r->heap);
  (void)json_object_set_new(o, "overhead", json_overhead(r));
  (void)json_object_set_new(o, "kernel", json_kernel(r));
  (void)put(o, "background_cpu_ns", r->background_cpu_ns);
  (void)json_object_set_new(o, "mesh",
                            cli_json_text(report_mesh_text(r->numbers.stats.mesh_state)));
  (void)json_object_set_new(o, "stats", json_stats(&r->numbers));
  (void)json_object_set_new(o, "options", json_options(&r->numbers));
  return o;
}

/* ---- Prometheus ---- */

/* A label's value: backslash, quote and newline are escaped. */
static void label(FILE *out, const char *text) {
  for (; *text != 0; text++) {
    if (*text == '\\' || *text == '"') fputc('\\', out);
    if (*text == '\n')
      fputs("\\n", out);
    else
      fputc(*text, out);
  }
}

static void sample(FILE *out, const char *name, const char *suffix, const struct report *r) {
  fprintf(out, "quire_%s%s{pid=\"%llu\",comm=\"", name, suffix, (unsigned long long)r->process.pid);
  label(out, r->process.comm);
  fputs("\"", out);
}

static void head(FILE *out, const char *name, const char *suffix, const char *type,
                 const char *help) {
  fprintf(out, "# HELP quire_%s%s %s\n# TYPE quire_%s%s %s\n", name, suffix, help, name, suffix,
          type);
}

static void stats_metric(const struct stats_field *f, const struct report *reports, unsigned n,
                         FILE *out) {
  static const char *const suffixes[2][2] = {{"", "_total"}, {"_bytes", "_bytes_total"}};
  const char *suffix = suffixes[f->unit != STATS_COUNT][f->type == STATS_COUNTER];
  head(out, f->name, suffix, f->type == STATS_COUNTER ? "counter" : "gauge", f->help);
  for (unsigned i = 0; i < n; i++) {
    uint64_t value = value_of(&reports[i].numbers.stats, f);
    sample(out, f->name, suffix, &reports[i]);
    fprintf(out, "} %llu\n", (unsigned long long)(f->unit == STATS_FRAMES ? value * FRAME : value));
  }
}

struct extra {
  const char *name, *suffix, *type, *help;
  size_t offset; /* in struct report */
};

#define EXTRA(name, suffix, type, member, help)                                                    \
  { name, suffix, type, help, offsetof(struct report, member) }

static const struct extra extras[] = {
    EXTRA("heap", "_bytes", "gauge", heap, "Live bytes and overhead together."),
    EXTRA("overhead", "_bytes", "gauge", overhead, "What the heap costs beyond live bytes."),
    EXTRA("slab_tails", "_bytes", "gauge", numbers.slab_tails, "Of slab_free: behind last slots."),
    EXTRA("huge_stalls", "_total", "counter", numbers.huge_stalls, "Hugepages that came late."),
    EXTRA("remap_failures", "_total", "counter", numbers.remap_failures, "Refused remaps."),
    EXTRA("mesh_runs", "_total", "counter", numbers.mesh_runs, "Remaps that meshing took."),
    EXTRA("unplaced", "", "gauge", numbers.unplaced, "Frames without a host in the last pass."),
    EXTRA("hugepages_refused", "_total", "counter", numbers.refused,
          "Hugepages that could not be made hosts."),
};

static const struct extra kernel_extras[] = {
    EXTRA("process_pss", "_bytes", "gauge", kernel.pss, "PSS of the whole process."),
    EXTRA("heap_pss", "_bytes", "gauge", kernel.heap_pss, "PSS of the heap's mappings."),
    EXTRA("heap_huge", "_bytes", "gauge", kernel.heap_huge, "Of the heap, mapped by hugepages."),
    EXTRA("process_mappings", "", "gauge", kernel.mappings, "Mappings of the whole process."),
};

static void extra_metric(const struct extra *e, bool kernel, const struct report *reports,
                         unsigned n, FILE *out) {
  head(out, e->name, e->suffix, e->type, e->help);
  for (unsigned i = 0; i < n; i++) {
    if (kernel && !reports[i].have_kernel) continue;
    sample(out, e->name, e->suffix, &reports[i]);
    fprintf(out, "} %llu\n",
            (unsigned long long)*(const uint64_t *)((const char *)&reports[i] + e->offset));
  }
}

static void node_metric(const struct report *reports, unsigned n, FILE *out) {
  head(out, "node_frames", "_bytes", "gauge", "Memory in use by node, 0 where it isn't known.");
  for (unsigned i = 0; i < n; i++) {
    const struct quire_stats *s = &reports[i].numbers.stats;
    for (unsigned node = 0; node < node_counts(s); node++) {
      sample(out, "node_frames", "_bytes", &reports[i]);
      fprintf(out, ",node=\"%u\"} %llu\n", node, (unsigned long long)s->node_frames[node] * FRAME);
    }
  }
}

void report_metrics(const struct report *reports, unsigned n, FILE *out) {
  const struct stats_field *f;
  head(out, "info", "", "gauge", "The allocator's version.");
  for (unsigned i = 0; i < n; i++) {
    sample(out, "info", "", &reports[i]);
    fprintf(out, ",version=\"%s\"} 1\n", reports[i].numbers.library);
  }
  for (size_t i = 0; (f = stats_field(i)) != NULL; i++) stats_metric(f, reports, n, out);
  node_metric(reports, n, out);
  for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++)
    extra_metric(&extras[i], false, reports, n, out);
  for (size_t i = 0; i < sizeof kernel_extras / sizeof kernel_extras[0]; i++)
    extra_metric(&kernel_extras[i], true, reports, n, out);
  head(out, "background_cpu", "_seconds_total", "counter",
       "Processor time of the background thread.");
  for (unsigned i = 0; i < n; i++) {
    sample(out, "background_cpu", "_seconds_total", &reports[i]);
    fprintf(out, "} %.6f\n", (double)reports[i].background_cpu_ns / 1e9);
  }
}
