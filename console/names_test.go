package console

import (
	"strings"
	"testing"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// A workload whose DNS leaves from the host is a gap with what to do about it, until the host's answers are seen.
func TestNamesCoverage(t *testing.T) {
	rows := namesCoverage([]enrich.Unnamed{
		{Workload: "compose:shop/web", Network: "shop_default", Connections: 7},
		{Workload: "compose:shop/api", Network: "shop_default", Connections: 7, HostAnswers: 3},
	})
	if len(rows) != 2 || rows[0].State != "no" || rows[0].Fix == "" || !strings.Contains(rows[0].Reason, "127.0.0.11") || rows[0].Detector != "names" {
		t.Errorf("%+v", rows)
	}
	if rows[1].State != "yes" || rows[1].Fix != "" || !strings.Contains(rows[1].Reason, "by what the host was told") {
		t.Errorf("%+v", rows[1])
	}
}
