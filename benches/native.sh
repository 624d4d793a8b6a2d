#!/usr/bin/env bash
# The kernels of a plain build beside those of a build for this very CPU (-C target-cpu=native): a kernel is compiled for
# its instruction set in both, so the plain build should lose nothing. What it loses is code that is compiled outside the
# dispatched functions, for the target's baseline.
#
#   benches/native.sh [--limit X] [--processes N] [--rounds N] [--seconds S] [--threads N] [CASE …]
#     --limit X      the least speed of the plain build over that of the native one [0.97]
#     --processes N  new processes, with memory of their own; the builds change places [3]
#     --rounds N     the least rounds of a case in a process [7]
#     --seconds S    seconds of a case in a process, while there are less than 100 rounds [2]
#     --threads N    threads [1]
#     CASE           what its name begins with, as in `longhand roofline` [all but naive attention and the training step]
#
# A round is a turn of each build, a millisecond or a call, some milliseconds apart; its ratio is the native build's time
# over the plain one's. Printed are the median of all rounds, their quartiles, and the medians of the processes. A case is
# slower when the median of every process is below the limit, and more of all rounds are than chance explains (half of
# them and three standard deviations). Exits with 1 when a case is slower.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)

limit=0.97 processes=3 rounds=7 seconds=2 threads=1 prefixes=()
while [ $# -gt 0 ]; do
  case $1 in
    --limit | --processes | --rounds | --seconds | --threads)
      [ $# -ge 2 ] || { echo "$1 wants a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    -*) sed -n '2,19s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) prefixes+=("$1"); shift ;;
  esac
done
microseconds=$(awk -v s="$seconds" 'BEGIN { printf "%d", s * 1e6 }')

target=${CARGO_TARGET_DIR:-$root/target}
cd "$root"
build=(cargo build --quiet --release --package longhand-measure --example turns)
RUSTFLAGS='' CARGO_TARGET_DIR=$target "${build[@]}"
RUSTFLAGS='-C target-cpu=native' CARGO_TARGET_DIR=$target/native "${build[@]}"
plain=$target/release/examples/turns native=$target/native/release/examples/turns

cases=()
while read -r name; do
  if [ ${#prefixes[@]} = 0 ]; then cases+=("$name"); continue; fi
  for prefix in "${prefixes[@]}"; do
    if [[ $name == "$prefix"* ]]; then cases+=("$name"); break; fi
  done
done < <("$plain" --list)
[ ${#cases[@]} -gt 0 ] || { echo "no case is called so; $plain --list" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkfifo "$work"/{a,b}.{in,out}

# Lines "process case plain native", seconds.
now() { echo "${EPOCHREALTIME/[.,]/}"; }
for ((process = 1; process <= processes; process++)); do
  if ((process % 2)); then a=$plain b=$native; else a=$native b=$plain; fi
  "$a" "$threads" <"$work/a.in" >"$work/a.out" &
  "$b" "$threads" <"$work/b.in" >"$work/b.out" &
  exec 3>"$work/a.in" 4<"$work/a.out" 5>"$work/b.in" 6<"$work/b.out"
  for name in "${cases[@]}"; do
    end=$(($(now) + microseconds))
    for ((round = 1; round <= rounds || (round <= 100 && $(now) < end); round++)); do
      echo "$name" >&3
      read -r of_a <&4
      echo "$name" >&5
      read -r of_b <&6
      if ((process % 2)); then echo "$process $name $of_a $of_b"; else echo "$process $name $of_b $of_a"; fi
    done
  done >>"$work/rounds"
  exec 3>&- 4<&- 5>&- 6<&-
  wait
done

awk -v limit="$limit" -v processes="$processes" -v threads="$threads" '
  function sort(v, n, i, j, x) {
    for (i = 2; i <= n; i++) {
      x = v[i]
      for (j = i - 1; j > 0 && v[j] > x; j--) v[j + 1] = v[j]
      v[j + 1] = x
    }
  }
  function quantile(v, n, q) { return v[int(q * (n - 1) + 1.5)] }
  !($2 in rounds) { order[++cases] = $2 }
  { n = ++rounds[$2]; process[$2, n] = $1; plain[$2, n] = $3; native[$2, n] = $4 }
  END {
    printf "limit %s, threads %s, processes %s\n", limit, threads, processes
    printf "%-46s %10s %10s %6s   %-14s %6s   %s\n", "case", "plain, ms", "native, ms", "ratio", "quartiles", "rounds", \
      "processes"
    for (c = 1; c <= cases; c++) {
      name = order[c]
      n = rounds[name]
      below = 0
      for (i = 1; i <= n; i++) {
        p[i] = plain[name, i]
        v[i] = native[name, i]
        ratio[i] = v[i] / p[i]
        below += ratio[i] < limit
      }
      slower = below > n / 2 + 1.5 * sqrt(n)
      medians = ""
      for (s = 1; s <= processes; s++) {
        m = 0
        for (i = 1; i <= n; i++) if (process[name, i] == s) own[++m] = native[name, i] / plain[name, i]
        sort(own, m)
        if (quantile(own, m, 0.5) >= limit) slower = 0
        medians = medians sprintf(" %.3f", quantile(own, m, 0.5))
      }
      sort(p, n); sort(v, n); sort(ratio, n)
      all[c] = quantile(ratio, n, 0.5)
      printf "%-46s %10.4f %10.4f %6.3f   %.3f to %.3f %6d  %s%s\n", name, quantile(p, n, 0.5) * 1e3, \
        quantile(v, n, 0.5) * 1e3, all[c], quantile(ratio, n, 0.25), quantile(ratio, n, 0.75), n, medians, \
        slower ? "   SLOWER" : ""
      if (slower) names = names " " name
    }
    sort(all, cases)
    printf "%d cases, median of their ratios %.3f, least %.3f\n", cases, quantile(all, cases, 0.5), all[1]
    if (names == "") { print "no case is slower than the limit beyond noise"; exit 0 }
    print "slower:" names
    exit 1
  }' "$work/rounds"
