package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/wharfwatch/wharfwatch/rig"
)

// TestLiveDemo plays the demo on a real engine: both attacks told, the look-alikes silent, and nothing left behind.
func TestLiveDemo(t *testing.T) {
	r := rig.Start(t, rig.Options{})
	binary, err := rig.ActorBinary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	cmd := r.HostExec(ctx, binary, "demo", "--docker", "-o", "json")
	cmd.Env = append(cmd.Environ(), "DOCKER_HOST="+r.DockerHost, "DOCKER_CONTEXT=", "DOCKER_CONFIG="+t.TempDir())
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%v: %s", err, said.String())
	}
	var result demoResult
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("%v in %s\n%s", err, out, said.String())
	}
	for _, a := range result.Attacks {
		if !a.Found {
			t.Errorf("not found: %s", a.Title)
		}
	}
	for _, l := range result.LookAlikes {
		if !l.Silent {
			t.Errorf("not silent: %s", l.Title)
		}
	}
	if len(result.Attacks) != 2 || len(result.LookAlikes) != 3 || result.Records == 0 {
		t.Errorf("%d attacks, %d look-alikes, %d records", len(result.Attacks), len(result.LookAlikes), result.Records)
	}
	if left := r.Docker("ps", "-aq") + r.Docker("images", "-q") + r.Docker("network", "ls", "-q", "--filter", "label="+stageName); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
