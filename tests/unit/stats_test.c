/* What quire says of its heap: statistics and their formats, describe, walk, purge, the peek
 * header. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "page/frames.h"
#include "page/hugepage.h"
#include "quire.h"
#include "slab/bin.h"
#include "tests/unit/check.h"

enum { OBJECTS = 4000 };

static void *objects[OBJECTS];

static struct quire_stats now(void) {
  struct quire_stats st;
  memset(&st, 0xff, sizeof st);
  CU_ASSERT_EQUAL(quire_stats(&st), 0);
  return st;
}

static struct quire_description describe(const void *p) {
  struct quire_description d;
  memset(&d, 0xff, sizeof d);
  quire_describe(p, &d);
  return d;
}

static int count_item(const struct quire_walk_item *item, void *arg) {
  (void)item;
  ++*(unsigned *)arg;
  return 0;
}

/* Must be the first: nothing was allocated yet. */
static void before_the_heap(void) {
  struct quire_stats st;
  unsigned items = 0;
  CU_ASSERT_EQUAL(quire_peek.magic, 0);
  CU_ASSERT_EQUAL(quire_stats(&st), -1);
  CU_ASSERT_EQUAL(quire_stats_print(stdout, QUIRE_TEXT), -1);
  CU_ASSERT_EQUAL(errno, EAGAIN);
  CU_ASSERT_EQUAL(quire_purge(0), 0);
  CU_ASSERT_EQUAL(quire_walk(count_item, &items), 0);
  CU_ASSERT_EQUAL(items, 0);
  CU_ASSERT_EQUAL(describe(&st).kind, QUIRE_FOREIGN);
  quire_free(quire_malloc(1));
  CU_ASSERT_EQUAL(quire_stats(&st), 0);
}

static bool adds_up(const struct quire_stats *st) {
  return st->frames_used * FRAME_SIZE == st->live + st->slab_free + st->cached + st->transfer &&
         st->live == st->slab_live + st->folio_live;
}

static void live_is_what_is_held(void) {
  struct quire_stats st, before = now();
  CU_ASSERT(adds_up(&before));
  CU_ASSERT_EQUAL(before.version, QUIRE_STATS_VERSION);
  for (int i = 0; i < OBJECTS; i++) objects[i] = quire_malloc(100);
  st = now();
  CU_ASSERT(adds_up(&st));
  CU_ASSERT_EQUAL(st.live - before.live, OBJECTS * 112); /* the class of 100 */
  CU_ASSERT_EQUAL(st.slab_live - before.slab_live, OBJECTS * 112);
  CU_ASSERT(st.nslabs > before.nslabs);
  for (int i = 0; i < OBJECTS; i++) quire_free(objects[i]);
  st = now();
  CU_ASSERT(adds_up(&st));
  CU_ASSERT_EQUAL(st.live, before.live);
  CU_ASSERT(st.cached + st.transfer + st.slab_free > 0);
}

static void folios_are_live(void) {
  struct quire_stats st, before = now();
  void *small = quire_malloc(100 << 10), *large = quire_malloc(3 << 20);
  st = now();
  CU_ASSERT(adds_up(&st));
  size_t size = quire_usable_size(small) + quire_usable_size(large);
  CU_ASSERT_EQUAL(st.folio_live - before.folio_live, size);
  CU_ASSERT_EQUAL(st.slab_live, before.slab_live);
  CU_ASSERT_EQUAL(st.nfolios - before.nfolios, 2);
  quire_free(small); /* into the cache: free, though its folio stays */
  quire_free(large);
  st = now();
  CU_ASSERT(adds_up(&st));
  CU_ASSERT_EQUAL(st.live, before.live);
  CU_ASSERT_EQUAL(st.folio_live, before.folio_live);
}

