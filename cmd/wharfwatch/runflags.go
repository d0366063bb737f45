package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/wharfwatch/wharfwatch/baseline"
	"github.com/wharfwatch/wharfwatch/configs"
	"github.com/wharfwatch/wharfwatch/enrich"
)

const off = "off"

// runFlags are the flags of `run`: each is a key of the configuration under a shorter name, and `off` turns its part off.
type runFlags struct {
	netflow, sflow, interfaces, docker, webhooks []string
	inventory, console, record, conntrack        string
}

func (f *runFlags) register(s *pflag.FlagSet) {
	s.StringArrayVar(&f.netflow, "netflow", nil, "UDP address for NetFlow v5, v9 and IPFIX, or off; may be repeated (default :2055 and :4739)")
	s.StringArrayVar(&f.sflow, "sflow", nil, "UDP address for sFlow, or off; may be repeated (default :6343)")
	s.StringArrayVar(&f.interfaces, "interface", nil, "interface to capture on, a pattern such as br-*, or off; may be repeated (default docker0 and br-*)")
	s.StringArrayVar(&f.docker, "docker", nil, "engine, as in unix:///var/run/docker.sock, or off; may be repeated (default: the local one)")
	s.StringVar(&f.conntrack, "conntrack", "", "auto or off: the kernel's word on flows behind NAT and on the host's own sockets (default auto)")
	s.StringVar(&f.inventory, "inventory", "", "what docker inspect $(docker ps -aq) printed: containers of hosts without an engine to ask")
	s.StringVar(&f.console, "console", "", "address of the HTTP listener, or off (default 127.0.0.1:8470)")
	s.StringArrayVar(&f.webhooks, "webhook", nil, "URL that is told of incidents; may be repeated")
	s.StringVar(&f.record, "record", "", "directory to which everything that enters the engine is written, for replay")
}

// load reads the configuration with these flags over it.
func (f *runFlags) load(g *globals) (*configs.Config, error) {
	var sets []string
	list := func(key string, values []string) {
		if len(values) > 0 {
			sets = append(sets, key+"="+strings.Join(values, ","))
		}
	}
	list("flow.netflow", f.netflow)
	list("flow.sflow", f.sflow)
	list("flow.interfaces", f.interfaces)
	for key, value := range map[string]string{"enrich.inventory": f.inventory, "console.listen": f.console, "record": f.record, "enrich.conntrack.mode": f.conntrack} {
		if value != "" {
			sets = append(sets, key+"="+value)
		}
	}
	c, err := g.load(sets...)
	if err != nil {
		return nil, err
	}
	c.Flow.ExplicitNetflow = c.Flow.ExplicitNetflow || len(f.netflow) > 0
	c.Flow.ExplicitSFlow = c.Flow.ExplicitSFlow || len(f.sflow) > 0
	c.Flow.ExplicitInterfaces = c.Flow.ExplicitInterfaces || len(f.interfaces) > 0
	if len(f.docker) > 0 {
		c.Enrich.Docker = nil
	}
	for i, host := range f.docker {
		if host == off {
			continue
		}
		e := enrich.DefaultEngine()
		e.Host = host
		if i > 0 {
			e.Name = fmt.Sprintf("%s-%d", e.Name, i+1)
		}
		c.Enrich.Docker = append(c.Enrich.Docker, e)
	}
	for _, url := range f.webhooks {
		c.Alerts.AddWebhook(url)
	}
	var problems configs.Problems
	c.Alerts.Validate(func(path, message string) {
		problems = append(problems, configs.Problem{Path: "alerts." + path, Message: "alerts." + path + ": " + message})
	})
	c.Enrich.Validate(func(path, message string) {
		problems = append(problems, configs.Problem{Path: "enrich." + path, Message: "enrich." + path + ": " + message})
	})
	if len(problems) > 0 {
		return nil, usage(problems)
	}
	return c, nil
}

// replayFlags are the flags of `replay`.
type replayFlags struct {
	inventory, format, output string
	learn, findings, records  bool
	failOn                    *baseline.Severity
	failOnText                string
}

func (f *replayFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.inventory, "inventory", "", "what docker inspect $(docker ps -aq) printed")
	s.StringVar(&f.format, "format", "auto", "auto, pcap, netflow (a capture of export datagrams), nfcapd, zeek, eve (Suricata) or stream (run --record)")
	s.StringVarP(&f.output, "output", "o", "jsonl", "jsonl or table")
	s.BoolVar(&f.learn, "learn", false, "teach the baselines in --data-dir from the files, and tell nothing")
	s.BoolVar(&f.findings, "findings", false, "print single findings instead of incidents")
	s.BoolVar(&f.records, "records", false, "print the decoded records instead of incidents")
	s.StringVar(&f.failOnText, "fail-on", "", "exit with 1 when something of this severity or above was found")
}

// load checks the flags against each other and reads the configuration.
func (f *replayFlags) load(g *globals) (*configs.Config, error) {
	switch f.format {
	case "auto", "pcap", "netflow", "nfcapd", "zeek", "eve", "stream":
	default:
		return nil, usage(fmt.Errorf("--format %s: known are auto, pcap, netflow, nfcapd, zeek, eve and stream", f.format))
	}
	if f.output != "jsonl" && f.output != "table" {
		return nil, usage(fmt.Errorf("--output %s: known are jsonl and table", f.output))
	}
	if f.findings && f.records {
		return nil, usage(errors.New("--findings and --records exclude each other"))
	}
	if f.learn && (f.findings || f.records || f.failOnText != "") {
		return nil, usage(errors.New("--learn tells nothing: it excludes --findings, --records and --fail-on"))
	}
	if f.failOnText != "" {
		f.failOn = new(baseline.Severity)
		if err := f.failOn.UnmarshalText([]byte(f.failOnText)); err != nil {
			return nil, usage(fmt.Errorf("--fail-on: %w", err))
		}
	}
	var sets []string
	if f.inventory != "" {
		sets = append(sets, "enrich.inventory="+f.inventory)
	}
	return g.load(sets...)
}
