#!/usr/bin/env bash
# Runs tests on a processor with AVX-512 that need not exist: Bochs emulates it, a Debian kernel switches its
# registers on, and `longhand doctor` and the test binaries of this tree run as the guest's first programs.
#
#   tests/emulated/run-avx512.sh                                     doctor, then all tests of longhand-tensor
#   tests/emulated/run-avx512.sh matmul:: simd::                     those whose names hold one of these
#   tests/emulated/run-avx512.sh -p longhand-tests instruction_set logits_and_hidden_states
#
# -p CRATE  whose test binaries run; may be repeated (default longhand-tensor, its library alone).
# Status: 0 when the guest's best instruction set is avx512, its 50 steps have the published hash and every chosen test
# passed; 1 when not; 2 when something needed is missing.
#
# Needs a Debian-like machine and no privileges. A Bochs built without its debugger is ten times as fast as Debian's:
#
#   ./configure --enable-all-optimizations --enable-cpu-level=6 --enable-x86-64 --enable-avx --enable-evex --with-nogui
#   make && BOCHS=$PWD/bochs BIOS=$PWD/bios/BIOS-bochs-latest VGABIOS=$PWD/bios/VGABIOS-lgpl/VGABIOS-lgpl-latest.bin \
#     tests/emulated/run-avx512.sh
#
# Without BOCHS, the one of `apt-get install bochs bochsbios vgabios` is used. Kernel, boot loader, shell and ISO writer are
# taken from packages that are unpacked into target/emulated and never installed. Further settings: CPU=corei7_skylake_x
# (others: bochs --help cpu), MINUTES=60, PROPTEST_CASES=4.
#
# Doctor takes two minutes, the tensor crate's tests six. The guest's clock counts instructions, so its times say nothing.
#
# Two things that Bochs and a Linux kernel do not agree on: it must not see XSAVEC and XSAVES (`clearcpuid=321,323`), whose
# area has another size than it expects, and registers that Bochs does not know must read as 0 (`ignore_bad_msrs`).
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    echo "run-avx512: $1" >&2
    exit 2
}

