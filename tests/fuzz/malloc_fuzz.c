/* libFuzzer's target: bytes are read as a sequence of calls, contents and consistency are checked.
 * The system is the fake of the unit tests on real memory, so that bytes also decide what the
 * kernel refuses and what time it is.
 *
 * A call is one byte for what (high half) and which object (low half, and two bits of the next),
 * then what it needs. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc/tcache.h"
#include "arch/sys.h"
#include "page/frames.h"
#include "quire.h"
#include "slab/bin.h"
#include "tests/unit/fake.h"

enum { OBJECTS = 64, MARKS = 64, MOST = 48 << 20 };

struct input {
  const uint8_t *at, *end;
};

static struct object {
  unsigned char *p;
  size_t size;
  unsigned char tag;
  bool aligned; /* its size alone doesn't tell its class: no sized free */
} objects[OBJECTS];

static bool refusing;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "malloc_fuzz: %s\n", what);
  abort();
}

static unsigned byte(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

/* 1 to 3 bytes: small numbers exactly, large ones by their magnitude and a few bits. */
static size_t number(struct input *in) {
  unsigned b = byte(in);
  if (b < 128) return b;
  if (b < 224) return (b - 128) * 64 + byte(in) % 64;
  size_t n = (size_t)byte(in) << (b - 224) % 26;
  return n + byte(in) % 16 - 8;
}

/* A few bytes of it, spread from end to end. */
static size_t spot(const struct object *o, unsigned i) {
  return (size_t)((unsigned __int128)(o->size - 1) * i / (MARKS - 1));
}

static void fill(const struct object *o) {
  for (unsigned i = 0; o->size > 0 && i < MARKS; i++) o->p[spot(o, i)] = o->tag;
}

static void check_up_to(const struct object *o, size_t size) {
  for (unsigned i = 0; o->size > 0 && i < MARKS; i++)
    expect(spot(o, i) >= size || o->p[spot(o, i)] == o->tag, "contents changed");
}

static void check(const struct object *o) { check_up_to(o, o->size); }

static void placed(struct object *o, void *p, size_t size, size_t align, unsigned tag) {
  if (p == NULL) {
    expect(errno == ENOMEM, "refused without ENOMEM");
    expect(refusing || size > MOST, "refused for no reason");
    return;
  }
  expect((uintptr_t)p % align == 0, "misaligned");
  expect(quire_usable_size(p) >= size, "too small");
  *o = (struct object){p, size, (unsigned char)tag, o->aligned};
  fill(o);
}

static void release(struct object *o, unsigned how) {
  if (o->p != NULL) check(o);
  if (how % 4 == 0 && o->p != NULL && !o->aligned)
    quire_free_sized(o->p, o->size);
  else
    quire_free(o->p);
  *o = (struct object){0};
}

static void allocate(struct input *in, struct object *o, unsigned how) {
  size_t size = number(in), align = size >= 16 ? 16 : 8;
  void *p;
  errno = 0;
  switch (how % 3) {
  case 0:
    p = quire_malloc(size);
    break;
  case 1:
    p = quire_calloc(1, size);
    for (size_t i = 0; p != NULL && i<size; i += size> 4096 ? 509 : 1)
      expect(((unsigned char *)p)[i] == 0, "calloc gave what is not zero");
    break;
  default:
    p = quire_aligned_alloc(align = (size_t)1 << byte(in) % 23, size);
    break;
  }
  o->aligned = how % 3 == 2;
  placed(o, p, size, align, how + 1);
}

static void resize(struct input *in, struct object *o, unsigned tag) {
  size_t size = number(in), old = o->size;
  if (size == 0 || o->p == NULL) return;
  check(o);
  errno = 0;
  unsigned char *p = quire_realloc(o->p, size);
  if (p != NULL) {
    o->p = p;
    check_up_to(o, size < old ? size : old);
  } else {
    check(o);
  }
  placed(o, p, size, size >= 16 ? 16 : 8, tag);
}

static void *free_elsewhere(void *arg) {
  release(arg, 1);
  void *p = quire_malloc(100);
  quire_free(p);
  return NULL;
}

static void in_other_thread(struct object *o) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, free_elsewhere, o) == 0) pthread_join(thread, NULL);
}

static void describe(const struct object *o, size_t offset) {
  struct quire_description d;
  if (o->p == NULL || o->size == 0) return;
  quire_describe(o->p + offset % o->size, &d);
  expect(d.start == o->p, "described another object");
  expect(d.size >= o->size && d.allocated, "described it wrongly");
}

static void consistent(void) {
  expect(frames_consistent(), "frames are inconsistent");
  expect(tcache_consistent(), "thread caches are inconsistent");
  for (unsigned c = 0; c < SLAB_CLASSES; c++) expect(bin_consistent(c), "a bin is inconsistent");
}

static void system_does(struct input *in) {
  static const enum fake_call calls[] = {FAKE_OPEN_WRITE,  FAKE_DISCARD,  FAKE_MOVE,
                                         FAKE_ADVISE_HUGE, FAKE_POPULATE, FAKE_REFRESH};
  unsigned b = byte(in);
  enum fake_call call = calls[b % (sizeof calls / sizeof calls[0])];
  fake.refuse[call] = b & 0x80 ? -ENOMEM : 0;
  refusing = fake.refuse[FAKE_OPEN_WRITE] != 0;
}

static void step(struct input *in) {
  unsigned b = byte(in);
  struct object *o = &objects[(b & 15) * 4 + (in->at < in->end ? *in->at & 3 : 0)];
  switch (b >> 4) {
  case 0:
  case 1:
  case 2:
  case 3:
  case 4:
  case 5:
    release(o, b);
    allocate(in, o, b);
    break;
  case 6:
  case 7:
    resize(in, o, b);
    break;
  case 8:
  case 9:
    release(o, b);
    break;
  case 10:
    in_other_thread(o);
    break;
  case 11:
    describe(o, number(in));
    break;
  case 12:
    system_does(in);
    break;
  case 13:
    fake.now += number(in);
    (void)frames_decay(fake.now);
    break;
  case 14:
    if (b & 1) tcache_flush();
    if (b & 2) (void)bin_trim(b & 4);
    if (b & 8) (void)frames_purge(number(in));
    break;
  default:
    consistent();
    break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static bool begun;
  struct input in = {data, data + size};
  if (!begun) {
    begun = true;
    fake_install();
  }
  memset(fake.refuse, 0, sizeof fake.refuse);
  refusing = false;
  heap_configure((enum frames_huge)(byte(&in) % 3), 4 << 20, 1000);
  while (in.at < in.end) step(&in);
  for (int i = 0; i < OBJECTS; i++) release(&objects[i], 1);
  memset(fake.refuse, 0, sizeof fake.refuse);
  tcache_flush();
  (void)bin_trim(true);
  consistent();
  expect(frames_used() == 0, "frames are left over");
  /* What one input leaves must not decide about the next. */
  (void)frames_purge(0);
  return 0;
}
