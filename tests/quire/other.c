/* A program with a header of another version of quire's. */
#include <stdint.h>
#include <unistd.h>

__attribute__((visibility("default"))) struct {
  uint64_t magic;
  uint32_t version, size;
} quire_peek = {0x5155495245504b31ull, 99, 1000};

int main(void) {
  (void)!write(1, "ready\n", 6);
  pause();
  return (int)quire_peek.version;
}
