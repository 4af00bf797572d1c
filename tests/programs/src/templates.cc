// Work for a C++ compiler: much of the standard library at once, and templates that unfold deep and
// wide.
#include <algorithm>
#include <any>
#include <array>
#include <charconv>
#include <chrono>
#include <complex>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <list>
#include <locale>
#include <map>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <queue>
#include <random>
#include <regex>
#include <set>
#include <shared_mutex>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <valarray>
#include <variant>
#include <vector>

namespace {

template <int N> struct Tag {
  using Map = std::map<std::string, std::vector<std::pair<int, std::array<double, N + 1>>>>;
  static std::size_t fill(std::size_t count) {
    Map map;
    std::unordered_map<std::string, std::optional<std::variant<int, double, std::string>>> other;
    for (std::size_t i = 0; i < count; i++) {
      std::string key = std::to_string(i * N % 97);
      map[key].emplace_back(static_cast<int>(i), std::array<double, N + 1>{});
      other[key] = i % 2 ? std::variant<int, double, std::string>(key)
                         : std::variant<int, double, std::string>(N * 1.5);
    }
    std::vector<std::string> keys;
    std::transform(map.begin(), map.end(), std::back_inserter(keys),
                   [](const auto &entry) { return entry.first; });
    std::stable_sort(keys.begin(), keys.end(), std::greater<>());
    std::size_t sum =
        std::accumulate(keys.begin(), keys.end(), std::size_t{0},
                        [](std::size_t s, const std::string &k) { return s + k.size(); });
    for (const auto &[key, value] : other) {
      if (value) sum += std::visit([](const auto &v) { return sizeof v; }, *value);
    }
    return sum;
  }
};

template <int... N> std::size_t fill_all(std::integer_sequence<int, N...>, std::size_t count) {
  return (Tag<N>::fill(count) + ...);
}

template <int N> constexpr unsigned long long fibonacci() {
  if constexpr (N < 2)
    return N;
  else
    return fibonacci<N - 1>() + fibonacci<N - 2>();
}

template <typename... T> auto wide(T... values) {
  return std::tuple_cat(std::make_tuple(values)...);
}

} // namespace

int main() {
  std::regex pattern("([a-z]+)-([0-9]+)(?:,|$)");
  std::string text = "quarto-4,octavo-8,folio-2";
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it)
    std::cout << (*it)[1] << ' ' << (*it)[2] << '\n';
  std::cout << fill_all(std::make_integer_sequence<int, 12>(), 50) << ' ' << fibonacci<80>()
            << '\n';
  auto tuple =
      wide(1, 2.0, 'c', std::string("d"), 5L, 6.0f, 7u, std::vector<int>{8}, std::list<int>{9});
  std::cout << std::tuple_size<decltype(tuple)>::value << '\n';
  std::pmr::monotonic_buffer_resource pool;
  std::pmr::vector<std::pmr::string> strings(&pool);
  for (int i = 0; i < 100; i++)
    strings.emplace_back("a string that does not fit into the object itself");
  std::cout << strings.size() << '\n';
}
