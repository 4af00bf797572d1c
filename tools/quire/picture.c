#include "tools/quire/picture.h"

#include <stdlib.h>
#include <string.h>

enum { FRAME_SIZE = 4096 };

/* ---- kinds ---- */

static const struct {
  const char *name, *text;
} kinds[PICTURE_KINDS] = {
    [PICTURE_UNUSED] = {"unused", "never used"},
    [PICTURE_DISCARDED] = {"discarded", "free, given back"},
    [PICTURE_FREE] = {"free", "free, still held"},
    [PICTURE_SLAB] = {"slab", "slab"},
    [PICTURE_HOLLOW] = {"hollow", "hollow in a slab"},
    [PICTURE_HOST] = {"host", "host"},
    [PICTURE_GUEST] = {"guest", "guest"},
    [PICTURE_FOLIO] = {"folio", "folio"},
    [PICTURE_GUARD] = {"guard", "guard"},
    [PICTURE_OWNED] = {"owned", "program's own"},
    [PICTURE_META] = {"meta", "metadata"},
    [PICTURE_POISON] = {"poison", "failed memory"},
    [PICTURE_RESERVED] = {"reserved", "set aside"},
    [PICTURE_UNSURE] = {"unsure", "was changing"},
};

const char *picture_kind_name(unsigned kind) {
  return kind < PICTURE_KINDS ? kinds[kind].name : "unknown";
}

const char *picture_kind_text(unsigned kind) {
  return kind < PICTURE_KINDS ? kinds[kind].text : "unknown";
}

const char *picture_mark_name(unsigned index) {
  static const char *const names[PICTURE_MARKS] = {"pinned", "frozen", "isolated"};
  return index < PICTURE_MARKS ? names[index] : "unknown";
}

unsigned picture_level(uint8_t fill) {
  if (fill == 0) return 0;
  return fill == 255 ? PICTURE_LEVELS - 1 : 1 + fill * (PICTURE_LEVELS - 2u) / 255;
}

static enum picture_kind kind_of(const struct snapshot_frame *f) {
  if (f->flags & SNAPSHOT_UNSURE) return PICTURE_UNSURE;
  switch (f->type) {
  case SNAPSHOT_NONE:
  case SNAPSHOT_FREE:
    if (f->flags & SNAPSHOT_RESIDENT) return PICTURE_FREE;
    return f->type == SNAPSHOT_NONE ? PICTURE_UNUSED : PICTURE_DISCARDED;
  case SNAPSHOT_SLAB:
    if (f->flags & SNAPSHOT_GUEST) return PICTURE_GUEST;
    if (f->flags & SNAPSHOT_HOLE) return PICTURE_HOLLOW;
    return f->guests > 0 ? PICTURE_HOST : PICTURE_SLAB;
  case SNAPSHOT_FOLIO:
    return f->flags & SNAPSHOT_GUARD ? PICTURE_GUARD : PICTURE_FOLIO;
  case SNAPSHOT_META:
    return PICTURE_META;
  case SNAPSHOT_OWNED:
    return PICTURE_OWNED;
  case SNAPSHOT_POISON:
    return PICTURE_POISON;
  default:
    return PICTURE_RESERVED;
  }
}

struct picture_cell picture_cell(const struct snapshot_frame *f) {
  struct picture_cell cell = {.kind = kind_of(f)};
  bool shaded = cell.kind == PICTURE_SLAB || cell.kind == PICTURE_HOST;
  cell.level = shaded ? (uint8_t)picture_level(f->fill) : PICTURE_LEVELS - 1;
  if (f->flags & SNAPSHOT_PINNED) cell.marks |= PICTURE_PINNED;
  if (f->flags & SNAPSHOT_FROZEN) cell.marks |= PICTURE_FROZEN;
  if (f->flags & SNAPSHOT_ISOLATED) cell.marks |= PICTURE_ISOLATED;
  return cell;
}

/* ---- pictures ---- */

static void count(struct picture *out, const struct snapshot_frame *f, struct picture_cell cell) {
  out->kinds[cell.kind]++;
  for (unsigned m = 0; m < PICTURE_MARKS; m++) out->marks[m] += cell.marks >> m & 1;
  out->held += (f->flags & (SNAPSHOT_RESIDENT | SNAPSHOT_GUEST)) == SNAPSHOT_RESIDENT;
}

bool picture_make(const struct snapshot *s, struct picture *out) {
  *out = (struct picture){.frames = s->nframes, .live = s->numbers.stats.live};
  out->cells = malloc((size_t)s->nframes * sizeof *out->cells + 1);
  if (out->cells == NULL) return false;
  for (uint32_t i = 0; i < s->nframes; i++) {
    out->cells[i] = picture_cell(&s->frames[i]);
    count(out, &s->frames[i], out->cells[i]);
    if (out->cells[i].kind > PICTURE_DISCARDED) out->nhugepages = i / HUGEPAGE_CELLS + 1;
  }
  for (uint32_t i = 0; i < s->nhugepages; i++) out->hugepages += s->hugepages[i].used > 0;
  if (out->nhugepages == 0 && s->nhugepages > 0) out->nhugepages = 1;
  out->ncells = out->nhugepages * HUGEPAGE_CELLS;
  return true;
}

