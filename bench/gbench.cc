/* The only C++ of the benchmarks: see gbench.h. */
#include "gbench.h"

#include <benchmark/benchmark.h>

static benchmark::State *native(gb_state *state) {
  return reinterpret_cast<benchmark::State *>(state);
}

static const benchmark::State *native(const gb_state *state) {
  return reinterpret_cast<const benchmark::State *>(state);
}

void gb_register(const gb_benchmark *benchmark) {
  gb_function *function = benchmark->function;
  const void *arg = benchmark->arg;
  auto *registered =
      benchmark::RegisterBenchmark(benchmark->name, [function, arg](benchmark::State &state) {
        function(reinterpret_cast<gb_state *>(&state), arg);
      });

  registered->UseRealTime();
  if (benchmark->threads > 1) registered->Threads(benchmark->threads);
  if (benchmark->iterations > 0)
    registered->Iterations(static_cast<benchmark::IterationCount>(benchmark->iterations));
}

bool gb_running(gb_state *state, uint64_t batch) {
  return native(state)->KeepRunningBatch(static_cast<benchmark::IterationCount>(batch));
}

void gb_pause(gb_state *state) { native(state)->PauseTiming(); }

void gb_resume(gb_state *state) { native(state)->ResumeTiming(); }

uint64_t gb_iterations(const gb_state *state) {
  return static_cast<uint64_t>(native(state)->iterations());
}

void gb_set_items(gb_state *state, uint64_t items) {
  native(state)->SetItemsProcessed(static_cast<int64_t>(items));
}

int gb_thread(const gb_state *state) { return native(state)->thread_index(); }

void gb_fail(gb_state *state, const char *why) { native(state)->SkipWithError(why); }

void gb_context(const char *key, const char *value) { benchmark::AddCustomContext(key, value); }

int gb_run(int argc, char **argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  size_t ran = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return ran > 0 ? 0 : 1;
}
