// Plugins that come and go while threads allocate; what a plugin made is freed after it is gone.
// And memory that comes from libc's own malloc, by a plugin bound to libc alone (RTLD_DEEPBIND) or
// by its internal names: it must go back there.
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "expect.h"

void *__libc_malloc(size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static const char *path;
static atomic_int bad;

// Loads, uses and unloads the plugin; frees what it made last.
static void *load_often(void *rounds) {
  for (size_t i = 0; i < (size_t)rounds; i++) {
    void *plugin = dlopen(path, i % 2 ? RTLD_NOW : RTLD_LAZY);
    if (!plugin) {
      fprintf(stderr, "%s\n", dlerror());
      atomic_fetch_add(&bad, 1);
      return NULL;
    }
    char *(*make)(size_t) = (char *(*)(size_t))dlsym(plugin, "plugin_make");
    char *(*grow)(char *, size_t) = (char *(*)(char *, size_t))dlsym(plugin, "plugin_grow");
    void (*end_thread)(void) = (void (*)(void))dlsym(plugin, "plugin_end_thread");
    size_t size = 10 + i * 37 % 200000;
    char *block = make(size);
    block = grow(block, size * 2);
    end_thread();
    if (dlclose(plugin)) atomic_fetch_add(&bad, 1);
    if (!block || !expect_filled(block, size, 5)) atomic_fetch_add(&bad, 1);
    free(block);
    if (dlopen("/nonexistent/plugin.so", RTLD_NOW) || !dlerror()) atomic_fetch_add(&bad, 1);
  }
  return NULL;
}

static void *churn(void *seed) {
  for (unsigned i = 0; i < 20; i++) {
    if (!expect_churn(3000, (uintptr_t)seed + i)) atomic_fetch_add(&bad, 1);
  }
  return NULL;
}

static void *foreign(void *unused) {
  (void)unused;
  for (unsigned round = 0; round < 50; round++) {
    for (size_t size = 1; size < 5000000; size = size * 3 + 1) {
      char *block = __libc_malloc(size);
      expect_fill(block, size, 5);
      if (malloc_usable_size(block) < size) atomic_fetch_add(&bad, 1);
      block = realloc(block, size + size / 2 + 1);
      if (!block || !expect_filled(block, size, 5)) atomic_fetch_add(&bad, 1);
      free(block);
      errno = 1234;
      free(__libc_malloc(size));
      if (errno != 1234) atomic_fetch_add(&bad, 1);
      free(__libc_memalign(64, size));
    }
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  path = argv[1];
  size_t rounds = (size_t)atoi(argv[2]);
  pthread_t threads[6];
  for (size_t i = 0; i < 3; i++) pthread_create(&threads[i], NULL, load_often, (void *)rounds);
  for (size_t i = 3; i < 6; i++) pthread_create(&threads[i], NULL, churn, (void *)i);
  for (size_t i = 0; i < 6; i++) pthread_join(threads[i], NULL);
  expect("plugins come and go", atomic_load(&bad) == 0);

  atomic_store(&bad, 0);
  foreign(NULL);
  expect("libc's own memory goes back to it", atomic_load(&bad) == 0);
  for (size_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, foreign, NULL);
  for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  expect("libc's own memory goes back to it from threads", atomic_load(&bad) == 0);

  // Bound deep, the plugin calls libc's malloc and free; its blocks are freed here.
  void *plugin = dlopen(path, RTLD_NOW | RTLD_DEEPBIND);
  char *(*make)(size_t) = plugin ? (char *(*)(size_t))dlsym(plugin, "plugin_make") : NULL;
  int good = make != NULL;
  for (size_t i = 0; i < 2000 && good; i++) {
    size_t size = 1 + i * 131 % 300000;
    char *block = make(size);
    good = block && expect_filled(block, size, 5) && malloc_usable_size(block) >= size;
    if (i % 2)
      free(block);
    else
      free(realloc(block, size * 2));
  }
  expect("a plugin bound to libc's malloc", good);
  return expect_failures != 0;
}
