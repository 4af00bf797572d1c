// C++'s operators new and delete by [new.delete] of ISO C++20, in all their forms. Prints a line
// for each rule.
#include <malloc.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static const char *wrong;
static void *volatile sink; // what nobody looks at, the compiler need not allocate
static int failures;

#define EXPECT(...)                                                                                \
  do {                                                                                             \
    if (!(__VA_ARGS__) && wrong == nullptr) wrong = #__VA_ARGS__;                                  \
  } while (0)

static void tell(const char *name) {
  if (wrong == nullptr)
    std::printf("PASS %s\n", name);
  else
    std::printf("FAIL %s: %s\n", name, wrong);
  failures += wrong != nullptr;
  wrong = nullptr;
}

static std::size_t opaque(std::size_t n) {
  __asm__ volatile("" : "+r"(n));
  return n;
}

static const std::size_t sizes[] = {0,     1,     8,      16,      100,           4096,   65536,
                                    65537, 74000, 300000, 1 << 20, (1 << 20) + 1, 5 << 20};
static const auto impossible = static_cast<std::size_t>(PTRDIFF_MAX);

static void new_is_like_malloc() {
  for (std::size_t n : sizes) {
    void *p = ::operator new(opaque(n)), *q = ::operator new[](opaque(n));
    EXPECT(p != nullptr && q != nullptr && p != q);
    EXPECT(malloc_usable_size(p) >= n && malloc_usable_size(q) >= n);
    std::memset(p, 1, n);
    std::memset(q, 2, n);
    EXPECT(n == 0 || static_cast<char *>(p)[n - 1] == 1);
    ::operator delete(p);
    ::operator delete[](q);
  }
  ::operator delete(static_cast<void *>(nullptr));
  ::operator delete[](static_cast<void *>(nullptr));
  tell("new is like malloc");
}

static void sized_deletes() {
  for (std::size_t n : sizes) {
    ::operator delete(::operator new(opaque(n)), n);
    ::operator delete[](::operator new[](opaque(n)), n);
    ::operator delete(::operator new(opaque(n), std::nothrow), std::nothrow);
    ::operator delete[](::operator new[](opaque(n), std::nothrow), std::nothrow);
  }
  tell("sized and nothrow deletes");
}

static void aligned_forms() {
  for (std::size_t align = 1; align <= 1 << 21; align *= 2)
    for (std::size_t n : sizes) {
      auto a = static_cast<std::align_val_t>(align);
      void *all[] = {::operator new(opaque(n), a), ::operator new[](opaque(n), a),
                     ::operator new(opaque(n), a, std::nothrow),
                     ::operator new[](opaque(n), a, std::nothrow)};
      for (void *p : all) EXPECT(p != nullptr && reinterpret_cast<std::uintptr_t>(p) % align == 0);
      ::operator delete(all[0], a);
      ::operator delete[](all[1], n, a);
      ::operator delete(all[2], a, std::nothrow);
      ::operator delete[](all[3], a, std::nothrow);
      ::operator delete(::operator new(opaque(n), a), n, a);
    }
  tell("aligned forms");
}

template <typename F> static bool throws_bad_alloc(F f) {
  try {
    f();
  } catch (const std::bad_alloc &) {
    return true;
  }
  return false;
}

static void failure_throws() {
  auto a = static_cast<std::align_val_t>(64);
  EXPECT(throws_bad_alloc([] { sink = ::operator new(opaque(impossible)); }));
  EXPECT(throws_bad_alloc([] { sink = ::operator new[](opaque(impossible)); }));
  EXPECT(throws_bad_alloc([=] { sink = ::operator new(opaque(impossible), a); }));
  EXPECT(throws_bad_alloc([=] { sink = ::operator new[](opaque(impossible), a); }));
  EXPECT(throws_bad_alloc([] { sink = ::operator new(opaque(std::size_t(1) << 55)); }));
  EXPECT(::operator new(opaque(impossible), std::nothrow) == nullptr);
  EXPECT(::operator new[](opaque(impossible), std::nothrow) == nullptr);
  EXPECT(::operator new(opaque(impossible), a, std::nothrow) == nullptr);
  EXPECT(::operator new[](opaque(impossible), a, std::nothrow) == nullptr);
  tell("failure throws bad_alloc, or is nullptr");
}

static int handled;

static void give_up_at_third() {
  if (++handled == 3) std::set_new_handler(nullptr);
}

static void throw_itself() { throw std::bad_alloc(); }

