#!/bin/bash
# setup.sh run|test: installs what is lacking on Debian and Ubuntu and says so; elsewhere says what to install.
set -euo pipefail

declare -A package=( # command -> Debian package
	[gcc]=gcc [git]=git [make]=make
	[dockerd]=docker.io [iptables]=iptables [ip]=iproute2 [tcpdump]=tcpdump [softflowd]=softflowd
)
case ${1:-run} in
run) need=() ;;
test) need=(gcc git dockerd iptables ip tcpdump softflowd) ;;
*) echo "usage: setup.sh run|test" >&2; exit 2 ;;
esac

if ! command -v go >/dev/null; then
	echo "setup: Go 1.26 or newer is needed (https://go.dev/doc/install): put its bin folder on the PATH" >&2
	exit 1
fi

lacking=()
for command in "${need[@]}"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || lacking+=("${package[$command]}")
done
[ ${#lacking[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
	echo "setup: please install what provides: ${need[*]} (Debian's packages: ${lacking[*]})" >&2
	exit 1
fi
become=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "setup: run as root: apt-get install ${lacking[*]}" >&2; exit 1; }
	become=(sudo)
fi
echo "setup: installing ${lacking[*]} with apt-get"
"${become[@]}" apt-get update -qq
# The packages' own services are not wanted: the tests start private ones.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' | "${become[@]}" tee $policy >/dev/null
	"${become[@]}" chmod +x $policy
	trap '"${become[@]}" rm -f $policy' EXIT
fi
"${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${lacking[@]}" >/dev/null
