#!/bin/bash
# nginx with two workers under wrk: static files small and large, ranges, compression, a proxy to itself,
# and reloads of the configuration while the load runs. What curl gets must be the file.
. "$(dirname "$0")/lib.sh"
need nginx wrk curl perl

seconds=$(amount 3 60)
# Started by root, the workers run as another user.
chmod 711 "$work"
mkdir -p "$work/html" "$work/logs" "$work/tmp"
perl -e 'print "small body\n" x 20' >"$work/html/small.txt"
perl -e 'my $s = 5; for (1 .. 300000) { $s = ($s * 1103515245 + 12345) & 0x7fffffff; print $s, "\n" }' \
  >"$work/html/large.txt"

configure() { # port
  cat <<END
worker_processes 2;
daemon off;
pid $work/logs/pid;
error_log $work/logs/error.log warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path $work/tmp/body;
  proxy_temp_path $work/tmp/proxy;
  fastcgi_temp_path $work/tmp/fastcgi;
  uwsgi_temp_path $work/tmp/uwsgi;
  scgi_temp_path $work/tmp/scgi;
  types { text/plain txt; }
  gzip_types text/plain;
  server {
    listen 127.0.0.1:$1 reuseport;
    root $work/html;
    location /zip/ { alias $work/html/; gzip on; gzip_min_length 1; }
    location /again/ { proxy_pass http://127.0.0.1:$1/; proxy_buffers 16 64k; }
  }
}
END
}

start() { # sets port and server
  local try
  for try in 1 2 3; do
    port=$(free_port)
    configure "$port" >"$work/nginx.conf"
    "${on_quire[@]}" nginx -p "$work" -e "$work/logs/error.log" -c "$work/nginx.conf" >"$work/out" 2>&1 &
    server=$!
    servers+=("$server")
    until_true 20 curl -sf "http://127.0.0.1:$port/small.txt" && return 0
    echo "attempt $try: no answer on port $port"
    tail -n 5 "$work/out" "$work/logs/error.log"
    stop_server "$server"
  done
  return 1
}

if ! start; then
  fail "start" "nginx did not answer"
  finish
fi
workers() { grep -l "^PPid:[[:space:]]*$server\$" /proc/[0-9]*/status 2>/dev/null | cut -d/ -f3; }
missing=
for pid in $server $(workers); do is_on_quire "$pid" || missing+=" $pid"; done
if [[ -z $missing && -n $(workers) ]]; then pass "nginx is on quire"; else
  fail "nginx is on quire" "not in the maps of process$missing"
fi

url=http://127.0.0.1:$port
bodies() {
  curl -sf "$url/small.txt" | cmp - "$work/html/small.txt" &&
    curl -sf "$url/large.txt" | cmp - "$work/html/large.txt" &&
    curl -sf --compressed "$url/zip/large.txt" | cmp - "$work/html/large.txt" &&
    curl -sf "$url/again/large.txt" | cmp - "$work/html/large.txt" &&
    curl -sf -r 1000-49999 "$url/large.txt" |
    cmp - <(dd if="$work/html/large.txt" bs=1000 skip=1 count=49 status=none)
}
check "bodies before" bodies

wrk -t 2 -c 64 -d "$seconds" "$url/small.txt" >"$work/wrk1" 2>&1 &
load1=$!
wrk -t 1 -c 8 -d "$seconds" "$url/zip/large.txt" >"$work/wrk2" 2>&1 &
load2=$!
wrk -t 1 -c 8 -d "$seconds" "$url/again/small.txt" >"$work/wrk3" 2>&1 &
load3=$!
reloads=0
while kill -0 "$load1" 2>/dev/null; do
  # A reload starts new workers and lets the old ones end: they free all they have.
  kill -HUP "$server"
  reloads=$((reloads + 1))
  bodies >"$work/cmp" 2>&1 || { cat "$work/cmp"; fail "bodies during the load" "not the file"; break; }
done
wait "$load1" "$load2" "$load3"
grep -h -E 'requests in|Non-2xx|Socket errors' "$work"/wrk[123]
echo "$reloads reloads"
if grep -q 'Non-2xx' "$work"/wrk[123]; then fail "load" "answers that were not 200"; else
  if (($(awk '/requests in/ { n += $1 } END { print n + 0 }' "$work"/wrk[123]) > 0)); then pass "load"; else
    fail "load" "no request was answered"
  fi
fi
check "bodies after" bodies
# Workers that died by a signal are told in the log.
if grep -E 'exited on signal|alert|emerg|quire:' "$work/logs/error.log" "$work/out"; then
  fail "log" "a worker died or complained"
else
  pass "log"
fi
kill -QUIT "$server"
wait "$server"
status=$?
servers=()
if ((status == 0)); then pass "ends well"; else fail "ends well" "status $status"; fi
finish
