package enrich

// KernelCheck is one thing that following a kernel needs: for doctor, and for the log of a start.
type KernelCheck struct {
	State  string // "ok", "warn", "fail" or "off"
	What   string
	Reason string
	Fix    string // what to type; nothing is ever set by us
}

// judgeSysctls says what the settings of the connection tracker mean, "" for one that is not there.
func judgeSysctls(events, acct string) []KernelCheck {
	switch events {
	case "":
		return []KernelCheck{{
			State: "warn", What: "connection tracking", Reason: "the kernel tracks no connections here: flows behind NAT keep the host's address",
			Fix: "modprobe nf_conntrack nf_conntrack_netlink, or start the engine, which loads them",
		}}
	case "0":
		return []KernelCheck{{
			State: "warn", What: "connection tracking",
			Reason: "net.netfilter.nf_conntrack_events is 0: new connections are looked for every 2 s, short ones behind NAT stay unknown, and confidence is high at most",
			Fix:    "sysctl -w net.netfilter.nf_conntrack_events=2",
		}}
	}
	checks := []KernelCheck{{State: "ok", What: "connection tracking", Reason: "net.netfilter.nf_conntrack_events is " + events}}
	if acct != "1" {
		return append(checks, KernelCheck{
			State: "off", What: "conntrack flows", Reason: "net.netfilter.nf_conntrack_acct is 0: the kernel does not count, and its connections give no flow records",
			Fix: "sysctl -w net.netfilter.nf_conntrack_acct=1, if neither capture nor an exporter sees this host's traffic",
		})
	}
	return append(checks, KernelCheck{State: "ok", What: "conntrack flows", Reason: "net.netfilter.nf_conntrack_acct is 1"})
}
