#!/bin/bash
# inventory.sh: makes inventory.json from a real engine in a network namespace of its own: what docker inspect prints about running,
# exited, created, privileged and dual-homed containers. Needs root, dockerd, docker, ip and Go. Output differs from run to run
# (ids, times); the tests hold on to names.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d) name=ww-fixture-$$
export PATH=$PATH:/usr/sbin:/sbin
ip netns add $name
ip -n $name link set lo up
nsenter --net=/run/netns/$name dockerd --data-root "$work/root" --exec-root "$work/exec" --pidfile "$work/pid" -H "unix://$work/sock" \
	--bip 172.29.0.1/16 --default-address-pool base=172.30.0.0/16,size=24 --ipv6 --fixed-cidr-v6 fd00:29::/64 >"$work/log" 2>&1 &
engine=$!
d() { docker -H "unix://$work/sock" "$@"; }
finish() {
	d rm -f $(d ps -aq) >/dev/null 2>&1 || true
	kill $engine && wait $engine || true
	awk -v d="$work/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | tac | xargs -r umount -l
	ip netns delete $name
	rm -rf "$work"
}
trap finish EXIT
until d version >/dev/null 2>&1; do sleep .1; done

printf 'package main\nimport ("os"; "time")\nfunc main() { if len(os.Args) > 1 { time.Sleep(time.Hour) } }\n' >"$work/main.go"
CGO_ENABLED=0 go build -ldflags '-s -w' -o "$work/program" "$work/main.go"
tar -C "$work" -c program | d import --change 'ENTRYPOINT ["/program"]' - acme/worker:1.8 >/dev/null

d network create back >/dev/null
d run -d --name shop-worker-1 --label com.docker.compose.project=shop --label com.docker.compose.service=worker \
	-e SECRET=hunter2 -p 127.0.0.1:8080:80 -p 53:53/udp acme/worker:1.8 stay >/dev/null
d run -d --name two-homed --network back acme/worker:1.8 stay >/dev/null
d network connect bridge two-homed
d create --name agent --privileged --network host --pid host -v /:/host -v /var/run:/r:ro acme/worker:1.8 stay >/dev/null
d run -d --name sniffer --cap-add net_admin --cap-add CAP_SYS_PTRACE --security-opt seccomp=unconfined --security-opt systempaths=unconfined \
	--security-opt no-new-privileges --device /dev/null --device-cgroup-rule 'c 42:* rmw' --ipc host --uts host --cgroupns host acme/worker:1.8 stay >/dev/null
d run --name done acme/worker:1.8
d create --name never acme/worker:1.8 >/dev/null
d run -d --network container:shop-worker-1 acme/worker:1.8 stay >/dev/null
d inspect $(d ps -aq) | sed "s|$work|/var/lib/docker|g" >inventory.json
