#!/usr/bin/env bash
# Builds the program and its tests for Windows and runs them under Wine, on a Linux machine without a Windows at hand:
#
#   rustup target add x86_64-pc-windows-gnu && apt-get install wine64 gcc-mingw-w64-x86-64
#   bash tests/windows.sh                    # or with arguments of cargo test: bash tests/windows.sh --test commands
set -euo pipefail
cd "$(dirname "$0")/.."
for program in wine x86_64-w64-mingw32-gcc; do
  command -v "$program" >/dev/null || { echo "SKIPPED: no $program"; exit 0; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export WINEDEBUG=-all WINEPREFIX="$work/wine"
wineboot --init 2>/dev/null || wine wineboot --init 2>/dev/null
# Rust's programs ask this library for random numbers, which Wine has from version 8.10 on.
system="$WINEPREFIX/drive_c/windows/system32"
if [ ! -e "$system/bcryptprimitives.dll" ]; then
  cat >"$work/random.c" <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE at, SIZE_T n) { return SystemFunction036(at, (ULONG)n); }
C
  x86_64-w64-mingw32-gcc -shared -o "$system/bcryptprimitives.dll" "$work/random.c" -ladvapi32
fi
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine
cargo test --release --target x86_64-pc-windows-gnu --no-fail-fast "$@"