crates=()
while getopts p: option; do
    case $option in
        p) crates+=(-p "$OPTARG") ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ ${#crates[@]} -gt 0 ] || crates=(-p longhand-tensor --lib)

bochs=${BOCHS:-bochs}
bios=${BIOS:-/usr/share/bochs/BIOS-bochs-latest}
vgabios=${VGABIOS:-/usr/share/bochs/VGABIOS-lgpl-latest}
command -v "$bochs" >/dev/null || fail "no $bochs: apt-get install bochs bochsbios vgabios, or name one with BOCHS="
for rom in "$bios" "$vgabios"; do
    [ -e "$rom" ] || fail "no $rom: name it with BIOS= or VGABIOS="
done

# --- What boots: unpacked packages, kept between runs.
work=$PWD/target/emulated
root=$work/root
mkdir -p "$work/debs" "$root"
unpack() { # PACKAGE: once
    [ -e "$work/debs/$1.done" ] && return
    echo "run-avx512: unpacking $1"
    (
        cd "$work/debs"
        rm -f "$1"_*.deb
        apt-get download -qq "$1" 2>/dev/null || fail "cannot download the package $1 (apt-get update?)"
        dpkg -x "$1"_*.deb "$root"
        rm -f "$1"_*.deb
        touch "$1.done"
    )
}
for package in busybox-static isolinux syslinux-common genisoimage; do
    unpack "$package"
done
if ! ls "$root"/boot/vmlinuz-* >/dev/null 2>&1; then
    for meta in linux-image-cloud-amd64 linux-image-amd64; do
        image=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
        [ -z "$image" ] || break
    done
    [ -n "$image" ] || fail "no package of a Linux kernel is known"
    unpack "$image"
fi

# --- What runs.
cargo build -q --release -p longhand
built=$(cargo test "${crates[@]}" --no-run 2>&1) || { echo "$built" >&2; exit 1; }
mapfile -t binaries < <(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$built")
[ ${#binaries[@]} -gt 0 ] || fail "cargo named no test binary"

initrd=$work/initrd
rm -rf "$initrd" "$work/iso" "$work/serial.log"
mkdir -p "$initrd"/{bin,dev,proc,tmp,tests} "$work/iso/isolinux"
cp "$root/bin/busybox" "$initrd/bin/"
install_program() { # FILE NAME: stripped, with its loader and libraries at the paths that it asks for
    strip -o "$initrd/tests/$2" "$1"
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$initrd$(dirname "$library")"
        cp -L "$library" "$initrd$library"
    done
}
install_program target/release/longhand longhand
# What the tests read stands in the guest at the same path.
mkdir -p "$initrd$PWD/tests"
cp -r tests/data "$initrd$PWD/tests/"
chosen=() total=0
for binary in "${binaries[@]}"; do
    names=$("$binary" --list "$@" | sed -n 's/: test$//p')
    [ -n "$names" ] || continue
    chosen+=("$(basename "$binary")")
    install_program "$binary" "${chosen[-1]}"
    total=$((total + $(wc -l <<<"$names")))
done
[ "$total" -gt 0 ] || fail "no test's name holds $*"

# --- The guest's first program. Lines that begin with '@' are for this script.
{
    cat <<'INIT'
#!/bin/busybox sh
export PATH=/bin RUST_BACKTRACE=1 RUST_TEST_THREADS=1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1 </dev/null
cd /tests
./longhand doctor; echo "@doctor $?"
INIT
    printf 'export PROPTEST_CASES=%q\n' "${PROPTEST_CASES:-4}"
    for name in "${chosen[@]}"; do
        printf './%s' "$name"
        [ $# -eq 0 ] || printf ' %q' "$@"
        printf '; echo "@status $?"\n'
    done
    echo 'echo @end'
    echo 'poweroff -f'
} >"$initrd/init"
chmod +x "$initrd/init"
(cd "$initrd" && find . | "$root/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$work/iso/initrd"
cp "$(ls "$root"/boot/vmlinuz-* | tail -1)" "$work/iso/vmlinuz"
cp "$root/usr/lib/ISOLINUX/isolinux.bin" "$root/usr/lib/syslinux/modules/bios/ldlinux.c32" "$work/iso/isolinux/"
cat >"$work/iso/isolinux/isolinux.cfg" <<'CFG'
DEFAULT tests
PROMPT 0
LABEL tests
  KERNEL /vmlinuz
  INITRD /initrd
  APPEND console=ttyS0,115200 loglevel=3 nokaslr mitigations=off tsc=reliable panic=-1 clearcpuid=321,323
CFG
"$root/usr/bin/genisoimage" -quiet -o "$work/boot.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table "$work/iso"

# --- The machine. Debian's Bochs has no display "nogui"; "rfb" (VNC) then serves a screen that nobody has to watch. Built
# with the debugger, it waits for a command.
serial=$work/serial.log
: >"$serial"
display=nogui
plugins=$(find /usr/lib -name libbx_rfb_gui.so 2>/dev/null | head -1)
[ -n "${BOCHS:-}" ] || [ -z "$plugins" ] || [ -e "$(dirname "$plugins")/libbx_nogui_gui.so" ] ||
    display='rfb, options="timeout=0"'
cat >"$work/bochsrc" <<RC
display_library: $display
cpu: model=${CPU:-corei7_skylake_x}, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=1024, host=1024
romimage: file=$bios
vgaromimage: file=$vgabios
ata0-master: type=cdrom, path=$work/boot.iso, status=inserted
boot: cdrom
clock: sync=none, time0=utc
com1: enabled=1, mode=file, dev=$serial
log: $work/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
RC
debugger=()
if "$bochs" --help 2>&1 | grep -q -- '-rc filename'; then
    echo continue >"$work/commands"
    debugger=(-rc "$work/commands")
fi
echo "run-avx512: doctor and $total tests of ${chosen[*]}"
timeout "$((${MINUTES:-60} * 60))" "$bochs" -q -f "$work/bochsrc" "${debugger[@]}" >"$work/bochs.out" 2>&1 </dev/null &
machine=$!
trap 'kill $machine 2>/dev/null || true' EXIT
tail -n +1 -f --pid="$machine" "$serial" | tr -d '\r' || true
# Powering off ends Bochs with a panic of its own: the verdict is read from what the guest said.
wait "$machine" || true
trap - EXIT

said=$(tr -d '\r' <"$serial")
verdict() {
    echo "run-avx512: FAILED: $1" >&2
    exit 1
}
grep -qx '@end' <<<"$said" || verdict "the guest did not reach its end in ${MINUTES:-60} minutes; see $work/bochs.out"
grep -qE '^kernels +avx512' <<<"$said" || verdict "the guest's best instruction set is another"
grep -qx '@doctor 0' <<<"$said" || verdict "the 50 steps of doctor have another hash"
passed=$(sed -n 's/^test result: [A-Za-z]*\. \([0-9]*\) passed.*/\1/p' <<<"$said" | awk '{ n += $1 } END { print n + 0 }')
ended=$(grep -cx '@status 0' <<<"$said" || true)
[ "$ended" = ${#chosen[@]} ] && [ "$passed" = "$total" ] || verdict "$passed of $total tests passed"
echo "run-avx512: doctor and $passed tests passed with AVX-512"
