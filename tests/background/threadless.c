/* threadless [BYTES]: allocates that much in all, in blocks; no thread is ever seen. */
#include "watch.h"

int main(int argc, char **argv) {
  long bytes = argc > 1 ? atol(argv[1]) : 0;
  void **last = NULL;
  EXPECT(count_threads() == 1);
  for (long done = 0; done < bytes; done += 4096) {
    void **p = malloc(4096);
    *p = last;
    last = p;
  }
  EXPECT(count_threads() == 1);
  while (last != NULL) {
    void **next = *last;
    free(last);
    last = next;
  }
  EXPECT(count_threads() == 1);
  return 0;
}