/* Slabs whose slots leave a tail, and every class once. */
static void every_class_adds_up(void) {
  struct quire_stats st, before = now();
  void *held[CACHED_CLASSES];
  size_t sum = 0;
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    held[c] = quire_malloc(class_size(c));
    sum += class_size(c);
  }
  st = now();
  CU_ASSERT(adds_up(&st));
  CU_ASSERT_EQUAL(st.live - before.live, sum);
  for (unsigned c = 0; c < CACHED_CLASSES; c++) quire_free(held[c]);
  st = now();
  CU_ASSERT(adds_up(&st));
  CU_ASSERT_EQUAL(st.live, before.live);
}

static void *free_elsewhere(void *arg) {
  (void)arg;
  for (int i = 0; i < OBJECTS; i++) quire_free(objects[i]);
  struct quire_stats st = now();
  return (void *)(uintptr_t)st.ncaches;
}

static void threads_have_caches(void) {
  struct quire_stats st, before = now();
  pthread_t thread;
  void *caches;
  for (int i = 0; i < OBJECTS; i++) objects[i] = quire_malloc(48);
  pthread_create(&thread, NULL, free_elsewhere, NULL);
  pthread_join(thread, &caches);
  st = now();
  CU_ASSERT_EQUAL((uintptr_t)caches, before.ncaches + 1);
  CU_ASSERT_EQUAL(st.ncaches, before.ncaches);
  CU_ASSERT(adds_up(&st));
  CU_ASSERT_EQUAL(st.live, before.live);
}

static void metadata_is_small_and_whole(void) {
  enum { BLOCKS = 20000 };
  static void *blocks[BLOCKS];
  struct quire_stats st, before = now();
  for (int i = 0; i < BLOCKS; i++) {
    size_t size = i % 10 == 0 ? 40000 : (size_t)i % 3000 + 16;
    blocks[i] = quire_malloc(size);
  }
  st = now();
  /* At the least a word and its hugepage's share for each opened frame. */
  CU_ASSERT(st.metadata >=
            st.frames_opened * 8 + st.frames_opened / HUGEPAGE_FRAMES * sizeof(struct hugepage));
  CU_ASSERT(st.metadata > before.metadata);
  CU_ASSERT(before.metadata < 2 << 20);
  /* What comes with a heap that grows is under 1.5 %; what every heap has is not counted here. */
  CU_ASSERT((st.metadata - before.metadata) * 1000 <= (st.live - before.live) * 15);
  CU_ASSERT(st.reserved >= st.frames_opened * FRAME_SIZE);
  for (int i = 0; i < BLOCKS; i++) quire_free(blocks[i]);
}

/* ---- formats ---- */

/* A number in each field, none like another. */
static struct quire_stats numbered(void) {
  struct quire_stats st = {.version = QUIRE_STATS_VERSION, .page_size = 4096};
  uint64_t *fields = (uint64_t *)&st + 1;
  for (size_t i = 0; i < sizeof st / 8 - 1; i++) fields[i] = 1000003 * (i + 1);
  return st;
}

static void cut_to_size(void) {
  static char whole[8192], cut[8192];
  struct quire_stats st = numbered();
  for (int f = QUIRE_TEXT; f <= QUIRE_PROMETHEUS; f++) {
    size_t n = quire_stats_format(&st, (enum quire_format)f, whole, sizeof whole);
    CU_ASSERT(n > 100 && n < sizeof whole);
    CU_ASSERT_EQUAL(strlen(whole), n);
    CU_ASSERT_EQUAL(quire_stats_format(&st, (enum quire_format)f, NULL, 0), n);
    for (size_t size = 1; size <= n + 1; size++) {
      memset(cut, '#', sizeof cut);
      size_t length = quire_stats_format(&st, (enum quire_format)f, cut, size);
      if (length == n && strlen(cut) == size - 1 && memcmp(cut, whole, size - 1) == 0 &&
          cut[size] == '#')
        continue;
      CU_FAIL("the text was not cut where it should be");
      break;
    }
  }
}

