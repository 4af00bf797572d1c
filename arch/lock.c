#include "arch/lock.h"

#include "arch/sys.h"

enum {
  SPINS = 100,
  LOCK_SETS = 1 << RANK_TCACHE | 1 << RANK_TRANSFER | 1 << RANK_BIN | 1 << RANK_DESC
};

static _Thread_local tls_initial_exec uint16_t
    held[RANK_COUNT]; /* debug builds: locks held, by rank */

void lock_check_acquire(const struct lock *lock) {
  for (unsigned rank = lock->rank + 1; rank < RANK_COUNT; rank++) assert_always(held[rank] == 0);
  bool is_set = (LOCK_SETS >> lock->rank & 1) != 0;
  assert_always(is_set || held[lock->rank] == 0);
  held[lock->rank]++;
}

void lock_check_release(const struct lock *lock) {
  assert_always(held[lock->rank] > 0);
  held[lock->rank]--;
}

noinline void lock_wait(struct lock *lock) {
  for (int i = 0; i < SPINS; i++) {
    uint32_t expected = 0;
    if (load_relaxed(&lock->word) == 0 && cas_acquire(&lock->word, &expected, 1)) return;
    cpu_relax();
  }
  while (exchange_acquire(&lock->word, 2) != 0) sys_futex_wait(&lock->word, 2);
}

noinline void lock_wake(struct lock *lock) { sys_futex_wake(&lock->word, 1); }
