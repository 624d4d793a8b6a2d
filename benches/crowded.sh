#!/usr/bin/env bash
# What a training step costs beside another training on the same cores: two processes, each with a thread for every core,
# share the machine fairly when each takes twice as long as alone. What it takes beyond that is lost, to threads that
# keep a core while they wait for one that has none, and to caches that hold two models.
#
#   benches/crowded.sh [--limit X] [--rounds N] [PRESET:BATCH:BLOCK:STEPS …]
#     --limit X    the greatest step time of two at once over that of one alone [2.5]
#     --rounds N   rounds: one alone, then two at once [3]
#     PRESET:…     what is trained [gpt2:4:64:8 tiny:12:64:300]
#
# Times are medians of the steps of a process, those of two at once the mean of both; the ratio is that of neighbours,
# its median printed with its least and greatest. Exits with 1 when a median is above the limit.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)

limit=2.5 rounds=3 cases=()
while [ $# -gt 0 ]; do
  case $1 in
    --limit | --rounds)
      [ $# -ge 2 ] || { echo "$1 wants a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    *:*:*:*) cases+=("$1"); shift ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
[ ${#cases[@]} -gt 0 ] || cases=(gpt2:4:64:8 tiny:12:64:300)

target=${CARGO_TARGET_DIR:-$root/target}
cd "$root"
CARGO_TARGET_DIR=$target cargo build --quiet --release --package longhand
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# train FILE: the milliseconds of a step, from one process.
train() {
  "$target/release/longhand" bench train --json --preset "$preset" --batch-size "$batch" --block-size "$block" \
    --steps "$steps" 2>/dev/null | sed -n 's/.*"ms":\([0-9.]*\).*/\1/p' >"$1"
}

wrong=0
printf '%-28s %10s %14s %7s   %s\n' case 'alone, ms' 'two, ms each' ratio 'least to greatest'
for case in "${cases[@]}"; do
  IFS=: read -r preset batch block steps <<<"$case"
  : >"$work/rounds"
  for ((round = 1; round <= rounds; round++)); do
    train "$work/alone"
    train "$work/first" &
    first=$!
    train "$work/second"
    wait "$first"
    paste -d' ' "$work/alone" "$work/first" "$work/second" >>"$work/rounds"
  done
  awk -v name="$preset, $batch x $block tokens" -v limit="$limit" '
    function median(v, n) { return (v[int((n + 1) / 2)] + v[int(n / 2) + 1]) / 2 }
    function sort(v, n, i, j, x) {
      for (i = 2; i <= n; i++) {
        x = v[i]
        for (j = i - 1; j > 0 && v[j] > x; j--) v[j + 1] = v[j]
        v[j + 1] = x
      }
    }
    NF == 3 { n++; alone[n] = $1; two[n] = ($2 + $3) / 2; ratio[n] = two[n] / $1 }
    END {
      if (n == 0) { print "nothing was measured"; exit 2 }
      sort(alone, n); sort(two, n); sort(ratio, n)
      middle = median(ratio, n)
      printf "%-28s %10.2f %14.2f %7.2f   %.2f to %.2f\n", name, median(alone, n), median(two, n), middle, ratio[1], ratio[n]
      exit middle > limit
    }' "$work/rounds" || { code=$?; [ "$code" -lt "$wrong" ] || wrong=$code; }
done
[ "$wrong" != 1 ] || printf 'above %s\n' "$limit"
exit "$wrong"
