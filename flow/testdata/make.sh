#!/bin/sh
# Makes the exporter fixtures anew: the packets of traffic.go through a real exporter into capture files of their datagrams.
# Needs softflowd (apt-get install softflowd) and root, for its chroot.
# Afterwards: go test ./flow -run TestFixtures -update-netflow, and read the difference.
set -eu
cd "$(dirname "$0")"
port=29950
go build -o traffic.bin traffic.go
trap 'rm -f traffic.bin softflowd.pid' EXIT
./traffic.bin packets traffic.pcap

take() { # name command...
	name=$1
	shift
	./traffic.bin listen 127.0.0.1:$port "$name.pcap" 4 &
	listener=$!
	sleep 1
	"$@" >/dev/null 2>&1 || true
	wait $listener
	ls -l "$name.pcap"
}

for v in 5 9 10; do
	name=v$v
	[ $v = 10 ] && name=ipfix
	take softflowd-$name timeout 20 softflowd -r traffic.pcap -n 127.0.0.1:$port -v $v -d -6 -c none -p "$PWD/softflowd.pid"
done
