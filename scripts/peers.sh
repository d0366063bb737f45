#!/bin/bash
# peers.sh: what a flow and a packet cost beside other collectors, in turns within one run; the tables of docs/performance.md. The rig that
# makes the traffic and runs the peers is a folder of its own (WHARFWATCH_BENCH, by default ../shared/bench); root, about ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
rig=$(cd "${WHARFWATCH_BENCH:-../shared/bench}" 2>/dev/null && pwd) || {
	echo "no rig to run the peers with: WHARFWATCH_BENCH names its folder" >&2
	exit 1
}
flows=${FLOWS:-3000000} packets=${PACKETS:-2000000} times=${COUNT:-3}
unset COUNT # the rig reads it otherwise
export WHARFWATCH_BENCH_WORK=${WHARFWATCH_BENCH_WORK:-$PWD/build/peers} FINDINGS='findings ([0-9]+)'
make -s build
mkdir -p "$WHARFWATCH_BENCH_WORK/bin"
[ -x "$WHARFWATCH_BENCH_WORK/bin/goflow2" ] || GOBIN=$WHARFWATCH_BENCH_WORK/bin go install github.com/netsampler/goflow2/v2/cmd/goflow2@v2.2.6
cp -r "$rig" "$WHARFWATCH_BENCH_WORK/rig" 2>/dev/null || true # it builds beside its sources
program=$PWD/build/wharfwatch data=$WHARFWATCH_BENCH_WORK/data
cat >"$WHARFWATCH_BENCH_WORK/monitor.sh" <<END
rm -rf "$data"
exec "$program" run --netflow 127.0.0.1:2055 --sflow off --interface off --docker off --conntrack off --console off --inventory "\$INVENTORY" --data-dir "$data"
END
cd "$WHARFWATCH_BENCH_WORK/rig"
for format in v9 v5 ipfix; do
	./collect.sh "$format" "$flows" "$times" "wharfwatch|sh $WHARFWATCH_BENCH_WORK/monitor.sh" | tee "$WHARFWATCH_BENCH_WORK/$format.json" | ./show.py
done
./pcapbench.sh "$packets" "$times" "wharfwatch|$program replay --inventory \$INVENTORY \$PCAP" | tee "$WHARFWATCH_BENCH_WORK/pcap.json" | ./show.py
