#!/bin/bash
# git: a generated repository of many commits, files and branches is repacked (with threads), collected,
# cloned and checked on quire; every object must be there afterwards.
. "$(dirname "$0")/lib.sh"
need git perl

export GIT_CONFIG_NOSYSTEM=1 HOME=$work GIT_CONFIG_GLOBAL=/dev/null
commits=$(amount 5000 60000)
git init -q -b main --bare "$work/made"
perl -e '
  my $seed = 7;
  sub next_number { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return $seed >> 8; }
  my @text = map { [ map { "line $_ of it\n" } 1 .. 120 ] } 0 .. 59;
  for my $i (1 .. shift) {
    my $branch = $i % 40 ? "main" : "side" . ($i % 7);
    print "commit refs/heads/$branch\nmark :$i\n";
    print "committer A <a\@example.org> ", 1600000000 + $i * 60, " +0000\n";
    my $message = "change $i " . "because " x ($i % 13);
    print "data ", length $message, "\n$message\n";
    for (1 .. 1 + $i % 4) {
      my $file = next_number() % 60;
      $text[$file][next_number() % @{ $text[$file] }] = "changed in $i to " . next_number() . "\n";
      push @{ $text[$file] }, "added in $i\n" if $i % 9 == 0;
      my $content = join "", @{ $text[$file] };
      print "M 100644 inline dir" . $file % 8 . "/file$file\ndata ", length $content, "\n$content\n";
    }
  }' "$commits" >"$work/stream"
git -C "$work/made" fast-import --quiet <"$work/stream"
cp -r "$work/made" "$work/other"

# All objects with their contents' names; the graph; what fsck says.
state() { # repository, command prefix...
  local repo=$1
  shift
  "$@" git -C "$repo" rev-list --all --objects | sort
  "$@" git -C "$repo" fsck --full --strict --no-progress
  "$@" git -C "$repo" log --all --stat --format='%H %T %s' | sha256sum
  "$@" git -C "$repo" cat-file --batch-all-objects --batch-check | sha256sum
}

loads git git -C "$work/made" rev-parse main
check "fast-import" sh -c "LD_PRELOAD=$lib git init -q -b main --bare '$work/fast' && \
  LD_PRELOAD=$lib git -C '$work/fast' fast-import --quiet <'$work/stream'"
git -C "$work/made" for-each-ref >"$work/refs.without"
git -C "$work/fast" for-each-ref >"$work/refs.with"
same "fast-import made the same" "$work/refs.without" "$work/refs.with"
{ git -C "$work/other" gc --quiet --prune=now && state "$work/other" env; } >"$work/without" 2>&1 &
other=$!
check "gc" quire git -C "$work/made" -c pack.threads=4 gc --quiet --prune=now
check "repack from scratch" quire git -C "$work/made" -c pack.threads=4 \
  repack -q -a -d -f --window=20 --depth=20
state "$work/made" "${on_quire[@]}" >"$work/with" 2>&1
wait "$other"
same "rev-list, fsck and log" "$work/without" "$work/with"
check "clone" quire git clone -q --no-local "$work/made" "$work/clone"
check "blame and diff" sh -c "cd '$work/clone' && LD_PRELOAD=$lib git blame dir1/file1 && \
  LD_PRELOAD=$lib git diff --stat HEAD~50 && LD_PRELOAD=$lib git status --porcelain && \
  LD_PRELOAD=$lib git grep -c changed"
check "clone is whole" git -C "$work/clone" fsck --full --no-progress
finish