static void largest_numbers_fit(void) {
  static char out[8192];
  struct quire_stats st;
  memset(&st, 0xff, sizeof st);
  for (int f = QUIRE_TEXT; f <= QUIRE_PROMETHEUS; f++)
    CU_ASSERT(quire_stats_format(&st, (enum quire_format)f, out, sizeof out) < sizeof out);
  memset(&st, 0, sizeof st);
  CU_ASSERT(quire_stats_format(&st, QUIRE_TEXT, out, sizeof out) < sizeof out);
}

static bool text_has(uint64_t live, const char *want) {
  static char out[8192];
  struct quire_stats st = {.live = live};
  (void)quire_stats_format(&st, QUIRE_TEXT, out, sizeof out);
  return strstr(out, want) != NULL;
}

static void numbers_for_people(void) {
  CU_ASSERT(text_has(0, ": 0 B live"));
  CU_ASSERT(text_has(1023, ": 1023 B live"));
  CU_ASSERT(text_has(1024, ": 1.0 KiB live"));
  CU_ASSERT(text_has(1536, ": 1.5 KiB live"));
  CU_ASSERT(text_has(10 << 20, ": 10.0 MiB live"));
  CU_ASSERT(text_has((uint64_t)5 << 29, ": 2.5 GiB live"));
  CU_ASSERT(text_has((uint64_t)1 << 40, ": 1.0 TiB live"));
  CU_ASSERT(text_has(UINT64_MAX, ": 16.0 EiB live"));
}

/* All are 64 bits wide but for version and page_size, and one is an array. */
enum { FIELDS = (sizeof(struct quire_stats) - 8) / 8 - QUIRE_NODES_MAX };

/* python3 reads it and finds the numbers. */
static void json_is_json(void) {
  static char out[8192];
  struct quire_stats st = numbered();
  if (system("python3 -c 'import json' >/dev/null 2>&1") != 0) {
    unit_skip("python3 is not installed");
    return;
  }
  (void)quire_stats_format(&st, QUIRE_JSON, out, sizeof out);
  char command[512];
  snprintf(command, sizeof command,
           "python3 -c '"
           "import json, sys\n"
           "d = json.load(sys.stdin)\n"
           "assert d[\"quire\"] and d[\"version\"] == 3 and d[\"page_size\"] == 4096\n"
           "assert d[\"live\"] == 1000003 and d[\"background\"] == 1000003 * 24\n"
           "assert len(d) == 4 + %d and all(d.values())\n"
           "assert d[\"node_frames\"] == [1000003 * (%d + i) for i in range(%d)]\n"
           "'",
           FIELDS, FIELDS, QUIRE_NODES_MAX + 1);
  FILE *to = popen(command, "w");
  CU_ASSERT_PTR_NOT_NULL_FATAL(to);
  fputs(out, to);
  CU_ASSERT_EQUAL(pclose(to), 0);
}

/* HELP, TYPE and sample of each metric, in this order, and no name twice; of one there are several.
 */
static void prometheus_is_exposition(void) {
  static char out[8192];
  struct quire_stats st = numbered();
  char help[64], type[64], kind[16], sample[64];
  unsigned n = 0;
  unsigned long long value;
  size_t length = quire_stats_format(&st, QUIRE_PROMETHEUS, out, sizeof out);
  CU_ASSERT_EQUAL(out[length - 1], '\n');
  char *line = strtok(out, "\n");
  while (line != NULL) {
    CU_ASSERT_EQUAL_FATAL(sscanf(line, "# HELP %63s %*s", help), 1);
    line = strtok(NULL, "\n");
    CU_ASSERT_PTR_NOT_NULL_FATAL(line);
    CU_ASSERT_EQUAL_FATAL(sscanf(line, "# TYPE %63s %15s", type, kind), 2);
    CU_ASSERT_STRING_EQUAL(help, type);
    bool counter = strcmp(kind, "counter") == 0;
    CU_ASSERT(counter || strcmp(kind, "gauge") == 0);
    size_t end = strlen(type);
    CU_ASSERT_EQUAL(end > 6 && strcmp(type + end - 6, "_total") == 0, counter);
    line = strtok(NULL, "\n");
    CU_ASSERT_PTR_NOT_NULL_FATAL(line);
    CU_ASSERT_EQUAL_FATAL(sscanf(line, "%63[a-z_]%*[^ ] %llu", sample, &value) >= 1, 1);
    CU_ASSERT_STRING_EQUAL(sample, type);
    if (strcmp(sample, "quire_frames_used_bytes") == 0)
      CU_ASSERT_PTR_NOT_NULL(strstr(line, " 28672086016")); /* 7 * 1000003 frames */
    n++;
    line = strtok(NULL, "\n");
    while (line != NULL && strncmp(line, "quire_node_frames_bytes{node=\"", 30) == 0)
      line = strtok(NULL, "\n");
  }
  CU_ASSERT_EQUAL(n, FIELDS + 1);
}

