#!/usr/bin/env bash
# release.sh COMPILER DIR: script/release of the last commit, in two places, gives the same bytes; lintian has nothing
# to say of the Debian package; and what it installs is found and used by CMake and by pkg-config. Exits with 77
# outside of a git checkout.
set -euo pipefail
compiler=$1 dir=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
git -C "$root" rev-parse HEAD >/dev/null 2>&1 || exit 77
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"
for place in one another/place; do
  git clone --quiet "$root" "$place"
  "$place"/script/release --rehearsal "$place.release"
done
diff -r one.release another/place.release
(cd one.release && sha256sum --check --quiet SHA256SUMS)

# A version that differs somewhere, or a change that is not committed, makes no release.
refused() { one/script/release --rehearsal none >refusal 2>&1 && exit 1; grep -q "$1" refusal; }
sed -i 's/"version": ".*"/"version": "9.9.9"/' one/packaging/vcpkg/tiedlora/vcpkg.json
refused 'vcpkg.json says version 9.9.9'
git -C one checkout --quiet .
echo >>one/README.md
refused 'differs from its commit'

command -v lintian >/dev/null && lintian --allow-root --fail-on error,warning one.release/*.deb
dpkg-deb --extract one.release/*.deb installed
cmake -S "$root"/tests/consumers/find_package -B consumer -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_PREFIX_PATH="$dir"/installed/usr
cmake --build consumer
consumer/consumer
export PKG_CONFIG_PATH=$dir/installed/usr/share/pkgconfig
[[ $(pkg-config --modversion tiedlora) == "$(sed -n 's/.*tiedlora-\([0-9.]*\)\.tar\.gz/\1/p' one.release/SHA256SUMS)" ]]
read -ra flags <<<"$(pkg-config --cflags tiedlora-io)"
"$compiler" -std=c++20 "${flags[@]}" "$root"/packaging/conan/test_package/example.cpp -o example
./example
