/* What another thread gives back: only such objects wait in a transfer area. */
#ifndef QUIRE_TESTS_UNIT_ELSEWHERE_H
#define QUIRE_TESTS_UNIT_ELSEWHERE_H

/* bin_flush in a thread of its own, as a consumer's does it. Fails the running test where no thread
 * is to be had. */
void flush_elsewhere(unsigned size_class, void *const *objects, unsigned n);

#endif