static void prints_to_a_stream(void) {
  static char printed[8192];
  FILE *to = tmpfile();
  CU_ASSERT_PTR_NOT_NULL_FATAL(to);
  CU_ASSERT_EQUAL(quire_stats_print(to, QUIRE_TEXT), 0);
  rewind(to);
  size_t n = fread(printed, 1, sizeof printed - 1, to);
  printed[n] = 0;
  fclose(to);
  CU_ASSERT_EQUAL(strncmp(printed, "quire " QUIRE_VERSION ": ", strlen(QUIRE_VERSION) + 8), 0);
  CU_ASSERT_EQUAL(printed[n - 1], '\n');
}

/* ---- describe ---- */

static void describes_objects(void) {
  char *p = quire_malloc(100);
  static const size_t inside[] = {0, 1, 64, 111};
  for (unsigned i = 0; i < array_size(inside); i++) {
    struct quire_description d = describe(p + inside[i]);
    CU_ASSERT_EQUAL(d.kind, QUIRE_OBJECT);
    CU_ASSERT_TRUE(d.allocated);
    CU_ASSERT_FALSE(d.pinned);
    CU_ASSERT_PTR_EQUAL(d.start, p);
    CU_ASSERT_EQUAL(d.size, 112);
    CU_ASSERT_EQUAL(d.pfn, ((uintptr_t)p + inside[i] - arena.base) / FRAME_SIZE);
    CU_ASSERT_EQUAL(d.slab_slots, size_classes[class_of(100)].nslots);
    CU_ASSERT(d.slab_free < d.slab_slots);
  }
  CU_ASSERT_PTR_NOT_EQUAL(describe(p + 112).start, p);
  void *other = quire_malloc(100); /* keeps the slab */
  quire_free(p);
  (void)quire_purge(0);
  CU_ASSERT_EQUAL(describe(p).kind, QUIRE_OBJECT);
  CU_ASSERT_FALSE(describe(p).allocated);
  quire_free(other);
}

static void describes_tails(void) {
  unsigned c = 0;
  size_t tail = 0;
  for (; tail == 0 && ++c < SLAB_CLASSES;)
    tail = (size_t)size_classes[c].nframes * FRAME_SIZE -
           (size_t)size_classes[c].nslots * size_classes[c].size;
  CU_ASSERT_FATAL(tail > 0);
  void *p = quire_malloc(class_size(c));
  memdesc_t word = memmap_get(arena_pfn(p));
  const struct slab *slab = memdesc_owner(word);
  char *end = (char *)slab_addr(slab) + (size_t)slab->nframes * FRAME_SIZE;
  CU_ASSERT_EQUAL(describe(end - tail).kind, QUIRE_INTERNAL);
  CU_ASSERT_EQUAL(describe(end - 1).kind, QUIRE_INTERNAL);
  CU_ASSERT_EQUAL(describe(end - 1).size, tail);
  CU_ASSERT_EQUAL(describe(end - tail - 1).kind, QUIRE_OBJECT);
  quire_free(p);
}

