package flow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"syscall"
)

// iface is what is asked of an interface; master is the bridge, bond or VRF it is a port of, "" for none.
type iface struct {
	index  int
	name   string
	master string
	bridge bool
	mac    MAC
}

// ownMAC is what a bridge itself sends from, 0 for other interfaces.
func (n iface) ownMAC() uint64 {
	if n.bridge {
		return uint64(n.mac)
	}
	return 0
}

// listInterfaces asks the kernel (rtnetlink(7), RTM_GETLINK) for the interfaces of this network namespace. Unlike /sys it
// needs no mount that belongs to the namespace.
func listInterfaces() ([]iface, error) {
	const (
		iflaMaster   = 10
		iflaLinkInfo = 18
		infoKind     = 1
	)
	answer, err := syscall.NetlinkRIB(syscall.RTM_GETLINK, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var ifs []iface
	names, masters := make(map[int]string), make(map[int]int)
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != syscall.RTM_NEWLINK || len(m.Data) < syscall.SizeofIfInfomsg {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		n := iface{index: int(int32(binary.NativeEndian.Uint32(m.Data[4:])))}
		for _, a := range attributes {
			switch v := a.Value; {
			case a.Attr.Type == syscall.IFLA_IFNAME:
				n.name = string(bytes.TrimRight(v, "\x00"))
			case a.Attr.Type == syscall.IFLA_ADDRESS && len(v) == 6:
				n.mac = macAt(append(bytes.Clone(v), 0, 0))
			case a.Attr.Type == iflaMaster && len(v) >= 4:
				masters[n.index] = int(binary.NativeEndian.Uint32(v))
			case a.Attr.Type == iflaLinkInfo && len(v) >= 4:
				if size := int(binary.NativeEndian.Uint16(v)); size >= 4 && size <= len(v) && binary.NativeEndian.Uint16(v[2:]) == infoKind {
					n.bridge = string(bytes.TrimRight(v[4:size], "\x00")) == "bridge"
				}
			}
		}
		names[n.index] = n.name
		ifs = append(ifs, n)
	}
	for i := range ifs {
		ifs[i].master = names[masters[ifs[i].index]]
	}
	return ifs, nil
}
