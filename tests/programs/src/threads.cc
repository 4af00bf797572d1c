// C++ with threads and exceptions, and every form of operator new and delete as the standard has
// them.
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "expect.h"

namespace {

// Not a constant to the compiler, so that it can neither warn nor leave the allocation out.
volatile std::size_t too_much = PTRDIFF_MAX - 4096;
volatile std::size_t none = 0;

bool is_aligned(const void *p, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(p) % alignment == 0;
}

template <typename Exception, typename Function> bool throws(Function function) {
  try {
    function();
  } catch (const Exception &) {
    return true;
  } catch (...) {
  }
  return false;
}

struct alignas(256) Aligned {
  char bytes[700];
};

void operators() {
  bool good = true;
  for (std::size_t size : {1, 8, 24, 100, 4096, 70000, 3000000}) {
    void *p = ::operator new(size);
    void *q = ::operator new[](size);
    void *r = ::operator new(size, std::nothrow);
    void *s = ::operator new[](size, std::nothrow);
    good = good && p && q && r && s && is_aligned(p, size < 16 ? 8 : 16);
    for (void *x : {p, q, r, s}) expect_fill(x, size, 1);
    for (void *x : {p, q, r, s}) good = good && expect_filled(x, size, 1);
    ::operator delete(p);
    ::operator delete[](q, size);
    ::operator delete(r, std::nothrow);
    ::operator delete[](s, std::nothrow);
    p = ::operator new(size);
    ::operator delete(p, size);
  }
  expect("new and delete", good);

  good = true;
  for (std::size_t alignment = 16; alignment <= 4 << 20; alignment *= 2) {
    auto a = static_cast<std::align_val_t>(alignment);
    for (std::size_t size : {std::size_t{1}, std::size_t{100}, alignment, alignment * 3 + 1}) {
      void *p = ::operator new(size, a);
      void *q = ::operator new[](size, a);
      void *r = ::operator new(size, a, std::nothrow);
      void *s = ::operator new[](size, a, std::nothrow);
      for (void *x : {p, q, r, s}) good = good && x && is_aligned(x, alignment);
      ::operator delete(p, a);
      ::operator delete[](q, size, a);
      ::operator delete(r, a, std::nothrow);
      ::operator delete[](s, a, std::nothrow);
      p = ::operator new(size, a);
      ::operator delete(p, size, a);
    }
  }
  std::vector<std::unique_ptr<Aligned>> objects;
  for (int i = 0; i < 500; i++) {
    objects.push_back(std::make_unique<Aligned>());
    good = good && is_aligned(objects.back().get(), alignof(Aligned));
  }
  std::unique_ptr<Aligned[]> array(new Aligned[37]);
  good = good && is_aligned(array.get(), alignof(Aligned));
  expect("aligned new and delete", good);

  void *first = ::operator new(none);
  void *second = ::operator new(none);
  expect("new of nothing is something of its own", first && second && first != second);
  ::operator delete(first);
  ::operator delete(second);
  ::operator delete(nullptr);
  ::operator delete[](nullptr, std::align_val_t{64});
}

int handler_calls;

void exhaustion() {
  auto huge = static_cast<std::size_t>(too_much);
  expect("new of too much throws", throws<std::bad_alloc>([&] { return ::operator new(huge); }));
  expect("new[] of too much throws",
         throws<std::bad_alloc>([&] { return ::operator new[](huge); }));
  expect("aligned new of too much throws",
         throws<std::bad_alloc>([&] { return ::operator new (huge, std::align_val_t{4096}); }));
  expect("nothrow new of too much is null", ::operator new(huge, std::nothrow) == nullptr);
  expect("nothrow new[] of too much is null", ::operator new[](huge, std::nothrow) == nullptr);
  expect("nothrow aligned new of too much is null",
         ::operator new (huge, std::align_val_t{64}, std::nothrow) == nullptr);
  expect("array length overflow throws",
         throws<std::bad_array_new_length>([&] { return new long[huge / 2]; }));
  expect("vector that cannot be", throws<std::exception>([&] { std::vector<char> v(huge); }));

  // The handler is called until it gives up by taking itself out.
  handler_calls = 0;
  std::set_new_handler([] {
    if (++handler_calls == 3) std::set_new_handler(nullptr);
  });
  expect("new_handler gives up",
         throws<std::bad_alloc>([&] { return ::operator new(huge); }) && handler_calls == 3);
}

void handler_that_throws() {
  auto huge = static_cast<std::size_t>(too_much);
  handler_calls = 0;
  std::set_new_handler([] {
    handler_calls++;
    throw std::bad_alloc();
  });
  expect("nothrow new catches what the handler throws",
         ::operator new(huge, std::nothrow) == nullptr &&handler_calls == 1);
  expect("aligned new calls the handler",
         throws<std::bad_alloc>([&] { return ::operator new (huge, std::align_val_t{128}); }) &&
             handler_calls == 2);
  std::set_new_handler(nullptr);
}

std::vector<std::unique_ptr<char[]>> reserve;

void real_exhaustion() {
  // Writable private memory is limited for this process; reservations without access are not.
  rlimit old{}, limit{};
  getrlimit(RLIMIT_DATA, &old);
  limit = old;
  limit.rlim_cur = 400u << 20;
  if (setrlimit(RLIMIT_DATA, &limit) != 0) {
    printf("SKIP out of memory: setrlimit refused\n");
    return;
  }
  std::vector<std::unique_ptr<char[]>> blocks;
  bool thrown = false;
  blocks.reserve(100000);
  try {
    for (int i = 0; i < 90000; i++) {
      blocks.emplace_back(new char[20000]);
      std::memset(blocks.back().get(), i, 20000);
    }
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  std::size_t reached = blocks.size();
  blocks.clear();
  expect("bad_alloc when memory is out", thrown && reached > 5000);

  // A handler that gives back memory lets the allocation through.
  handler_calls = 0;
  thrown = false;
  for (int i = 0; i < 3000; i++) {
    reserve.emplace_back(new char[20000]);
    std::memset(reserve.back().get(), i, 20000);
  }
  std::set_new_handler([] {
    handler_calls++;
    if (reserve.empty()) throw std::bad_alloc();
    reserve.clear();
  });
  try {
    for (int i = 0; i < 90000 && !handler_calls; i++) {
      blocks.emplace_back(new char[20000]);
      std::memset(blocks.back().get(), i, 20000);
    }
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  std::set_new_handler(nullptr);
  expect("handler gave memory back", handler_calls == 1 && !thrown && reserve.empty());
  blocks.clear();
  setrlimit(RLIMIT_DATA, &old);
  expect("all is well afterwards", expect_churn(20000, 3));
}

template <typename T> class Queue {
public:
  void put(T value) {
    std::lock_guard<std::mutex> hold(lock_);
    values_.push_back(std::move(value));
    changed_.notify_one();
  }
  T take() {
    std::unique_lock<std::mutex> hold(lock_);
    changed_.wait(hold, [&] { return !values_.empty(); });
    T value = std::move(values_.front());
    values_.pop_front();
    return value;
  }

private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<T> values_;
};

struct Message {
  std::string text;
  std::map<int, std::string> parts;
  std::exception_ptr error;
};

struct Trouble : std::runtime_error {
  Trouble(int depth, std::string all)
      : std::runtime_error(all), text(std::move(all)), level(depth) {}
  std::string text;
  int level;
};

void deep(int depth, const std::string &text) {
  std::vector<std::string> local(3, text + std::to_string(depth));
  if (depth == 0) throw Trouble(depth, text + " from the bottom of a deep stack");
  try {
    deep(depth - 1, text);
  } catch (...) {
    if (depth % 5 == 0) std::throw_with_nested(Trouble(depth, text));
    throw;
  }
}

int unwrap(const std::exception &e) {
  try {
    std::rethrow_if_nested(e);
  } catch (const std::exception &inner) {
    return 1 + unwrap(inner);
  }
  return 1;
}

thread_local std::unordered_map<std::string, std::shared_ptr<std::string>> local_table;

void threads() {
  enum { PRODUCERS = 4, CONSUMERS = 4, EACH = 3000, WAVES = 5 };
  std::atomic<long> sum{0}, caught{0}, wrong{0};
  for (int wave = 0; wave < WAVES; wave++) {
    Queue<std::unique_ptr<Message>> queue;
    std::vector<std::thread> all;
    for (int p = 0; p < PRODUCERS; p++) {
      all.emplace_back([&, p] {
        for (int i = 0; i < EACH; i++) {
          auto message = std::make_unique<Message>();
          message->text =
              std::string(static_cast<std::size_t>(i % 500), static_cast<char>('a' + p));
          for (int k = 0; k < i % 7; k++) message->parts[k] = message->text + std::to_string(k);
          if (i % 10 == 0) {
            try {
              deep(i % 23, message->text);
            } catch (...) {
              message->error = std::current_exception();
            }
          }
          local_table[std::to_string(i % 50)] = std::make_shared<std::string>(message->text);
          queue.put(std::move(message));
        }
        queue.put(nullptr);
      });
    }
    for (int c = 0; c < CONSUMERS; c++) {
      all.emplace_back([&] {
        while (auto message = queue.take()) {
          sum += static_cast<long>(message->text.size() + message->parts.size());
          for (auto &[k, part] : message->parts)
            if (part != message->text + std::to_string(k)) wrong++;
          if (message->error) {
            try {
              std::rethrow_exception(message->error);
            } catch (const Trouble &trouble) {
              caught += unwrap(trouble) > 0;
              if (trouble.text.compare(0, message->text.size(), message->text) != 0) wrong++;
            }
          }
        }
      });
    }
    for (auto &thread : all) thread.join();
  }
  long expected = 0;
  for (int i = 0; i < EACH; i++) expected += i % 500 + i % 7;
  expect("objects made in one thread and freed in another",
         sum == expected * PRODUCERS * WAVES && wrong == 0);
  expect("exceptions thrown in one thread and caught in another",
         caught == long{EACH} / 10 * PRODUCERS * WAVES);

  std::vector<std::future<std::string>> futures;
  for (int i = 0; i < 200; i++)
    futures.push_back(std::async(std::launch::async, [i] {
      std::ostringstream out;
      for (int k = 0; k < 100; k++) out << i * k << ' ';
      if (i % 2) throw std::runtime_error(out.str());
      return out.str();
    }));
  int values = 0, errors = 0;
  for (auto &future : futures) {
    try {
      values += !future.get().empty();
    } catch (const std::runtime_error &error) {
      errors += std::string(error.what()).size() > 100;
    }
  }
  expect("futures", values == 100 && errors == 100);
}

} // namespace

int main() {
  operators();
  exhaustion();
  threads();
  real_exhaustion();
  handler_that_throws();
  return expect_failures != 0;
}
