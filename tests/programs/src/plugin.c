// A plugin: allocates in its constructor and for its threads, hands out memory that outlives it.
#include <stdlib.h>
#include <string.h>

static char *mine;
static _Thread_local char *of_thread;

__attribute__((constructor)) static void arrive(void) {
  mine = malloc(5000);
  strcpy(mine, "made by the constructor");
}

__attribute__((destructor)) static void leave(void) { free(mine); }

char *plugin_make(size_t size) {
  free(of_thread);
  /* Not strdup: bound deep, its memory would come from the preloaded malloc and go to libc's free, which no
   * preloaded malloc survives. */
  of_thread = malloc(strlen(mine) + 1);
  if (of_thread) strcpy(of_thread, mine);
  char *made = calloc(1, size);
  for (size_t i = 0; made && i < size; i++) made[i] = (char)(i * 7 + 5);
  return made;
}

char *plugin_grow(char *block, size_t size) { return realloc(block, size); }

void plugin_end_thread(void) {
  free(of_thread);
  of_thread = NULL;
}
