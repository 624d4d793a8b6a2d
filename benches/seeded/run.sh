#!/usr/bin/env bash
# Shows that the gate closes: a copy of this tree is slowed down by one patch after the other, each right and slow, and
# the gate has to refuse it; without a patch it has to accept. Figures of every run are printed, logs stay in
# target/seeded.
#
#   benches/seeded/run.sh [--tests] [NAME…]
#     --tests   also run attention's tests on each copy, to see that it computes the same
#     NAME      only these patches, without .patch; "clean" is the tree without any
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/target/seeded
tree=$work/tree

tests=0 names=()
for arg; do
  case $arg in
    --tests) tests=1 ;;
    -*) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) names+=("$arg") ;;
  esac
done
if [ ${#names[@]} = 0 ]; then
  for patch in "$here"/*.patch; do names+=("$(basename "$patch" .patch)"); done
  names+=(clean)
fi

# The files as they are now, committed or not. Kept times let cargo build only what a patch touches, and that always: an
# earlier run may have ended with a patch applied.
rm -rf "$tree"
mkdir -p "$tree"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T -) |
  tar -xf - -C "$tree"
(cd "$tree" && sed -n 's|^+++ b/||p' "$here"/*.patch | sort -u | xargs touch)
# Not the tree's own: cargo would take what a patch left there for the tree's.
export CARGO_TARGET_DIR=$work/target
# Else git would take the copy for a part of this repository, and apply nothing.
export GIT_CEILING_DIRECTORIES=$work

wrong=0 summary=()
for name in "${names[@]}"; do
  printf '\n== %s\n' "$name"
  cd "$tree"
  if [ "$name" != clean ]; then git apply --verbose "$here/$name.patch"; fi
  [ "$tests" = 0 ] || cargo test --quiet -p longhand-tensor --lib attention
  cargo bench --quiet -p longhand-benches --bench gate --no-run
  code=0
  cargo bench --quiet -p longhand-benches --bench gate >"$work/$name.log" 2>&1 || code=$?
  sed -n '/^case /,$p' "$work/$name.log"
  want=$([ "$name" = clean ] && echo 0 || echo 1)
  if [ "$code" = "$want" ]; then said=expected; else said=WRONG wrong=1; fi
  [ "$code" -le 1 ] || cat "$work/$name.log"
  summary+=("$(printf '%-20s gate exits with %d, %d is right: %s' "$name" "$code" "$want" "$said")")
  if [ "$name" != clean ]; then git apply --reverse "$here/$name.patch"; fi
done

printf '\n'
printf '%s\n' "${summary[@]}"
exit $wrong