static void describes_folios(void) {
  char *p = quire_malloc(5 << 20);
  size_t size = quire_usable_size(p);
  static const size_t inside[] = {0, 1, 4096, (5 << 20) - 1};
  for (unsigned i = 0; i < array_size(inside); i++) {
    struct quire_description d = describe(p + inside[i]);
    CU_ASSERT_EQUAL(d.kind, QUIRE_FOLIO);
    CU_ASSERT_TRUE(d.allocated);
    CU_ASSERT_PTR_EQUAL(d.start, p);
    CU_ASSERT_EQUAL(d.size, size);
    CU_ASSERT_EQUAL(d.slab_slots, 0);
  }
  quire_free(p);
  CU_ASSERT_EQUAL(describe(p).kind, QUIRE_UNUSED);
  CU_ASSERT_FALSE(describe(p).allocated);
}

static void describes_anything(void) {
  int on_stack;
  void *foreign = malloc(10);
  const void *last = (const char *)arena.base + arena.size - 1;
  CU_ASSERT_EQUAL(describe(NULL).kind, QUIRE_FOREIGN);
  CU_ASSERT_EQUAL(describe((void *)-1).kind, QUIRE_FOREIGN);
  CU_ASSERT_EQUAL(describe((void *)1).kind, QUIRE_FOREIGN);
  CU_ASSERT_EQUAL(describe(&on_stack).kind, QUIRE_FOREIGN);
  CU_ASSERT_EQUAL(describe(foreign).kind, QUIRE_FOREIGN);
  CU_ASSERT_EQUAL(describe((const void *)(arena.base - 1)).kind, QUIRE_FOREIGN);
  CU_ASSERT_EQUAL(describe((const char *)last + 1).kind, QUIRE_FOREIGN);
  CU_ASSERT_EQUAL(describe(last).kind, QUIRE_UNUSED); /* reserved, never opened */
  CU_ASSERT_EQUAL(describe(last).pfn, arena.size / FRAME_SIZE - 1);
  free(foreign);
}

/* ---- walk ---- */

struct sums {
  uintptr_t at;
  size_t items, slabs, folios, other;
  size_t frames[QUIRE_WALK_OWNED + 1];
  size_t free_bytes, resident;
  bool gap, odd;
};

static int sum_item(const struct quire_walk_item *item, void *arg) {
  struct sums *s = arg;
  if ((uintptr_t)item->start != s->at) s->gap = true;
  s->at = (uintptr_t)item->start + item->frames * FRAME_SIZE;
  s->items++;
  s->frames[item->type] += item->frames;
  s->resident += item->resident;
  s->odd |= item->frames == 0 || item->resident > item->frames || item->free_slots > item->slots;
  s->odd |= (item->type == QUIRE_WALK_SLAB) != (item->slots != 0);
  if (item->type == QUIRE_WALK_SLAB) {
    s->slabs++;
    s->free_bytes +=
        item->frames * FRAME_SIZE - (item->slots - item->free_slots) * item->object_size;
  }
  s->folios += item->type == QUIRE_WALK_FOLIO;
  return 0;
}

static struct sums walk(void) {
  struct sums s = {.at = arena.base};
  CU_ASSERT_EQUAL(quire_walk(sum_item, &s), 0);
  return s;
}