struct own : std::bad_alloc {};
static void throw_own() { throw own(); }

static void handlers_are_called() {
  handled = 0;
  std::set_new_handler(give_up_at_third);
  EXPECT(throws_bad_alloc([] { sink = ::operator new(opaque(impossible)); }));
  EXPECT(handled == 3);
  handled = 0;
  std::set_new_handler(give_up_at_third);
  EXPECT(::operator new(opaque(impossible), std::nothrow) == nullptr);
  EXPECT(handled == 3);
  handled = 0;
  std::set_new_handler(give_up_at_third);
  EXPECT(::operator new(opaque(impossible), static_cast<std::align_val_t>(128), std::nothrow) ==
         nullptr);
  EXPECT(handled == 3);
  std::set_new_handler(nullptr);
  tell("new_handler is called until it gives up");
}

static void handlers_may_throw() {
  bool seen = false;
  std::set_new_handler(throw_own);
  try {
    sink = ::operator new(opaque(impossible));
  } catch (const own &) {
    seen = true;
  }
  EXPECT(seen);
  std::set_new_handler(nullptr);
  tell("new_handler may throw its own");
}

// [new.delete.single]: the nothrow form returns a null pointer if what it calls throws.
static void nothrow_catches() {
  std::set_new_handler(throw_itself);
  EXPECT(::operator new(opaque(impossible), std::nothrow) == nullptr);
  EXPECT(::operator new[](opaque(impossible), std::nothrow) == nullptr);
  EXPECT(::operator new(opaque(impossible), static_cast<std::align_val_t>(128), std::nothrow) ==
         nullptr);
  std::set_new_handler(nullptr);
  tell("nothrow forms catch what a handler throws");
}

static void *reserve;

static void free_reserve() {
  handled++;
  std::free(reserve);
  reserve = nullptr;
  std::set_new_handler(nullptr);
}

// A handler that makes room is why there are handlers: the request is tried again.
static void handlers_may_make_room() {
  std::vector<void *> held;
  std::size_t n = std::size_t(1) << 40;
  while (n > 1 << 20) { // takes what address space there is, and keeps one piece in reserve
    void *p = std::malloc(n);
    if (p != nullptr)
      held.push_back(p);
    else
      n /= 2;
  }
  EXPECT(!held.empty());
  if (!held.empty()) {
    reserve = held.front();
    handled = 0;
    std::set_new_handler(free_reserve);
    std::size_t size = malloc_usable_size(reserve);
    try {
      void *p = ::operator new(opaque(size / 2));
      EXPECT(p != nullptr && handled == 1);
      ::operator delete(p);
    } catch (const std::bad_alloc &) {
      EXPECT(!"the request is tried again");
    }
    std::set_new_handler(nullptr);
    for (void *p : held)
      if (p != held.front() || reserve != nullptr) std::free(p);
  }
  tell("new_handler may make room");
}

struct throwing {
  char bytes[200];
  throwing() { throw std::runtime_error("constructor"); }
};

static void constructors_may_throw() {
  int caught = 0;
  for (int i = 0; i < 1000; i++) try {
      delete new throwing;
    } catch (const std::runtime_error &) {
      caught++;
    }
  EXPECT(caught == 1000);
  tell("constructors may throw");
}

struct alignas(256) wide {
  char bytes[300];
};

struct base {
  virtual ~base() = default;
  long a = 1;
};
struct derived : base {
  long more[50] = {};
};

static void the_language_uses_them() {
  auto w = std::make_unique<wide[]>(10);
  EXPECT(reinterpret_cast<std::uintptr_t>(w.get()) % 256 == 0);
  std::unique_ptr<base> b = std::make_unique<derived>(); // deleted by the size of derived
  b.reset();
  std::vector<std::string> strings;
  for (int i = 0; i < 20000; i++)
    strings.push_back(std::string(static_cast<std::size_t>(i % 300), 'x'));
  std::thread([&] { strings.clear(); }).join();
  EXPECT(strings.empty());
  int thrown = 0;
  try {
    std::vector<char> v(opaque(impossible / 2));
  } catch (const std::exception &) {
    thrown++;
  }
  EXPECT(thrown == 1);
  tell("the language uses them");
}

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  new_is_like_malloc();
  sized_deletes();
  aligned_forms();
  failure_throws();
  handlers_are_called();
  handlers_may_throw();
  nothrow_catches();
  handlers_may_make_room();
  constructors_may_throw();
  the_language_uses_them();
  return failures != 0;
}
