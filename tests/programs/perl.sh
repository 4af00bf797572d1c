#!/bin/bash
# perl: hashes, strings, sorts and regular expressions that grow, forks, and threads (each of which
# clones the interpreter's whole heap).
. "$(dirname "$0")/lib.sh"
need perl

cat >"$work/test.pl" <<'END'
use strict;
use warnings;
use threads;
use threads::shared;
use Digest::MD5 qw(md5_hex);
my $n = shift;
my $seed = 42;
sub next_number { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return $seed >> 8; }

my %words;
for my $i (1 .. $n) {
  my $word = "w" . next_number() % 50000;
  push @{ $words{$word} }, "line $i " . "x" x (next_number() % 64);
  delete $words{"w" . next_number() % 50000} if $i % 5 == 0;
}
my $text = join "\n", map { "$_: " . join ",", @{ $words{$_} } } sort keys %words;
print length($text), " ", md5_hex($text), "\n";
my $changed = ($text =~ s/(w\d+): line (\d+)/$2 is in $1/gr);
print md5_hex($changed), " ", scalar(() = $text =~ /x{60,}/g), "\n";
my @parts = sort { length $a <=> length $b || $a cmp $b } split /,/, $text;
print scalar(@parts), " ", md5_hex("@parts"), "\n";
my $grown = "";
$grown .= chr(65 + $_ % 26) x ($_ % 7) for 1 .. $n;
print md5_hex($grown), " ", md5_hex(scalar reverse $grown), "\n";

for my $child (1 .. 20) {
  my $pid = open(my $from, "-|") // die "fork: $!";
  if (!$pid) {
    my %mine = map { $_ => [ ($child) x ($_ % 10) ] } 1 .. 5000;
    delete @words{ grep { length > 3 } keys %words };
    print md5_hex(join " ", map { "$_@{$mine{$_}}" } sort keys %mine), "\n";
    exit 0;
  }
  print <$from>;
  close $from or die "child $child: $?";
}

my $total : shared = 0;
for my $round (1 .. 4) {
  my @threads = map {
    my $id = $_;
    threads->create(sub {
      my $count = 0;
      for my $word (sort keys %words) { $count += length($word) * $id; $words{"$word$id"} = [ 1 .. 5 ]; }
      { lock $total; $total += $count; }
      return $count;
    })
  } 1 .. 4;
  print join(" ", map { $_->join } @threads), "\n";
}
print "total $total\n";
END
n=$(amount 200000 3000000)
loads perl perl -e 1
perl "$work/test.pl" "$n" >"$work/without" 2>&1 &
other=$!
quire perl "$work/test.pl" "$n" >"$work/with" 2>&1 || echo "status $?" >>"$work/with"
wait "$other" || fail "perl without quire" "cannot compare"
same "same output" "$work/without" "$work/with"
finish
