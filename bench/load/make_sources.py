"""Writes the sources that the compilers are timed on.

usage: make_sources.py DIRECTORY FUNCTIONS

big.c is C that looks like a program's: structures, loops, switches, calls. heavy.ii is what the C++
standard library's headers look like once preprocessed, with some templates put to use.
"""
import os
import subprocess
import sys

FUNCTION = """
struct record{n} {{
	struct record{n} *next;
	unsigned key, weight[{width}];
	char name[{name}];
}};

static unsigned mix{n}(struct record{n} *list, unsigned seed)
{{
	unsigned total = seed;

	for (struct record{n} *r = list; r; r = r->next) {{
		for (unsigned i = 0; i < {width}; i++) {{
			switch ((r->weight[i] ^ total) % {cases}) {{
{switch}
			default:
				total += r->weight[i] >> {shift};
			}}
		}}
		if (r->key % {mod} == 3 && r->name[0] == 'a' + {letter})
			total ^= r->key << {shift};
	}}
	return total;
}}

unsigned visit{n}(const char *text, unsigned length)
{{
	struct record{n} chain[4] = {{{{0}}}};

	for (unsigned i = 0; i < length; i++) {{
		struct record{n} *r = &chain[text[i] & 3];
		r->key = r->key * {mul}u + (unsigned char)text[i];
		r->weight[i % {width}] += r->key;
		r->name[i % {name}] = text[i];
		r->next = r == chain ? 0 : chain;
	}}
	return mix{n}(&chain[3], length){call};
}}
"""

HEAVY = """
#include <bits/stdc++.h>

template <int N> struct Table {
	std::map<std::string, std::vector<std::pair<int, std::string>>> rows;
	std::unordered_map<int, std::function<int(int)>> actions;
	std::array<double, N + 1> sums{};

	void add(const std::string &key, int value)
	{
		rows[key].emplace_back(value + N, key + std::to_string(value));
		actions.emplace(value, [this, value](int x) { return x * value + N + int(rows.size()); });
		sums[value % (N + 1)] += value;
	}
	int total(std::regex &pattern)
	{
		int sum = 0;
		for (auto &[key, list] : rows) {
			std::sort(list.begin(), list.end(),
				  [](auto &a, auto &b) { return a.second < b.second; });
			for (auto &[value, text] : list)
				if (std::regex_search(text, pattern))
					sum += value + actions.at(value - N)(value);
		}
		return sum + int(std::accumulate(sums.begin(), sums.end(), 0.0));
	}
};

template <int N> int use()
{
	Table<N> table;
	std::regex pattern("a+[0-9]" + std::to_string(N));
	std::ostringstream out;
	for (int i = 0; i < N * 10; i++)
		table.add(std::string(i % 7, 'a'), i);
	out << table.total(pattern);
	return std::stoi(out.str());
}

template <int... N> int use_all(std::integer_sequence<int, N...>) { return (use<N + 1>() + ...); }

int main() { return use_all(std::make_integer_sequence<int, 12>()); }
"""


def function(n):
    cases = 3 + n % 7
    arms = "\n".join(
        f"\t\t\tcase {c}:\n\t\t\t\ttotal = total * {2 * c + 3}u"
        f" + (r->key & {(n * 37 + c) % 255});\n\t\t\t\tbreak;" for c in range(cases - 1))
    return FUNCTION.format(n=n, width=2 + n % 13, name=8 + n % 50, cases=cases, switch=arms,
                           shift=1 + n % 11, mod=5 + n % 17, letter=n % 26, mul=31 + 2 * (n % 100),
                           call=f" + visit{n - 1}(text, length / 2)" if n % 3 else "")


def main():
    directory, count = sys.argv[1], int(sys.argv[2])
    with open(os.path.join(directory, "big.c"), "w") as out:
        for n in range(count):
            if n:
                out.write(f"unsigned visit{n - 1}(const char *, unsigned);\n")
            out.write(function(n))
    heavy = os.path.join(directory, "heavy.cc")
    with open(heavy, "w") as out:
        out.write(HEAVY)
    subprocess.run(["g++", "-std=c++17", "-E", "-o", os.path.join(directory, "heavy.ii"), heavy],
                   check=True)


main()
