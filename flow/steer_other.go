//go:build !linux

package flow

import "errors"

// maxWorkers is 1 where the kernel cannot be told which socket a sender belongs to.
const maxWorkers = 1

func (s *socket) steer(int) error { return errors.New("several workers need Linux") }
