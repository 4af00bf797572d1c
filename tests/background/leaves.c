/* Main leaves by pthread_exit; the process ends with its last other thread, with all output
 * written. */
#include <pthread.h>

#include "watch.h"

static void *worker(void *arg) {
  grow();
  shrink();
  grow();
  printf("worker done\n"); /* stays in the buffer until exit */
  return arg;
}

static void at_exit(void) { printf("at exit\n"); }

int main(void) {
  pthread_t thread;
  atexit(at_exit);
  grow();
  EXPECT(WAIT_UNTIL(background_tid() != 0));
  pthread_create(&thread, NULL, worker, NULL);
  pthread_detach(thread);
  pthread_exit(NULL);
}
