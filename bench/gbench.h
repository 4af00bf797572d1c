/*
 * A C face for Google Benchmark. It registers plain C functions and lets them keep the timed loop
 * in C, so that what is timed is inlined there: the library is asked only once per batch of
 * iterations.
 *
 * A benchmark function looks like this:
 *
 *     static void pairs(struct gb_state *state, const void *arg)
 *     {
 *         while (gb_running(state, 1000))
 *             for (int i = 0; i < 1000; i++)
 *                 ...one iteration...
 *         gb_set_items(state, gb_iterations(state));
 *     }
 *
 * The library calls it several times with growing iteration counts until a run is long enough,
 * unless the registration fixes the count. With more than one thread it is called once in each of
 * them, at the same time; gb_running() is then a barrier at its first and its last call.
 */
#ifndef BENCH_GBENCH_H
#define BENCH_GBENCH_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gb_state;

typedef void gb_function(struct gb_state *state, const void *arg);

struct gb_benchmark {
  const char *name;
  gb_function *function;
  const void *arg;     /* handed to the function as it is */
  int threads;         /* 0 means 1 */
  uint64_t iterations; /* per thread; 0 lets the library choose */
};

/* `benchmark` is only read during the call, but its `arg` must stay valid until gb_run() returns.
 */
void gb_register(const struct gb_benchmark *benchmark);

/* Is there another batch of `batch` iterations to do? Times everything between its first true and
 * its false, in wall-clock time. */
bool gb_running(struct gb_state *state, uint64_t batch);

/* Stop and restart the clock of this thread. Each costs some 100 ns: only around long work. */
void gb_pause(struct gb_state *state);
void gb_resume(struct gb_state *state);

/* Iterations done so far by this thread, and the number of operations they stand for: the library
 * reports the sum over all threads as items_per_second. */
uint64_t gb_iterations(const struct gb_state *state);
void gb_set_items(struct gb_state *state, uint64_t items);

int gb_thread(const struct gb_state *state);
void gb_fail(struct gb_state *state, const char *why);

/* Adds one line to the context of the library's report. */
void gb_context(const char *key, const char *value);

/* Runs what the library's own options in argv ask for; returns the exit status. */
int gb_run(int argc, char **argv);

#ifdef __cplusplus
}
#endif

#endif