static void walk_finds_what_is_counted(void) {
  for (int i = 0; i < OBJECTS; i++) objects[i] = quire_malloc((size_t)i * 37 % 150000);
  for (int i = 0; i < OBJECTS; i += 3) quire_free(objects[i]);
  struct quire_stats st = now();
  struct sums s = walk();
  CU_ASSERT_FALSE(s.gap);
  CU_ASSERT_FALSE(s.odd);
  CU_ASSERT_EQUAL(s.slabs, st.nslabs);
  CU_ASSERT_EQUAL(s.folios, st.nfolios);
  CU_ASSERT_EQUAL(s.frames[QUIRE_WALK_SLAB] + s.frames[QUIRE_WALK_FOLIO], st.frames_used);
  CU_ASSERT_EQUAL(s.frames[QUIRE_WALK_OTHER], 0);
  CU_ASSERT_EQUAL(s.free_bytes, st.slab_free);
  CU_ASSERT_EQUAL(s.resident, st.frames_used + st.frames_dirty);
  CU_ASSERT_EQUAL(s.at, arena.base + st.frames_opened * FRAME_SIZE);
  for (int i = 0; i < OBJECTS; i++)
    if (i % 3 != 0) quire_free(objects[i]);
}

static int stop_at_third(const struct quire_walk_item *item, void *arg) {
  (void)item;
  return ++*(int *)arg == 3 ? 42 : 0;
}

static int allocate_item(const struct quire_walk_item *item, void *arg) {
  void ***list = arg;
  void **p = quire_malloc(item->frames * 1000);
  *p = *list;
  *list = p;
  return 0;
}

static void visitors_stop_and_allocate(void) {
  int seen = 0;
  void **list = NULL;
  void *big = quire_malloc(9 << 20);
  CU_ASSERT_EQUAL(quire_walk(stop_at_third, &seen), 42);
  CU_ASSERT_EQUAL(seen, 3);
  CU_ASSERT_EQUAL(quire_walk(allocate_item, &list), 0);
  CU_ASSERT_PTR_NOT_NULL(list);
  while (list != NULL) {
    void **next = *list;
    quire_free(list);
    list = next;
  }
  quire_free(big);
}

/* ---- peekers against allocation and free at full speed ---- */

enum { CHURNERS = 3, HELD = 256, LOOKS = 200000 };

static bool stop;
static void *churned[CHURNERS][HELD];

static void *churn(void *arg) {
  void **held = arg;
  uint32_t random = (uint32_t)(uintptr_t)held | 1;
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    random = random * 1664525 + 1013904223;
    unsigned i = random >> 24;
    void *old = __atomic_exchange_n(&held[i], NULL, __ATOMIC_RELAXED);
    quire_free(old);
    size_t size = (size_t)1 << (random >> 8) % 19;
    __atomic_store_n(&held[i], quire_malloc(size + (random >> 16) % size), __ATOMIC_RELEASE);
  }
  for (int i = 0; i < HELD; i++) quire_free(held[i]);
  return NULL;
}

static bool plausible(const void *p, const struct quire_description *d) {
  uintptr_t at = (uintptr_t)p, start = (uintptr_t)d->start;
  switch (d->kind) {
  case QUIRE_OBJECT:
    return start <= at && at < start + d->size && class_size(class_of(d->size)) == d->size &&
           d->slab_free <= d->slab_slots && d->slab_slots == size_classes[class_of(d->size)].nslots;
  case QUIRE_FOLIO:
    return start <= at && at < start + d->size && start % FRAME_SIZE == 0 && d->size > SLAB_MAX;
  case QUIRE_INTERNAL: /* a tail */
    return start <= at && at < start + d->size;
  case QUIRE_UNUSED:
    return d->start == NULL;
  default:
    return false;
  }
}

