#!/bin/bash
# setup.sh run|test: installs what is lacking on Debian and Ubuntu and says so; elsewhere says what to install. Silent when nothing is.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

declare -A package=( # command → Debian package
	[gcc]=gcc [readelf]=binutils [git]=git [nsenter]=util-linux
	[dockerd]=docker.io [docker]=docker.io [iptables]=iptables [ip]=iproute2 [tcpdump]=tcpdump [softflowd]=softflowd
	[prometheus-alertmanager]=prometheus-alertmanager
	[npm]=npm [chromium]=chromium
	[pmacctd]=pmacct [ovs-vswitchd]=openvswitch-switch [tshark]=tshark [ethtool]=ethtool [sysctl]=procps
)
case ${1:-} in
run) need=(npm) ;;
test) need=("${!package[@]}") ;;
*) echo "usage: setup.sh run|test" >&2; exit 2 ;;
esac

if ! command -v go >/dev/null; then
	echo "setup: Go 1.26 or newer is needed (https://go.dev/doc/install): put its bin folder on the PATH" >&2
	exit 1
fi

# Without these less is built and tested, and the rest works.
soft=' npm chromium '

lacking() {
	for command in "${need[@]}"; do
		command -v "$command" >/dev/null || echo "${package[$command]}"
	done | sort -u
}
mapfile -t packages < <(lacking)
[ ${#packages[@]} -gt 0 ] || exit 0

# give_up says what cannot be installed. What is not needed everywhere is left out, but with CI=true.
give_up() {
	local package
	echo "setup: $1: ${packages[*]}" >&2
	[ "${CI:-}" != true ] || exit 1
	for package in "${packages[@]}"; do [[ $soft == *" $package "* ]] || exit 1; done
	exit 0
}

if ! command -v apt-get >/dev/null; then
	give_up "please install what Debian has in these packages"
fi
become=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || give_up "run as root: apt-get install"
	become=(sudo)
fi
echo "setup: installing ${packages[*]} with apt-get"
"${become[@]}" apt-get update -qq
# Newer releases have the docker command in a package of its own.
if [[ " ${packages[*]} " == *' docker.io '* ]] && apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
# The services in these packages are not wanted: the tests start private ones.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap '"${become[@]}" rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${become[@]}" tee $policy >/dev/null
	"${become[@]}" chmod +x $policy
fi
"${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || true

hash -r
mapfile -t packages < <(lacking)
[ ${#packages[@]} -eq 0 ] || give_up "these are still not there after apt-get"
