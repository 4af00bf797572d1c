#!/bin/bash
# bash with thousands of forks: pipelines, command substitutions, background jobs, arrays that grow.
. "$(dirname "$0")/lib.sh"

cat >"$work/script" <<'END'
n=$1
declare -A seen
declare -a list
text=
for ((i = 0; i < n; i++)); do
  value=$(echo "value $i"; [[ $((i % 3)) == 0 ]] && echo extra)
  seen[$value]=$i
  list+=("${value//value/$i}")
  text+="$value,"
done
echo "${#seen[@]} ${#list[@]} ${#text}"
printf '%s\n' "${list[@]}" | sort | cksum
for ((i = 0; i < n / 10; i++)); do
  ( list[0]=changed; exit $((i % 256)) ) || statuses+="$? "
  { echo "$i" | (read -r x; echo $((x * 2))) | (read -r y; echo "<$y>"); }
done | cksum
for ((i = 0; i < n / 10; i++)); do
  ( ( : ) & wait ) &
  jobs[i]=$!
  (( i % 20 )) || wait
done
wait
coproc up { while read -r line; do echo "${line^^}"; done; }
for ((i = 0; i < 200; i++)); do
  echo "to the other side $i" >&"${up[1]}"
  read -r answer <&"${up[0]}"
done
echo "$answer"
cat <(seq 1000) <(seq 2000 -1 1) | cksum
for ((i = 0; i < n / 20; i++)); do /bin/true; done
echo "${text:100:50} ${list[*]: -3}"
END
n=$(amount 3000 50000)
loads bash bash -c :
bash "$work/script" "$n" >"$work/without" 2>&1 &
other=$!
quire bash "$work/script" "$n" >"$work/with" 2>&1 || echo "status $?" >>"$work/with"
wait "$other" || fail "bash without quire" "cannot compare"
same "same output" "$work/without" "$work/with"
finish