static void looking_at_what_changes(void) {
  pthread_t threads[CHURNERS];
  unsigned wrong = 0, gaps = 0, looked = 0;
  stop = false;
  for (int t = 0; t < CHURNERS; t++) pthread_create(&threads[t], NULL, churn, churned[t]);
  for (int i = 0; looked < LOOKS && i < 100 * LOOKS; i++) {
    char *p = __atomic_load_n(&churned[i % CHURNERS][i / CHURNERS % HELD], __ATOMIC_ACQUIRE);
    if (p == NULL) continue;
    struct quire_description d = describe(p);
    wrong += !plausible(p, &d);
    looked++;
    if (i % 2000 == 0) {
      struct sums s = {.at = arena.base};
      (void)quire_walk(sum_item, &s);
      gaps += s.gap || s.odd;
    }
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
  for (int t = 0; t < CHURNERS; t++) pthread_join(threads[t], NULL);
  CU_ASSERT(looked > LOOKS / 2);
  CU_ASSERT_EQUAL(wrong, 0);
  CU_ASSERT_EQUAL(gaps, 0);
  struct quire_stats st = now();
  CU_ASSERT(adds_up(&st));
}

/* ---- giving back ---- */

static void purge_gives_back(void) {
  enum { SIZE = 32 << 20, KEEP = 8 << 20 };
  char *p = quire_malloc(SIZE);
  memset(p, 1, SIZE);
  quire_free(p);
  struct quire_stats before = now(), st;
  CU_ASSERT(before.frames_dirty * FRAME_SIZE >= SIZE);
  size_t given = quire_purge(KEEP);
  st = now();
  CU_ASSERT(given > 0);
  /* Empty hugepages go back whole, so up to one more than asked for. */
  CU_ASSERT(st.frames_dirty * FRAME_SIZE > KEEP - HUGEPAGE_SIZE);
  CU_ASSERT_EQUAL(given, (st.discarded - before.discarded) * FRAME_SIZE);
  given = quire_purge(0);
  CU_ASSERT(given > KEEP - HUGEPAGE_SIZE);
  st = now();
  CU_ASSERT_EQUAL(st.frames_dirty, 0);
  CU_ASSERT_EQUAL(st.cached, 0);
  CU_ASSERT_EQUAL(st.transfer, 0);
  CU_ASSERT(adds_up(&st));
  CU_ASSERT_EQUAL(quire_purge(0), 0);
}

/* ---- for other processes ---- */

static void peek_header(void) {
  const struct quire_peek *p = &quire_peek;
  char *object = quire_malloc(200);
  CU_ASSERT_EQUAL(p->magic, QUIRE_PEEK_MAGIC);
  CU_ASSERT_EQUAL(memcmp((uint64_t[]){__builtin_bswap64(p->magic)}, "QUIREPK1", 8), 0);
  CU_ASSERT_EQUAL(p->version, QUIRE_PEEK_VERSION);
  CU_ASSERT_EQUAL(p->size, sizeof *p);
  CU_ASSERT_EQUAL(*(uint32_t *)(uintptr_t)p->opened_address, arena.opened);
  /* From its numbers alone to the object's slab. */
  uint64_t frame = ((uintptr_t)object - p->base) / p->frame_size;
  uint64_t word = ((uint64_t *)(uintptr_t)p->memmap)[frame];
  const char *slab = (const char *)(uintptr_t)(word >> 16);
  unsigned class = word >> 8 & 0xff;
  CU_ASSERT_EQUAL(word & 0xf, 2);
  CU_ASSERT_EQUAL(*(uint8_t *)(slab + p->slab_class), class);
  uint32_t first = *(uint32_t *)(slab + p->slab_pfn);
  CU_ASSERT(first <= frame && frame < first + *(uint16_t *)(slab + p->slab_nframes));
  CU_ASSERT(class < p->nclasses);
  uint32_t size = *(uint32_t *)(uintptr_t)(p->classes_address + class * p->class_stride);
  CU_ASSERT_EQUAL(size, quire_usable_size(object));
  size_t slot = ((uintptr_t)object - p->base - (size_t)first * p->frame_size) / size;
  CU_ASSERT(slot < *(uint16_t *)(slab + p->slab_nslots));
  CU_ASSERT_EQUAL(((uint64_t *)(slab + p->slab_free))[slot / 64] >> slot % 64 & 1, 0);
  quire_free(object);
}

static uint64_t placed(enum quire_peek_number number) {
  uint64_t value = 0;
  const struct quire_peek_place *place = &quire_peek.numbers[number];
  CU_ASSERT(place->size == 4 || place->size == 8);
  memcpy(&value, (const void *)(uintptr_t)place->address, place->size);
  return value;
}

/* Others read where they are counted what quire_stats tells here. */
static void peek_numbers(void) {
  struct quire_stats st;
  void *held[200];
  for (size_t i = 0; i < array_size(held); i++) held[i] = quire_malloc(i * i * 20);
  for (size_t i = 0; i < array_size(held); i += 3) quire_free(held[i]), held[i] = NULL;
  CU_ASSERT_EQUAL(quire_stats(&st), 0);
  for (unsigned i = 0; i < QUIRE_PEEK_NUMBERS; i++) (void)placed((enum quire_peek_number)i);
#define SAME(number, field) CU_ASSERT_EQUAL(placed(QUIRE_PEEK_##number), st.field)
  SAME(FRAMES_USED, frames_used);
  SAME(FRAMES_DIRTY, frames_dirty);
  SAME(FRAMES_OPENED, frames_opened);
  SAME(FRAMES_PEAK, frames_peak);
  SAME(HUGEPAGES, hugepages);
  SAME(HUGE_ADVISED, huge_advised);
  SAME(HUGE_FALLBACKS, huge_fallbacks);
  SAME(DISCARDS, discards);
  SAME(DISCARDED, discarded);
  SAME(DISCARD_FAILURES, discard_failures);
  SAME(MOVES, moves);
  SAME(HOLLOW, hollow);
  SAME(ZONE, zone);
  SAME(GUESTS, guests);
  SAME(FROZEN, frozen);
  SAME(MAPPINGS, mappings);
  SAME(FREEZES, freezes);
  SAME(MESH_STATE, mesh_state);
  SAME(COMPACTIONS, compactions);
  SAME(HOLLOWED, hollowed);
  SAME(MESHED, meshed);
  SAME(PINNED, pinned);
  SAME(FRAMES_PINNED, frames_pinned);
  SAME(FRAMES_POISONED, frames_poisoned);
  SAME(NFOLIOS, nfolios);
  SAME(NCACHES, ncaches);
  SAME(RECLAIMED, reclaimed);
#undef SAME
  CU_ASSERT_EQUAL(placed(QUIRE_PEEK_OWNED_FRAMES) * quire_peek.frame_size, st.owned_live);
  CU_ASSERT(placed(QUIRE_PEEK_NFOLIOS) > 0 && placed(QUIRE_PEEK_DESCRIPTOR_BYTES) > 0);
  CU_ASSERT_EQUAL(quire_peek.reserved, st.reserved);
  CU_ASSERT_EQUAL(quire_peek.page_size, st.page_size);
  for (size_t i = 0; i < array_size(held); i++) quire_free(held[i]);
}

static const struct unit_test tests[] = {
    {"before_the_heap", before_the_heap},
    {"live_is_what_is_held", live_is_what_is_held},
    {"folios_are_live", folios_are_live},
    {"every_class_adds_up", every_class_adds_up},
    {"threads_have_caches", threads_have_caches},
    {"metadata_is_small_and_whole", metadata_is_small_and_whole},
    {"cut_to_size", cut_to_size},
    {"largest_numbers_fit", largest_numbers_fit},
    {"numbers_for_people", numbers_for_people},
    {"json_is_json", json_is_json},
    {"prometheus_is_exposition", prometheus_is_exposition},
    {"prints_to_a_stream", prints_to_a_stream},
    {"describes_objects", describes_objects},
    {"describes_tails", describes_tails},
    {"describes_folios", describes_folios},
    {"describes_anything", describes_anything},
    {"walk_finds_what_is_counted", walk_finds_what_is_counted},
    {"visitors_stop_and_allocate", visitors_stop_and_allocate},
    {"looking_at_what_changes", looking_at_what_changes},
    {"purge_gives_back", purge_gives_back},
    {"peek_header", peek_header},
    {"peek_numbers", peek_numbers},
    {0},
};

int main(void) { return unit_main("stats", tests); }
