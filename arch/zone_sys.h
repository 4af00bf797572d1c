/* What compaction asks of the kernel: a file of memory (the zone), mapping parts of it over the
 * arena, and taking pages away from under running threads without their noticing (the watch).
 *
 * All of it is reached through `zone_sys`, which tests replace as they do `sys`; conventions are
 * those of sys.h: 0 or a negative errno, errno untouched, nothing allocated. Descriptors belong to
 * the table of the thread that opened them. */
#ifndef QUIRE_ARCH_ZONE_SYS_H
#define QUIRE_ARCH_ZONE_SYS_H

#include "arch/compiler.h"

/* Where the right to watch comes from, best first. */
enum watch_source { WATCH_CALL, WATCH_DEVICE, WATCH_INHERITED, WATCH_SOURCES };

struct zone_sys_ops {
  /* A file of memory, `size` bytes long and empty, close-on-exec. A descriptor or negative errno.
   */
  int (*open)(size_t size);
  /* Maps its first `size` bytes at a multiple of a hugepage's size, for copying into them. -EPERM
   * where that would fill them. */
  int (*view)(int zone, size_t size, void **out);
  /* Puts what a part of the view shows over an open range, whose contents are lost: stores reach
   * the file. No forked child has the range. A failure changes nothing (so since Linux 6.12). */
  int (*share)(void *view, void *p, size_t length);
  /* The same as a private mapping, which forked children get: a store copies the page first. */
  int (*freeze)(int zone, void *p, size_t length, uint64_t offset);
  /* Does somebody in the kernel hold the file's list of mappings, so that share would wait? Tried
   * with a mapping of the view's first page that is gone again on return. */
  bool (*contended)(void *view);
  /* Gives a part of the file back; it reads as zeros. */
  int (*punch)(int zone, uint64_t offset, size_t length);
  /* A descriptor for the calls below, or negative errno: -EPERM, -ENOSYS, -ENOENT by the reason.
   * WATCH_INHERITED: `inherited` is a descriptor of the process for /dev/userfaultfd. */
  int (*watch_open)(enum watch_source source, int inherited);
  /* From now on who touches a page of the range that isn't there waits. Private memory only. */
  int (*watch)(int watch, void *p, size_t length);
  /* Ends that; who waits goes on. */
  int (*unwatch)(int watch, void *p, size_t length);
  /* Lets those go on that wait in the range, also where it is no longer watched. */
  int (*wake)(int watch, void *p, size_t length);
  /* Moves the pages of a range, atomically for whoever uses them, to a watched range that is
   * empty; pages that are not there stay so. -EBUSY: a page is pinned, or shared with a forked
   * process. After a failure each page is in one of the two ranges, and which isn't known: kernels
   * miscount (see linux_shift). -EEXIST of a single page: it is at the destination. */
  int (*shift)(int watch, void *from, void *to, size_t length);
  /* Has this page memory, or a place in swap: 0 or 1; negative errno where that can't be known. */
  int (*holds)(const void *page);
  /* Moves page tables onto another range, whatever is there. A failure changes nothing. */
  int (*replace)(void *from, void *to, size_t length);
  void (*close)(int descriptor);
  /* vm.max_map_count, 65530 where it can't be read. */
  size_t (*max_mappings)(void);
  /* Where threads of this process wait on futexes that are not private: the kernel finds these by
   * what lies behind an address, so they would never be woken once that is another page. Fills out
   * with up to `most` addresses; returns how many there are, UINT_MAX where that can't be known. */
  unsigned (*waiters)(uintptr_t *out, unsigned most);
  /* Kernel version as major * 1000 + minor. */
  unsigned (*kernel)(void);
};

extern const struct zone_sys_ops *zone_sys; /* the kernel's, unless a test put its own here */
extern const struct zone_sys_ops zone_sys_linux;

#endif