void picture_free(struct picture *picture) {
  free(picture->cells);
  *picture = (struct picture){0};
}

/* ---- names ---- */

/* How long a character of UTF-8 is; 0 if it is none. */
static size_t character(const unsigned char *text) {
  size_t n = text[0] < 0x80   ? 1
             : text[0] < 0xc2 ? 0
             : text[0] < 0xe0 ? 2
             : text[0] < 0xf0 ? 3
             : text[0] < 0xf5 ? 4
                              : 0;
  for (size_t i = 1; i < n; i++)
    if ((text[i] & 0xc0) != 0x80) return 0;
  bool wrong = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
               (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f) ||
               (text[0] == 0xc2 && text[1] < 0xa0); /* the last: control characters again */
  return wrong ? 0 : n;
}

static void clean(char *name, size_t size) {
  unsigned char *text = (unsigned char *)name;
  name[size - 1] = 0;
  for (size_t i = 0; text[i] != 0;) {
    size_t n = text[i] < 0x20 || text[i] == 0x7f ? 0 : character(text + i);
    if (n == 0) text[i] = '?';
    i += n == 0 ? 1 : n;
  }
}

void picture_clean_names(struct snapshot_process *process) {
  clean(process->comm, sizeof process->comm);
  clean(process->cmdline, sizeof process->cmdline);
}

/* ---- in words ---- */

struct text {
  char *out;
  size_t size, used;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(t->out + t->used, t->size - t->used, format, args);
  va_end(args);
  if (n > 0) t->used = t->used + (size_t)n < t->size ? t->used + (size_t)n : t->size - 1;
}

static void say_owner(struct text *t, const struct snapshot *s, const struct snapshot_frame *f) {
  if (f->run == SNAPSHOT_NO_RUN) return;
  const struct snapshot_run *run = &s->runs[f->run];
  if (run->type == SNAPSHOT_SLAB)
    say(t, " of %llu B, %u of %u free", (unsigned long long)run->object_size, run->free_slots,
        run->slots);
  else if (run->type == SNAPSHOT_FOLIO || run->type == SNAPSHOT_OWNED)
    say(t, " of %llu KiB", (unsigned long long)run->object_size / 1024);
  if (run->blocked > 0) say(t, ", %u taken by guests", run->blocked);
}

void picture_describe(const struct snapshot *s, uint32_t i, char *out, size_t size) {
  struct text t = {out, size, 0};
  if (size == 0) return;
  *out = 0;
  if (i >= s->nframes) return;
  const struct snapshot_frame *f = &s->frames[i];
  struct picture_cell cell = picture_cell(f);
  say(&t, "frame %u 0x%llx: ", i, (unsigned long long)s->base + (uint64_t)i * FRAME_SIZE);
  say(&t, "%s", f->type == SNAPSHOT_SLAB ? "slab" : kinds[cell.kind].text);
  say_owner(&t, s, f);
  if (cell.kind == PICTURE_HOST) say(&t, ", host of %u", f->guests);
  if (cell.kind == PICTURE_GUEST) say(&t, ", guest of frame %u", f->memory);
  if (cell.kind == PICTURE_HOLLOW) say(&t, ", discarded");
  for (unsigned m = 0; m < PICTURE_MARKS; m++)
    if (cell.marks >> m & 1) say(&t, ", %s", picture_mark_name(m));
  if (f->flags & SNAPSHOT_HUGE) say(&t, ", hugepage");
}

json_t *picture_json(const struct snapshot *s, const struct picture *p) {
  json_t *frames = json_object(), *marks = json_object();
  json_int_t runs[SNAPSHOT_TYPES] = {0}, slots = 0, free_slots = 0;
  for (uint32_t i = 0; i < s->nruns; i++) {
    runs[s->runs[i].type]++;
    slots += s->runs[i].slots;
    free_slots += s->runs[i].free_slots;
  }
  for (unsigned k = 0; k < PICTURE_KINDS; k++)
    json_object_set_new(frames, kinds[k].name, json_integer((json_int_t)p->kinds[k]));
  for (unsigned m = 0; m < PICTURE_MARKS; m++)
    json_object_set_new(marks, picture_mark_name(m), json_integer((json_int_t)p->marks[m]));
  return json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, "
                   "s:{s:I, s:I, s:I, s:I, s:I}}",
                   "pid", (json_int_t)s->process.pid, "name", s->process.comm, "quire",
                   s->numbers.library, "time_ns", (json_int_t)s->process.time_ns, "base",
                   (json_int_t)s->base, "frame_size", (json_int_t)FRAME_SIZE, "frames",
                   (json_int_t)s->nframes, "hugepages_used", (json_int_t)p->hugepages,
                   "frames_held", (json_int_t)p->held, "live", (json_int_t)p->live, "took_us",
                   (json_int_t)s->took_us, "kinds", frames, "marks", marks, "runs", "slabs",
                   runs[SNAPSHOT_SLAB], "slots", slots, "free_slots", free_slots, "folios",
                   runs[SNAPSHOT_FOLIO], "owned", runs[SNAPSHOT_OWNED]);
}
