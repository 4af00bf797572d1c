// Freed by a thread that has exited since, and again by this one.
// default: double free
// check: double free
#include "abuse.h"

static void *free_it(void *p) {
  free_first_half(MANY);
  free(p);
  return NULL;
}

int main(void) {
  pthread_t thread;
  stock_up(200, MANY);
  void *p = malloc(200);
  say(p);
  pthread_create(&thread, NULL, free_it, p);
  pthread_join(thread, NULL);
  free(p);
  free_second_half(MANY);
}
