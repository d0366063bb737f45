//go:build !linux

package enrich

import (
	"context"
	"errors"
)

// CheckKernel says that there is no connection tracker.
func CheckKernel(EngineConfig) []KernelCheck {
	return []KernelCheck{{State: "off", What: "connection tracking", Reason: "it needs Linux"}}
}

// Run needs Linux.
func (k *Kernel) Run(context.Context, func(*Tracks)) error {
	return errors.New("connection tracking needs Linux")
}
