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

# The same packets as files of nfcapd: plain, LZO, LZ4, bzip2, what nfdump says is in them, and sampled ones. Needs nfdump 1.7 (apt-get install nfdump).
nfcapd() { # name option...
	name=$1
	shift
	mkdir nfcapd.dir
	command nfcapd -b 127.0.0.1 -p $port -w "$PWD/nfcapd.dir" -P "$PWD/nfcapd.pid" "$@" >/dev/null 2>&1 &
	collector=$!
	sleep 1
	timeout 20 softflowd -r traffic.pcap -n 127.0.0.1:$port -v 9 -d -6 -c none -p "$PWD/softflowd.pid" >/dev/null 2>&1 || true
	sleep 1
	kill $collector
	wait $collector || true
	mv nfcapd.dir/nfcapd.2* "$name.nfcapd"
	rm -r nfcapd.dir
}
nfcapd plain
nfcapd lzo -z
nfcapd lz4 -y
nfcapd bz2 -j
nfcapd sampled -s 100
for name in plain lzo lz4 bz2 sampled; do
	TZ=UTC nfdump -r $name.nfcapd -o "fmt:%tsr,%td,%sa,%sp,%da,%dp,%pr,%flg,%byt,%pkt,%ra" -6 -q -N >$name.nfcapd.csv
done
