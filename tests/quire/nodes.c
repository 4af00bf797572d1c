/* A recording of one snapshot of a process, but for its nodes of memory, which are made up: few
 * machines have several.
 *
 *   nodes three|one|absurd PID FILE
 *
 * three: three nodes, with 410 frames in use; one: what a machine with one node says; absurd: more
 * nodes than there can be, as a file may say that comes from anywhere. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/quire/process.h"
#include "tools/quire/recording.h"

static void make_up(struct quire_stats *s, const char *what) {
  memset(s->node_frames, 0, sizeof s->node_frames);
  s->nodes = 1;
  s->numa_state = QUIRE_NUMA_ONE;
  if (strcmp(what, "one") == 0) return;
  s->numa_state = QUIRE_NUMA_KNOWN;
  s->nodes = strcmp(what, "absurd") == 0 ? UINT64_MAX : 3;
  s->frames_used = 410;
  s->node_frames[0] = 1;
  s->node_frames[1] = 2;
  s->node_frames[3] = 407;
  s->brought_folios = 7;
  s->brought = 5;
  s->brought_not = 11;
}

int main(int argc, char **argv) {
  static struct process process;
  static struct snapshot snapshot;
  struct recorder recorder;
  char error[PROCESS_ERROR_MAX];
  if (argc != 4) return 2;
  if (process_open(&process, (pid_t)atoi(argv[2]), error) != STATUS_OK ||
      process_snapshot(&process, &snapshot, error) != STATUS_OK) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  make_up(&snapshot.numbers.stats, argv[1]);
  FILE *file = fopen(argv[3], "wb");
  if (file == NULL || !recorder_open(&recorder, file, &snapshot.process) ||
      !recorder_add(&recorder, &snapshot)) {
    fprintf(stderr, "%s: %s\n", argv[3], strerror(errno));
    return 1;
  }
  recorder_close(&recorder);
  snapshot_free(&snapshot);
  return fclose(file) == 0 ? 0 : 1;
}
